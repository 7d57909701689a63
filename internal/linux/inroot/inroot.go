// Package inroot opens files below a directory whose contents somebody else
// controls, such as a container's root file system.
//
// Paths are resolved by the kernel within the directory (openat2 with
// RESOLVE_IN_ROOT): a symbolic link, absolute or with "..", never leads out of
// it, also while it is being exchanged. Magic links (/proc/PID/fd) are not
// followed. What is opened is looked at before it is opened for real, so that
// a FIFO does not block, a device is not touched, and a file is no bigger
// than the caller can bear.
package inroot

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
)

// Path returns a descriptor of what path names below root, without opening it
// for reading or writing (O_PATH). A last component that is a symbolic link is
// followed.
func Path(root *os.File, path string) (*os.File, error) { return open(root, path, unix.O_PATH) }

func open(root *os.File, path string, flags uint64) (*os.File, error) {
	how := unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	// EAGAIN: a rename or mount elsewhere raced with a ".."; the kernel asks to try again.
	for range 128 {
		fd, err := unix.Openat2(int(root.Fd()), path, &how)
		switch {
		case err == nil:
			return os.NewFile(uintptr(fd), path), nil
		case !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR):
			return nil, fmt.Errorf("open %s in the container's root: %w", path, err)
		}
	}
	return nil, errdefs.New(errdefs.Unavailable, "open %s in the container's root: it changes all the time", path)
}

// ReadFile returns the contents of the regular file that path names below
// root. One that is not regular, or has more than limit bytes, is an error.
func ReadFile(root *os.File, path string, limit int64) ([]byte, error) {
	p, err := Path(root, path)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	st, err := p.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, errdefs.New(errdefs.Invalid, "%s in the container's root is not a regular file", path)
	}
	if st.Size() > limit {
		return nil, errdefs.New(errdefs.Invalid, "%s in the container's root has %d bytes, more than the %d allowed", path, st.Size(), limit)
	}
	// The descriptor is the file itself, whatever its name leads to by now.
	f, err := os.OpenFile("/proc/self/fd/"+strconv.Itoa(int(p.Fd())), os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s in the container's root: %w", path, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s in the container's root: %w", path, err)
	}
	if int64(len(data)) > limit {
		return nil, errdefs.New(errdefs.Invalid, "%s in the container's root has more than the %d bytes allowed", path, limit)
	}
	return data, nil
}
