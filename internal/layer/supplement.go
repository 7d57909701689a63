package layer

import (
	"archive/tar"
	"fmt"
	"io"
	"strings"
	"time"

	"lade/internal/errdefs"
)

// Supplement writes, as a tar, the layer that belongs on top of a stack of
// layers because of what its highest one leaves open. layers are from the
// highest down. It returns false, and the tar is empty, when nothing is needed.
//
// A directory that the highest layer only implies gets the attributes that it
// has in the layers below; overlayfs would show made-up ones. A hard link to a
// file below becomes a copy of it, which is what link(2) on the stack would
// have made. A link to what no layer has is an error of class Invalid.
func Supplement(layers []View, w io.Writer) (bool, error) {
	s := &supplement{layers: layers, tar: tar.NewWriter(w), made: map[string]string{}}
	pending, err := layers[0].Pending()
	if err != nil {
		return false, fmt.Errorf("supplement layer: %w", err)
	}
	if err := s.push("", true); err != nil {
		return false, fmt.Errorf("supplement layer: %w", err)
	}
	if err := readPending(pending, s.record); err != nil {
		return false, fmt.Errorf("supplement layer: %w", err)
	}
	return s.needed, s.tar.Close()
}

// supplement is the work of one call.
type supplement struct {
	layers []View
	tar    *tar.Writer
	way    []place           // from the root to the last directory
	made   map[string]string // targets of hard links that were copied, and where to
	needed bool
}

// place is a directory on the way.
type place struct {
	name    string
	own     Entry // in the highest layer
	implied bool
	lower   []seen // in the layers below, as far as they show
	written bool
}

// seen is an entry and the index of its layer.
type seen struct {
	layer int
	Entry
}

// push goes into a directory.
func (s *supplement) push(name string, implied bool) error {
	p := place{name: name, implied: implied}
	var err error
	if len(s.way) == 0 {
		for i, v := range s.layers {
			e, err := v.Root()
			if err != nil {
				return err
			}
			if i == 0 {
				p.own = e
			} else {
				p.lower = append(p.lower, seen{i, e})
			}
			if e.opaque {
				break
			}
		}
		s.way = append(s.way, p)
		return nil
	}
	parent := s.way[len(s.way)-1]
	var ok bool
	if p.own, ok, err = s.layers[0].Child(parent.own, name); err != nil {
		return err
	}
	if !ok || !p.own.IsDir() {
		return errdefs.New(errdefs.DataLoss, "pending work in %q, which is no directory", name)
	}
	if !p.own.opaque {
		if p.lower, err = s.lookup(parent.lower, name); err != nil {
			return err
		}
	}
	if len(p.lower) > 0 && !p.lower[0].IsDir() {
		p.lower = nil
	}
	s.way = append(s.way, p)
	return nil
}

// lookup returns what a name in a directory is in those layers that have it, as
// overlayfs puts them together: one file, or directories.
func (s *supplement) lookup(dirs []seen, name string) ([]seen, error) {
	var found []seen
	for _, d := range dirs {
		e, ok, err := s.layers[d.layer].Child(d.Entry, name)
		switch {
		case err != nil:
			return nil, err
		case !ok:
			continue
		case e.whiteout():
			return found, nil
		case !e.IsDir():
			if len(found) == 0 {
				found = append(found, seen{d.layer, e})
			}
			return found, nil
		}
		found = append(found, seen{d.layer, e})
		if e.opaque {
			return found, nil
		}
	}
	return found, nil
}

// record takes one name of the pending work.
func (s *supplement) record(r pendingRecord) error {
	s.way = s.way[:min(len(s.way), r.depth)]
	if r.kind == pendingLink {
		if err := s.link(r); err != nil {
			return fmt.Errorf("hard link %.300q to %.300q: %w", s.path(r.name), r.target, err)
		}
		return nil
	}
	if err := s.push(r.name, r.kind == pendingImplied); err != nil {
		return err
	}
	p := s.way[len(s.way)-1]
	if !p.implied || len(p.lower) == 0 || p.lower[0].plain() && p.lower[0].Seconds == p.own.Seconds && p.lower[0].Nanos == p.own.Nanos {
		return nil
	}
	return s.writeWay()
}

// plain reports whether a directory has the attributes of an implied one.
func (e Entry) plain() bool { return e.Mode == 0o755 && e.UID == 0 && e.GID == 0 && len(e.Xattrs) == 0 }

