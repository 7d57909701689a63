package fsat

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// At opens the directory that f is, which may be a descriptor that only names
// it (O_PATH). name is for messages.
func At(f *os.File, name string) (*Dir, error) {
	fd, err := unix.Openat(int(f.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	return &Dir{fd, name}, nil
}

// Names returns the names in d, sorted.
func (d *Dir) Names() ([]string, error) {
	fd, err := unix.Openat(d.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", d.path, err)
	}
	f := os.NewFile(uintptr(fd), d.path)
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", d.path, err)
	}
	slices.Sort(names)
	return names, nil
}

// Empty reports whether nothing is in d.
func (d *Dir) Empty() (bool, error) {
	fd, err := unix.Openat(d.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, fmt.Errorf("read %s: %w", d.path, err)
	}
	f := os.NewFile(uintptr(fd), d.path)
	defer f.Close()
	_, err = f.Readdirnames(1)
	if errors.Is(err, io.EOF) {
		return true, nil
	}
	return false, err
}

// Stat returns what is to know of a file in d. A symbolic link is not followed.
func (d *Dir) Stat(name string) (Stat, error) {
	var s Stat
	err := d.do("stat", name, func() error {
		// One descriptor for all that is asked: what another process puts in
		// its place meanwhile is not mixed in.
		fd, err := unix.Openat(d.fd, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		s, err = statFD(fd)
		return err
	})
	return s, err
}

// StatSelf returns what is to know of d itself.
func (d *Dir) StatSelf() (Stat, error) {
	s, err := statFD(d.fd)
	if err != nil {
		return s, fmt.Errorf("stat %s: %w", d.path, err)
	}
	return s, nil
}

// StatFile returns what is to know of an open file, which may be a descriptor
// that only names it.
func StatFile(f *os.File) (Stat, error) {
	s, err := statFD(int(f.Fd()))
	if err != nil {
		return s, fmt.Errorf("stat %s: %w", f.Name(), err)
	}
	return s, nil
}

func statFD(fd int) (Stat, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return Stat{}, err
	}
	s := statOf(&st)
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		var b [unix.PathMax]byte
		n, err := unix.Readlinkat(fd, "", b[:])
		if err != nil {
			return s, err
		}
		s.Target = string(b[:n])
		return s, nil // no attribute of a link is asked for anywhere
	}
	var err error
	if s.Xattrs, err = followXattrs("/proc/self/fd/" + strconv.Itoa(fd)); err != nil {
		return s, fmt.Errorf("read attributes: %w", err)
	}
	return s, nil
}

// followXattrs reads the attributes of the file that a descriptor's entry in
// /proc leads to. File systems that have none have none.
func followXattrs(path string) (map[string]string, error) {
	list := make([]byte, 1<<16)
	size, err := unix.Listxattr(path, list)
	if errors.Is(err, unix.ENOTSUP) || err == nil && size == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m := map[string]string{}
	value := make([]byte, 1<<16)
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list[:size]), "\x00"), "\x00") {
		n, err := unix.Getxattr(path, name, value)
		switch {
		case errors.Is(err, unix.ENODATA), errors.Is(err, unix.ENOTSUP):
			continue // it went meanwhile, or is no attribute that can be read
		case err != nil:
			return nil, err
		}
		m[name] = string(value[:n])
	}
	return m, nil
}

// OpenFile opens a regular file in d for reading. Anything else is an error: a
// pipe would block, a device might act.
func (d *Dir) OpenFile(name string) (*os.File, error) {
	var f *os.File
	err := d.do("open", name, func() error {
		fd, err := unix.Openat(d.fd, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		f, err = openRegular(fd, d.path+"/"+name)
		return err
	})
	return f, err
}

// ReadFile opens a regular file for reading that f only names.
func ReadFile(f *os.File) (*os.File, error) { return openRegular(int(f.Fd()), f.Name()) }

func openRegular(fd int, name string) (*os.File, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, errors.New("it is not a regular file")
	}
	// The descriptor is the file itself, whatever its name leads to by now.
	r, err := unix.Open("/proc/self/fd/"+strconv.Itoa(fd), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(r), name), nil
}

// SetSelf sets the attributes of d itself.
func (d *Dir) SetSelf(a Attr) error {
	err := func() error {
		if err := unix.Fchown(d.fd, int(a.UID), int(a.GID)); err != nil {
			return err
		}
		for key, value := range a.Xattrs {
			if err := unix.Fsetxattr(d.fd, key, []byte(value), 0); err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
		}
		if err := unix.Fchmod(d.fd, a.Mode&0o7777); err != nil {
			return err
		}
		t := unix.Timespec{}
		t.Sec, t.Nsec = a.Seconds, a.Nanos
		return unix.UtimesNanoAt(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(d.fd), []unix.Timespec{t, t}, 0)
	}()
	if err != nil {
		return fmt.Errorf("set attributes of %s: %w", d.path, err)
	}
	return nil
}

