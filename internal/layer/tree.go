package layer

import (
	"strings"
)

// The file types of a mode, as stat(2) has them.
const (
	typeMask    = 0o170000
	typeFIFO    = 0o010000
	typeChar    = 0o020000
	typeDir     = 0o040000
	typeBlock   = 0o060000
	typeRegular = 0o100000
	typeSymlink = 0o120000
	// typePending is a hard link whose target is in a lower layer. It is in
	// no image.
	typePending = 0
)

// inode is a file of any type.
type inode struct {
	size  uint64
	mtime int64
	data  int64 // regular: where its content is, as whoever stored it knows
	nsec  uint32
	uid   uint32
	gid   uint32
	xattr uint32 // extended attributes, encoded
	text  uint32 // symlink and pending link: the target; directory: its parent
	aux   uint32 // symlink and pending link: the target's length; directory: its depth; device: its number
	// xattrs is the length of xattr.
	xattrs uint32
	mode   uint16
	flags  uint8
}

const (
	flagOpaque  = 1 << iota // directory: hides what lower layers have there
	flagImplied             // directory: no header of its own
	flagSparse              // regular: data is an index of sparse files
)

func (n *inode) kind() uint16 { return n.mode & typeMask }

func (n *inode) isDir() bool { return n.kind() == typeDir }

// tree is the content of a layer, but for the bytes of its files. Inode 0 is
// the root directory. Inodes that no name leads to any more stay unused.
type tree struct {
	limits   Limits
	inodes   pages[inode]
	text     text
	names    *index
	whiteout uint32 // the inode of all whiteouts, or none
	entries  int
	used     int64 // of limits.Text
}

func newTree(l Limits) *tree {
	t := &tree{limits: l, whiteout: none}
	t.names = newIndex(&t.text)
	t.inodes.add(inode{mode: typeDir | 0o755, flags: flagImplied})
	return t
}

// count takes one more entry and n more bytes of text.
func (t *tree) count(n int) error {
	if t.entries++; t.entries > t.limits.Entries {
		return exceeded("the layer has more than %d entries", t.limits.Entries)
	}
	return t.take(n)
}

// take takes n bytes of text.
func (t *tree) take(n int) error {
	if t.used += int64(n); t.used > t.limits.Text {
		return exceeded("the layer's names and attributes take more than %d bytes", t.limits.Text)
	}
	return nil
}

// lookup returns the inode of a name in a directory, or none.
func (t *tree) lookup(dir uint32, name string) uint32 {
	if d := t.names.find(dir, name); d != none {
		return t.names.dents.at(d).inode
	}
	return none
}

// set makes name in dir mean n, whatever it was.
func (t *tree) set(dir uint32, name string, n uint32) {
	if d := t.names.find(dir, name); d != none {
		t.names.dents.at(d).inode = n
		return
	}
	t.names.insert(dir, name, n)
}

// root returns the attributes of the root directory, if the tar has any.
func (t *tree) root() *Attr {
	n := t.inodes.at(0)
	if n.flags&flagImplied != 0 {
		return nil
	}
	return &Attr{Mode: uint32(n.mode & 0o7777), UID: n.uid, GID: n.gid, Seconds: n.mtime, Nanos: n.nsec}
}

func (t *tree) target(n *inode) []byte { return t.text.get(n.text, int(n.aux)) }

// maxHops is how many symbolic links one path may go through, as in the kernel.
const maxHops = 40