func (s *supplement) path(name string) string {
	var b strings.Builder
	for _, p := range s.way[1:] {
		b.WriteString(p.name)
		b.WriteByte('/')
	}
	return b.String() + name
}

// writeWay writes the directories down to the last one, each with the
// attributes that the stack is to show.
func (s *supplement) writeWay() error {
	for i := 1; i < len(s.way); i++ {
		p := &s.way[i]
		if p.written {
			continue
		}
		p.written = true
		e := p.own
		if p.implied && len(p.lower) > 0 {
			e = p.lower[0].Entry
		}
		var name strings.Builder
		for _, q := range s.way[1 : i+1] {
			name.WriteString(q.name + "/")
		}
		if err := s.write(name.String(), e, nil); err != nil {
			return err
		}
	}
	return nil
}

// link writes a copy of a hard link's target.
func (s *supplement) link(r pendingRecord) error {
	target, err := s.resolve(r.target)
	if err != nil {
		return err
	}
	if err := s.writeWay(); err != nil {
		return err
	}
	name := s.path(r.name)
	if first, ok := s.made[r.target]; ok {
		s.needed = true
		return s.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: first, Format: tar.FormatPAX})
	}
	s.made[r.target] = name
	if target.Type != typeRegular {
		return s.write(name, target.Entry, nil)
	}
	content, err := s.layers[target.layer].Content(target.Entry)
	if err != nil {
		return err
	}
	defer content.Close()
	return s.write(name, target.Entry, content)
}

// resolve finds a file in the layers below, following the links on the way.
func (s *supplement) resolve(path string) (seen, error) {
	way := [][]seen{s.way[0].lower}
	for hops := 0; ; {
		var name string
		name, path, _ = strings.Cut(path, "/")
		switch name {
		case "", ".":
			if path == "" {
				return seen{}, invalid("it is a directory")
			}
			continue
		case "..":
			way = way[:max(1, len(way)-1)]
			continue
		}
		found, err := s.lookup(way[len(way)-1], name)
		if err != nil {
			return seen{}, err
		}
		switch {
		case len(found) == 0:
			return seen{}, invalid("no layer has it")
		case path == "":
			if found[0].IsDir() {
				return seen{}, invalid("it is a directory")
			}
			return found[0], nil
		case found[0].IsDir():
			way = append(way, found)
		case found[0].Type == typeSymlink:
			if hops++; hops > maxHops {
				return seen{}, invalid("too many symbolic links")
			}
			if strings.HasPrefix(found[0].Target, "/") {
				way = way[:1]
			}
			path = found[0].Target + "/" + path
		default:
			return seen{}, invalid("%q is not a directory", name)
		}
	}
}

// write writes one entry with its content.
func (s *supplement) write(name string, e Entry, content io.Reader) error {
	s.needed = true
	h := &tar.Header{
		Name: name, Linkname: e.Target, Mode: int64(e.Mode), Uid: int(e.UID), Gid: int(e.GID),
		ModTime: time.Unix(e.Seconds, int64(e.Nanos)), Format: tar.FormatPAX,
	}
	switch e.Type {
	case typeRegular:
		h.Typeflag, h.Size = tar.TypeReg, e.Size
	case typeDir:
		h.Typeflag = tar.TypeDir
	case typeSymlink:
		h.Typeflag = tar.TypeSymlink
	case typeChar, typeBlock:
		if h.Typeflag = tar.TypeChar; e.Type == typeBlock {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor = int64(e.Device >> 8 & 0xfff)
		h.Devminor = int64(e.Device&0xff | e.Device>>12&^0xff)
	case typeFIFO:
		h.Typeflag = tar.TypeFifo
	default:
		return errdefs.New(errdefs.DataLoss, "%q has the type %o", name, e.Type)
	}
	for key, value := range e.Xattrs {
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		if suffix, ok := strings.CutPrefix(key, escapedXattr); ok {
			key = overlayXattr + suffix // to be escaped again
		}
		h.PAXRecords[paxXattr+key] = value
	}
	if err := s.tar.WriteHeader(h); err != nil {
		return fmt.Errorf("%.300q: %w", name, err)
	}
	if content == nil {
		return nil
	}
	_, err := io.Copy(s.tar, content)
	return err
}
