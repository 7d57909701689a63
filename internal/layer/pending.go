package layer

import (
	"encoding/binary"

	"lade/internal/errdefs"
)

// Pending work is a list of names, parents before children, of directories that
// the tar implies and of hard links to files that it has not; and of the
// directories on the way there. Each name comes with how deep it lies, so that
// the list is no longer than the names in it.
const (
	pendingWay     = 'd' // a directory on the way
	pendingImplied = 'i' // a directory without a header
	pendingLink    = 'l' // a hard link, with its target
)

// pendingRecord is one name of the list.
type pendingRecord struct {
	depth  int // 1 for names in the root
	kind   byte
	name   string
	target string
}

// pending returns what can be said of this layer only on a stack. The root
// directory is not in it: Info.Root tells.
func (l *layout) pending() []byte { return l.appendPending(nil, 0, 1, l.hides(0)) }

// hides reports whether nothing of lower layers shows in a directory.
func (l *layout) hides(dir uint32) bool { return l.t.inodes.at(dir).flags&flagOpaque != 0 }

func (l *layout) appendPending(b []byte, dir uint32, depth int, hidden bool) []byte {
	for _, i := range l.names(dir) {
		d := l.t.names.dents.at(i)
		r := pendingRecord{depth: depth, name: string(l.t.names.name(d))}
		switch n := l.t.inodes.at(d.inode); {
		case n.kind() == typePending:
			r.kind, r.target = pendingLink, string(l.t.target(n))
			b = r.append(b)
		case n.isDir():
			hides := hidden || l.hides(d.inode)
			implied := n.flags&flagImplied != 0 && !hides
			if r.kind = pendingWay; implied {
				r.kind = pendingImplied
			}
			before := len(b)
			b = r.append(b)
			own := len(b)
			if b = l.appendPending(b, d.inode, depth+1, hides); len(b) == own && !implied {
				b = b[:before]
			}
		}
	}
	return b
}

func (r pendingRecord) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(r.depth))
	b = append(b, r.kind)
	b = binary.AppendUvarint(b, uint64(len(r.name)))
	b = append(b, r.name...)
	if r.kind == pendingLink {
		b = binary.AppendUvarint(b, uint64(len(r.target)))
		b = append(b, r.target...)
	}
	return b
}

// readPending calls f with each record.
func readPending(b []byte, f func(pendingRecord) error) error {
	var number func() int
	bad := false
	number = func() int {
		v, n := binary.Uvarint(b)
		if n <= 0 || v > maxText {
			bad = true
			return 0
		}
		b = b[n:]
		return int(v)
	}
	bytes := func() string {
		n := number()
		if n > len(b) {
			bad = true
			return ""
		}
		s := string(b[:n])
		b = b[n:]
		return s
	}
	last := 0
	for len(b) > 0 {
		var r pendingRecord
		r.depth = number()
		if len(b) > 0 {
			r.kind, b = b[0], b[1:]
		}
		r.name = bytes()
		if r.kind == pendingLink {
			r.target = bytes()
		}
		if bad || r.depth < 1 || r.depth > last+1 || r.kind != pendingWay && r.kind != pendingImplied && r.kind != pendingLink {
			return errdefs.New(errdefs.DataLoss, "malformed list of pending work")
		}
		if err := f(r); err != nil {
			return err
		}
		if last = r.depth; r.kind == pendingLink {
			last--
		}
	}
	return nil
}
