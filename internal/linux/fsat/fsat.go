// Package fsat works on files by an open directory and one name in it.
//
// A name is never a path, and no operation follows a symbolic link: so whatever
// the names are and whatever lies in the tree, nothing outside of it is reached.
// What is not guarded: a process that moves the open directory itself.
package fsat

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Dir is an open directory.
type Dir struct {
	fd   int
	path string // for messages
}

// Open opens the directory at path, which the caller trusts.
func Open(path string) (*Dir, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return &Dir{fd, path}, nil
}

// Close closes the directory.
func (d *Dir) Close() error { return unix.Close(d.fd) }

func (d *Dir) check(action, name string) error {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("%s in %s: %q is not a name", action, d.path, name)
	}
	return nil
}

func (d *Dir) do(action, name string, f func() error) error {
	if err := d.check(action, name); err != nil {
		return err
	}
	for {
		err := f()
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("%s %s/%s: %w", action, d.path, name, err)
		}
	}
}

// OpenDir opens a directory in d.
func (d *Dir) OpenDir(name string) (*Dir, error) {
	fd := -1
	err := d.do("open", name, func() (err error) {
		fd, err = unix.Openat(d.fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &Dir{fd, d.path + "/" + name}, nil
}

// Mkdir makes a directory with mode 0700.
func (d *Dir) Mkdir(name string) error {
	return d.do("mkdir", name, func() error { return unix.Mkdirat(d.fd, name, 0o700) })
}

// Create makes a file with mode 0600, which must not exist, and opens it.
func (d *Dir) Create(name string) (*os.File, error) {
	fd := -1
	err := d.do("create", name, func() (err error) {
		fd, err = unix.Openat(d.fd, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		return err
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), d.path+"/"+name), nil
}

// Mknod makes a device, a fifo or a socket: mode is type and permissions, as
// stat(2) has them, and device a number in the kernel's encoding of 32 bits.
func (d *Dir) Mknod(name string, mode, device uint32) error {
	return d.do("mknod", name, func() error { return unix.Mknodat(d.fd, name, mode, int(device)) })
}

// Device returns a device's number as Mknod takes it: the kernel's
// new_encode_dev.
func Device(major, minor int64) uint32 {
	return uint32(minor&0xff | major<<8 | (minor&^0xff)<<12)
}

// HasDevices reports whether device nodes in d can be opened: not on a file
// system that is mounted without (nodev).
func (d *Dir) HasDevices() bool {
	var st unix.Statfs_t
	return unix.Fstatfs(d.fd, &st) == nil && st.Flags&unix.ST_NODEV == 0
}

// Symlink makes a symbolic link to target.
func (d *Dir) Symlink(target, name string) error {
	return d.do("symlink", name, func() error { return unix.Symlinkat(target, d.fd, name) })
}

// Link gives the file old in from, which may be a symbolic link, a further name
// in d.
func (d *Dir) Link(from *Dir, old, name string) error {
	if err := from.check("link", old); err != nil {
		return err
	}
	return d.do("link", name, func() error { return unix.Linkat(from.fd, old, d.fd, name, 0) })
}

// Move renames the file old in from to a name in d that is free.
func (d *Dir) Move(from *Dir, old, name string) error {
	if err := from.check("rename", old); err != nil {
		return err
	}
	return d.do("rename", name, func() error {
		return unix.Renameat2(from.fd, old, d.fd, name, unix.RENAME_NOREPLACE)
	})
}

// Attr are a file's attributes.
type Attr struct {
	Mode    uint32 // the low twelve bits
	UID     uint32
	GID     uint32
	Seconds int64 // of modification and access
	Nanos   int64
	Xattrs  map[string]string
}

// SetAttr sets all attributes, of a symbolic link but its mode.
func (d *Dir) SetAttr(name string, a Attr, symlink bool) error {
	return d.do("set attributes of", name, func() error {
		// The owner first: to change it takes away setuid bits and capabilities.
		if err := unix.Fchownat(d.fd, name, int(a.UID), int(a.GID), unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		for key, value := range a.Xattrs {
			// The directory's descriptor leads to it, name is the last part:
			// nothing in between can be a symbolic link.
			if err := unix.Lsetxattr("/proc/self/fd/"+strconv.Itoa(d.fd)+"/"+name, key, []byte(value), 0); err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
		}
		if !symlink {
			if err := chmod(d.fd, name, a.Mode&0o7777); err != nil {
				return err
			}
		}
		t := unix.Timespec{}
		t.Sec, t.Nsec = a.Seconds, a.Nanos
		return unix.UtimesNanoAt(d.fd, name, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW)
	})
}

// chmod does not follow a symbolic link even where the kernel has no fchmodat2
// (Linux 6.6) to tell it so: a descriptor is of the file itself.
func chmod(dir int, name string, mode uint32) error {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Chmod("/proc/self/fd/"+strconv.Itoa(fd), mode)
}

// DiskUsage returns what a file takes on disk.
func (d *Dir) DiskUsage(name string) (int64, error) {
	var st unix.Stat_t
	err := d.do("stat", name, func() error { return unix.Fstatat(d.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	return st.Blocks * 512, err
}

// Syncfs waits until all of the file system that path is on is on disk.
func Syncfs(path string) error {
	d, err := Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Syncfs(d.fd); err != nil {
		return fmt.Errorf("sync the file system of %s: %w", path, err)
	}
	return nil
}

// Stat is what is to know of a file.
type Stat struct {
	Attr   // with the type in Mode
	Size   int64
	Links  uint32
	Device uint32 // of a device, in the kernel's encoding of 32 bits
	Target string // of a symbolic link
	// Inode and FS tell files apart: names with the same are one file.
	Inode, FS uint64
}

// StatPath returns what is to know of the file at a path that the caller
// trusts. The last part may be a symbolic link: it is not followed.
func StatPath(path string) (Stat, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return Stat{}, fmt.Errorf("stat %s: %w", path, err)
	}
	s := statOf(&st)
	var err error
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		if s.Target, err = os.Readlink(path); err != nil {
			return Stat{}, err
		}
	}
	if s.Xattrs, err = xattrs(path); err != nil {
		return Stat{}, fmt.Errorf("read attributes of %s: %w", path, err)
	}
	return s, nil
}

func statOf(st *unix.Stat_t) Stat {
	return Stat{
		Attr: Attr{Mode: st.Mode, UID: st.Uid, GID: st.Gid, Seconds: st.Mtim.Sec, Nanos: st.Mtim.Nsec},
		Size: st.Size, Links: uint32(st.Nlink), Inode: st.Ino, FS: st.Dev,
		Device: unix.Minor(st.Rdev)&0xff | unix.Major(st.Rdev)<<8 | unix.Minor(st.Rdev)&^0xff<<12,
	}
}

func xattrs(path string) (map[string]string, error) {
	size, err := unix.Llistxattr(path, nil)
	if err != nil || size == 0 {
		return nil, err
	}
	list := make([]byte, size)
	if size, err = unix.Llistxattr(path, list); err != nil {
		return nil, err
	}
	m := map[string]string{}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list[:size]), "\x00"), "\x00") {
		value := make([]byte, 1<<16)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return nil, err
		}
		m[name] = string(value[:n])
	}
	return m, nil
}
