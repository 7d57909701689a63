package layer

import (
	"bytes"
	"slices"
)

// layout is a finished tree in the order in which it is written down: the
// directories with sorted names, and every inode that a name leads to.
type layout struct {
	t     *tree
	sort  []uint32 // dentries by parent and name
	first []uint32 // for each inode, where its names begin in sort; one more at the end
	order []uint32 // inodes: the entries of a directory lie side by side
	links []uint32 // for each inode, its link count; 0 where no name leads
}

func newLayout(t *tree) *layout {
	n := t.inodes.n
	l := &layout{t: t, first: make([]uint32, n+1), links: make([]uint32, n)}
	l.sortNames()
	l.order = append(l.order, 0)
	l.links[0] = 2
	// Directories still to be looked into, the next one last.
	dirs := []uint32{0}
	for len(dirs) > 0 {
		dir := dirs[len(dirs)-1]
		dirs = dirs[:len(dirs)-1]
		from := len(dirs)
		for _, d := range l.names(dir) {
			child := t.names.dents.at(d).inode
			n := t.inodes.at(child)
			if n.kind() == typePending {
				continue
			}
			if l.links[child] == 0 {
				l.order = append(l.order, child)
			}
			l.links[child]++
			if n.isDir() {
				l.links[child]++
				l.links[dir]++
				dirs = append(dirs, child)
			}
		}
		slices.Reverse(dirs[from:])
	}
	return l
}

// sortNames fills sort and first: by counting for the parents, which are many
// and small, then within each.
func (l *layout) sortNames() {
	dents := &l.t.names.dents
	live := uint32(0)
	for i := range dents.n {
		if d := dents.at(i); d.inode != none {
			l.first[d.parent+1]++
			live++
		}
	}
	for i := 1; i < len(l.first); i++ {
		l.first[i] += l.first[i-1]
	}
	l.sort = make([]uint32, live)
	at := slices.Clone(l.first)
	for i := range dents.n {
		if d := dents.at(i); d.inode != none {
			l.sort[at[d.parent]] = i
			at[d.parent]++
		}
	}
	for i := range l.t.inodes.n {
		slices.SortFunc(l.names(i), func(a, b uint32) int {
			return bytes.Compare(l.t.names.name(dents.at(a)), l.t.names.name(dents.at(b)))
		})
	}
}

// names returns the dentries of a directory, sorted.
func (l *layout) names(dir uint32) []uint32 { return l.sort[l.first[dir]:l.first[dir+1]] }

// dirent is a name as it is listed in an image.
type dirent struct {
	name  []byte
	inode uint32
}

// listing returns all that a directory lists, with "." and "..", sorted.
// It reuses buf.
func (l *layout) listing(dir uint32, buf []dirent) []dirent {
	buf = buf[:0]
	dots := []dirent{{[]byte("."), dir}, {[]byte(".."), l.t.inodes.at(dir).text}}
	for _, i := range l.names(dir) {
		d := l.t.names.dents.at(i)
		if l.t.inodes.at(d.inode).kind() == typePending {
			continue
		}
		name := l.t.names.name(d)
		for len(dots) > 0 && bytes.Compare(dots[0].name, name) < 0 {
			buf = append(buf, dots[0])
			dots = dots[1:]
		}
		buf = append(buf, dirent{name, d.inode})
	}
	return append(buf, dots...)
}

// xattrs returns the encoded attributes of an inode.
func (l *layout) xattrs(n *inode) []byte {
	b := l.t.text.get(n.xattr, int(n.xattrs))
	if n.flags&flagOpaque != 0 {
		b = appendXattr(b, opaqueXattr, "y")
	}
	return b
}