// Remove removes a file, or a directory that is empty.
func (d *Dir) Remove(name string) error {
	return d.do("remove", name, func() error {
		err := unix.Unlinkat(d.fd, name, 0)
		if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EPERM) {
			err = unix.Unlinkat(d.fd, name, unix.AT_REMOVEDIR)
		}
		return err
	})
}

// RemoveAll removes a file, or a directory with all that is in it. One that is
// not there is no error.
func (d *Dir) RemoveAll(name string) error {
	err := d.Remove(name)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST) {
		return err
	}
	sub, err := d.OpenDir(name)
	if err != nil {
		return err
	}
	defer sub.Close()
	names, err := sub.Names()
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := sub.RemoveAll(n); err != nil {
			return err
		}
	}
	return d.Remove(name)
}

// Sync waits until d itself is on disk: which names are in it.
func (d *Dir) Sync() error {
	if err := unix.Fsync(d.fd); err != nil {
		return fmt.Errorf("sync %s: %w", d.path, err)
	}
	return nil
}

// Syncfs waits until all of the file system that d is on is on disk.
func (d *Dir) Syncfs() error {
	if err := unix.Syncfs(d.fd); err != nil {
		return fmt.Errorf("sync the file system of %s: %w", d.path, err)
	}
	return nil
}

// Usage returns what the files in d and below it take on disk. One with several
// names counts once.
func (d *Dir) Usage() (int64, error) {
	seen := map[fileID]bool{}
	return d.usage(seen, 0)
}

func (d *Dir) usage(seen map[fileID]bool, depth int) (int64, error) {
	names, err := d.Names()
	if err != nil || depth > maxDepth {
		return 0, err
	}
	var total int64
	for _, name := range names {
		var st unix.Stat_t
		if err := d.do("stat", name, func() error { return unix.Fstatat(d.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) }); err != nil {
			continue // it went meanwhile
		}
		id := fileID{st.Dev, st.Ino}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			if !seen[id] {
				total += st.Blocks * 512
			}
			seen[id] = st.Nlink > 1
			continue
		}
		sub, err := d.OpenDir(name)
		if err != nil {
			continue
		}
		n, _ := sub.usage(seen, depth+1)
		_ = sub.Close()
		total += n
	}
	return total, nil
}

// SyncDir waits until the names in the directory at path are on disk.
func SyncDir(path string) error {
	d, err := Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Pseudo reports whether d is on a file system whose files are made up by the
// kernel: there is nothing in them to keep, and to read one may do something.
func (d *Dir) Pseudo() (bool, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(d.fd, &st); err != nil {
		return false, fmt.Errorf("look at the file system of %s: %w", d.path, err)
	}
	return pseudo(st.Type), nil
}

// PseudoFile is Pseudo for a file.
func PseudoFile(f *os.File) (bool, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return false, fmt.Errorf("look at the file system of %s: %w", f.Name(), err)
	}
	return pseudo(st.Type), nil
}

func pseudo(magic int64) bool {
	const mqueue = 0x19800202
	switch magic {
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.DEVPTS_SUPER_MAGIC,
		unix.BPF_FS_MAGIC, unix.TRACEFS_MAGIC, unix.DEBUGFS_MAGIC, unix.SECURITYFS_MAGIC, unix.NSFS_MAGIC, mqueue:
		return true
	}
	return false
}

// Touch sets the time of a file's last change, of a symbolic link its own.
func (d *Dir) Touch(name string, seconds, nanos int64) error {
	return d.do("touch", name, func() error {
		t := unix.Timespec{}
		t.Sec, t.Nsec = seconds, nanos
		return unix.UtimesNanoAt(d.fd, name, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW)
	})
}

// Own gives d itself an owner and a mode.
func (d *Dir) Own(uid, gid, mode uint32) error {
	if err := errors.Join(unix.Fchown(d.fd, int(uid), int(gid)), unix.Fchmod(d.fd, mode)); err != nil {
		return fmt.Errorf("set the owner of %s: %w", d.path, err)
	}
	return nil
}

// SameMount reports whether two files are on one mount.
func SameMount(a, b *os.File) (bool, error) {
	var x, y unix.Statx_t
	for f, st := range map[*os.File]*unix.Statx_t{a: &x, b: &y} {
		if err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, st); err != nil {
			return false, fmt.Errorf("look at %s: %w", f.Name(), err)
		}
	}
	return x.Mnt_id == y.Mnt_id, nil
}
