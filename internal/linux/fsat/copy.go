package fsat

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// maxDepth is how deep a tree may be that is copied: each level holds two
// descriptors.
const maxDepth = 1024

// Copy copies what is in the directory from into the directory to, with modes,
// owners, times, attributes and hard links. Nothing in to is overwritten, and
// devices stay behind: a copy has no use for them, and whoever holds the copy
// would hold the device. The directories themselves keep their attributes; see
// CopyAttr.
func Copy(from, to *Dir) error {
	c := &copier{top: to, first: map[fileID][]string{}}
	return c.directory(from, to, nil)
}

// CopyAttr gives the directory to the attributes of from.
func CopyAttr(from, to *Dir) error {
	s, err := from.StatSelf()
	if err != nil {
		return err
	}
	s.Xattrs = keptXattrs(s.Xattrs)
	if err := to.SetSelf(s.Attr); !errors.Is(err, unix.ENOTSUP) {
		return err
	}
	s.Xattrs = nil // this file system has none
	return to.SetSelf(s.Attr)
}

type fileID struct{ fs, inode uint64 }

type copier struct {
	top   *Dir
	first map[fileID][]string // where the first name of a file with several went
}

func (c *copier) directory(from, to *Dir, at []string) error {
	if len(at) > maxDepth {
		return fmt.Errorf("copy %s: directories are nested more than %d deep", from.path, maxDepth)
	}
	names, err := from.Names()
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := c.entry(from, to, name, slices.Concat(at, []string{name})); err != nil {
			return err
		}
	}
	return nil
}

// entry copies one name; at is the way to it from the top.
func (c *copier) entry(from, to *Dir, name string, at []string) error {
	s, err := from.Stat(name)
	if errors.Is(err, unix.ENOENT) {
		return nil // it went meanwhile
	}
	if err != nil {
		return err
	}
	kind := s.Mode & unix.S_IFMT
	if kind != unix.S_IFDIR && s.Links > 1 {
		id := fileID{s.FS, s.Inode}
		if have, ok := c.first[id]; ok {
			return c.link(have, to, name)
		}
		c.first[id] = at
	}
	switch kind {
	case unix.S_IFDIR:
		err = c.below(from, to, name, at)
	case unix.S_IFREG:
		err = copyFile(from, to, name)
	case unix.S_IFLNK:
		err = to.Symlink(s.Target, name)
	case unix.S_IFIFO, unix.S_IFSOCK:
		err = to.Mknod(name, kind|0o600, 0)
	default:
		return nil
	}
	if err != nil {
		return err
	}
	s.Xattrs = keptXattrs(s.Xattrs)
	err = to.SetAttr(name, s.Attr, kind == unix.S_IFLNK)
	if errors.Is(err, unix.ENOTSUP) && len(s.Xattrs) > 0 {
		s.Xattrs = nil // this file system has none
		err = to.SetAttr(name, s.Attr, kind == unix.S_IFLNK)
	}
	return err
}

// keptXattrs leaves out what describes a layer, or the policy of the machine
// that an image was made on.
func keptXattrs(m map[string]string) map[string]string {
	kept := map[string]string{}
	for k, v := range m {
		if !strings.HasPrefix(k, "trusted.overlay.") && k != "security.selinux" {
			kept[k] = v
		}
	}
	return kept
}

// link makes a further name of a file that has been copied.
func (c *copier) link(have []string, to *Dir, name string) error {
	dir := c.top
	for _, n := range have[:len(have)-1] {
		next, err := dir.OpenDir(n)
		if dir != c.top {
			_ = dir.Close()
		}
		if err != nil {
			return err
		}
		dir = next
	}
	err := to.Link(dir, have[len(have)-1], name)
	if dir != c.top {
		_ = dir.Close()
	}
	return err
}

func (c *copier) below(from, to *Dir, name string, at []string) error {
	if err := to.Mkdir(name); err != nil {
		return err
	}
	source, err := from.OpenDir(name)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := to.OpenDir(name)
	if err != nil {
		return err
	}
	defer target.Close()
	return c.directory(source, target, at)
}

func copyFile(from, to *Dir, name string) error {
	in, err := from.OpenFile(name)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := to.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err := errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("copy %s/%s: %w", from.path, name, err)
	}
	return nil
}
