package mount

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// OpenFileSystem mounts a file system as a mount that hangs nowhere yet. words
// are what mount(8) takes after -o: those that belong to the mount become its
// attributes, those that are for other programs are left out, and the file
// system is told the rest.
func OpenFileSystem(fsName, source string, words []string) (*Detached, error) {
	c := newContext(fsName)
	defer c.close()
	if source != "" {
		c.setString("source", source)
	}
	attrs := attributes(words)
	for _, w := range words {
		key, value, hasValue := strings.Cut(w, "=")
		switch {
		case w == "ro":
			c.setFlag("ro") // of the file system, as well as of the mount
		case isAttribute(w) || forOthers(w):
		case hasValue:
			c.setString(key, value)
		default:
			c.setFlag(w)
		}
	}
	fd, err := c.mount(int(attrs))
	if err != nil {
		return nil, err
	}
	return &Detached{fd}, nil
}

// forOthers reports whether an option means something to mount(8) or to an init
// system only.
func forOthers(w string) bool {
	return slices.Contains([]string{"", "defaults", "rw", "auto", "noauto", "user", "nouser", "users", "nofail", "_netdev", "bind", "rbind"}, w) ||
		strings.HasPrefix(w, "x-") || strings.HasPrefix(w, "comment=")
}

func isAttribute(w string) bool { return attribute(w) != 0 || w == "relatime" || w == "atime" }

func attribute(w string) uint64 {
	switch w {
	case "ro":
		return unix.MOUNT_ATTR_RDONLY
	case "nosuid":
		return unix.MOUNT_ATTR_NOSUID
	case "nodev":
		return unix.MOUNT_ATTR_NODEV
	case "noexec":
		return unix.MOUNT_ATTR_NOEXEC
	case "noatime":
		return unix.MOUNT_ATTR_NOATIME
	case "strictatime":
		return unix.MOUNT_ATTR_STRICTATIME
	case "nodiratime":
		return unix.MOUNT_ATTR_NODIRATIME
	}
	return 0
}

func attributes(words []string) uint64 {
	var a uint64
	for _, w := range words {
		a |= attribute(w)
	}
	return a
}

// BindOptions say how a directory or file is shown elsewhere.
type BindOptions struct {
	Recursive bool     // with what is mounted below it
	Flags     []string // ro, nosuid, …, as OpenFileSystem takes them
	// UIDMap and GIDMap, where set, map ids as those of a Root do.
	UIDMap, GIDMap []IDMap
}

// OpenBind returns a further mount of the file or directory at path.
func OpenBind(path string, o BindOptions) (*Detached, error) {
	flags := unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC
	if o.Recursive {
		flags |= unix.AT_RECURSIVE
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, uint(flags))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	m := &Detached{fd}
	if err := m.set(path, o); err != nil {
		_ = m.Close()
		return nil, err
	}
	return m, nil
}

// set gives a bind mount its attributes. Mapped ids go for the whole tree,
// where all of it can.
func (d *Detached) set(path string, o BindOptions) error {
	attr := unix.MountAttr{Attr_set: attributes(o.Flags), Propagation: unix.MS_PRIVATE}
	if attr.Attr_set&unix.MOUNT_ATTR__ATIME != 0 {
		attr.Attr_clr = unix.MOUNT_ATTR__ATIME
	}
	at := uint(unix.AT_EMPTY_PATH)
	if o.Recursive {
		at |= unix.AT_RECURSIVE
	}
	if err := unix.MountSetattr(d.fd, "", at, &attr); err != nil {
		return fmt.Errorf("set the options of %s: %w", path, err)
	}
	if len(o.UIDMap) == 0 {
		return nil
	}
	ns, err := UserNamespace(o.UIDMap, o.GIDMap)
	if err != nil {
		return err
	}
	defer unix.Close(ns)
	attr = unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(ns)}
	if err = unix.MountSetattr(d.fd, "", at, &attr); err != nil && o.Recursive {
		err = unix.MountSetattr(d.fd, "", unix.AT_EMPTY_PATH, &attr)
	}
	if err != nil {
		return fmt.Errorf("map the ids of %s: %w", path, err)
	}
	return nil
}

// IsMountPoint reports whether something is mounted at path itself.
func IsMountPoint(path string) (bool, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, 0, &st); err != nil {
		return false, fmt.Errorf("look at %s: %w", path, err)
	}
	return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
}