// walk returns the directory at path. Symbolic links are followed, within the
// layer: as in a chroot, "/" and the ".." of its root are the root. What is
// missing is made as a directory that the layer implies, with make's time, or
// is none without make.
func (t *tree) walk(path string, make *inode) (uint32, error) {
	at, hops := uint32(0), 0
	for path != "" {
		var name string
		name, path, _ = strings.Cut(path, "/")
		switch name {
		case "", ".":
			continue
		case "..":
			at = t.inodes.at(at).text
			continue
		}
		next := t.lookup(at, name)
		if next == none || next == t.whiteout {
			if make == nil {
				return none, nil
			}
			var err error
			if next, err = t.imply(at, name, make); err != nil {
				return none, err
			}
		}
		switch n := t.inodes.at(next); n.kind() {
		case typeDir:
			at = next
		case typeSymlink:
			if hops++; hops > maxHops {
				return none, invalid("too many symbolic links")
			}
			target := string(t.target(n))
			if strings.HasPrefix(target, "/") {
				at = 0
			}
			path = target + "/" + path
		default:
			return none, invalid("%q is not a directory", name)
		}
	}
	return at, nil
}

// imply makes a directory that has no header.
func (t *tree) imply(dir uint32, name string, like *inode) (uint32, error) {
	if len(name) > nameMax {
		// Only the target of a symbolic link brings such a name here.
		return none, invalid("name of %d bytes: %.20q...", len(name), name)
	}
	if err := t.count(len(name)); err != nil {
		return none, err
	}
	return t.addDir(dir, name, inode{mode: typeDir | 0o755, mtime: like.mtime, nsec: like.nsec, flags: flagImplied})
}

// addDir makes a directory, or gives the one that is there new attributes.
func (t *tree) addDir(dir uint32, name string, n inode) (uint32, error) {
	old := t.lookup(dir, name)
	if old != none && t.inodes.at(old).isDir() {
		t.redo(old, n)
		return old, nil
	}
	n.text, n.aux = dir, t.inodes.at(dir).aux+1
	if int(n.aux) > t.limits.Depth {
		return none, exceeded("directories more than %d deep", t.limits.Depth)
	}
	if old != none && old == t.whiteout {
		n.flags |= flagOpaque
	}
	i := t.inodes.add(n)
	t.set(dir, name, i)
	return i, nil
}

// redo gives a directory the attributes of a later header.
func (t *tree) redo(dir uint32, n inode) {
	old := t.inodes.at(dir)
	n.text, n.aux = old.text, old.aux
	n.flags |= old.flags & flagOpaque
	*old = n
}

// add makes a file that is not a directory.
func (t *tree) add(dir uint32, name string, n inode) {
	t.set(dir, name, t.inodes.add(n))
}

// hide makes the name in dir, as lower layers have it, disappear.
func (t *tree) hide(dir uint32, name string) {
	switch old := t.lookup(dir, name); {
	case old == none:
		if t.whiteout == none {
			t.whiteout = t.inodes.add(inode{mode: typeChar})
		}
		t.set(dir, name, t.whiteout)
	case t.inodes.at(old).isDir():
		// What this layer puts there stays, whichever comes first.
		t.inodes.at(old).flags |= flagOpaque
	}
}

// link makes name in dir another name of the file at path. A file that the
// layer does not have is a lower layer's, and the link pending.
func (t *tree) link(dir uint32, name, path string) error {
	parent, base := "", path
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		parent, base = path[:i], path[i+1:]
	}
	at, err := t.walk(parent, nil)
	if err != nil {
		return err
	}
	target := none
	if base == "" {
		target = 0
	} else if at != none {
		target = t.lookup(at, base)
	}
	switch {
	case target == none:
		if err := t.take(len(path)); err != nil {
			return err
		}
		t.add(dir, name, inode{mode: typePending, text: t.text.add(path), aux: uint32(len(path))})
	case target == t.whiteout:
		return invalid("hard link to %q, which the layer removes", path)
	case t.inodes.at(target).isDir():
		return invalid("hard link to the directory %q", path)
	default:
		t.set(dir, name, target)
	}
	return nil
}

// attributes gives n a set of extended attributes, in the form that an image
// has them.
func (t *tree) attributes(n *inode, encoded []byte) error {
	if len(encoded) == 0 {
		return nil
	}
	if err := t.take(len(encoded)); err != nil {
		return err
	}
	n.xattr, n.xattrs = t.text.add(string(encoded)), uint32(len(encoded))
	return nil
}
