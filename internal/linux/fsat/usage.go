package fsat

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Inode is what a file takes on disk, and which one it is: a file with several
// names has the same Device and Number under all of them.
type Inode struct {
	Device, Number uint64
	Links          uint64
	Bytes          int64 // of allocated blocks
	Dir            bool
	Changed        time.Time // when anything of it changed last, be it a name in a directory
}

func inodeOf(st *unix.Stat_t) Inode {
	return Inode{
		Device: st.Dev, Number: st.Ino, Bytes: st.Blocks * 512,
		Links: uint64(st.Nlink), //nolint:unconvert // 32 bits on other machines
		Dir:   st.Mode&unix.S_IFMT == unix.S_IFDIR, Changed: time.Unix(st.Ctim.Sec, st.Ctim.Nsec),
	}
}

// Self returns the directory's own inode.
func (d *Dir) Self() (Inode, error) {
	var st unix.Stat_t
	if err := unix.Fstat(d.fd, &st); err != nil {
		return Inode{}, fmt.Errorf("stat %s: %w", d.path, err)
	}
	return inodeOf(&st), nil
}

// Inode returns the inode of a name in d.
func (d *Dir) Inode(name string) (Inode, error) {
	var st unix.Stat_t
	err := d.do("stat", name, func() error { return unix.Fstatat(d.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	if err != nil {
		return Inode{}, err
	}
	return inodeOf(&st), nil
}

// Each calls f with the names in d, in no particular order, until f returns an
// error. It holds no more than some hundred names at once.
func (d *Dir) Each(f func(name string) error) error {
	// A description of its own: the position of a directory is shared between
	// duplicates of a descriptor.
	fd, err := unix.Openat(d.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("read %s: %w", d.path, err)
	}
	list := os.NewFile(uintptr(fd), d.path)
	defer list.Close()
	for {
		names, err := list.Readdirnames(256)
		for _, name := range names {
			if err := f(name); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read %s: %w", d.path, err)
		}
	}
}
