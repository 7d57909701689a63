package mount

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
)

// OpenInside returns a further mount of what path names below root. Somebody
// else writes there: the path is resolved by the kernel, and one that leads out
// of root, be it by a symbolic link that is put there this very moment, is an
// error. Root may itself be a mount that hangs nowhere (Linux 6.15).
func OpenInside(root *os.File, path string, o BindOptions) (*Detached, error) {
	fd, err := beneath(root, path)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	flags := unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_EMPTY_PATH
	if o.Recursive {
		flags |= unix.AT_RECURSIVE
	}
	tree, err := unix.OpenTree(fd, "", uint(flags))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	m := &Detached{tree}
	if err := m.set(path, o); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

func beneath(root *os.File, path string) (int, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS}
	// EAGAIN: a rename elsewhere raced with a ".."; the kernel asks to try again.
	for range 128 {
		fd, err := unix.Openat2(int(root.Fd()), path, &how)
		switch {
		case err == nil:
			return fd, nil
		case errors.Is(err, unix.EXDEV):
			return -1, errdefs.New(errdefs.Invalid, "path %s leads out of what it is in", path)
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
			return -1, errdefs.New(errdefs.Invalid, "path %s: %w", path, err)
		case !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR):
			return -1, fmt.Errorf("open %s: %w", path, err)
		}
	}
	return -1, errdefs.New(errdefs.Unavailable, "open %s: it changes all the time", path)
}

// OpenPeer returns a further mount of what is at path, with all its ties: what
// is mounted in one appears in the other, where path is on a shared mount. One
// that is not is an error.
func OpenPeer(path string, recursive bool) (*Detached, error) {
	flags := unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, uint(flags))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	m := &Detached{fd}
	at, shared, err := sharing(path)
	if err == nil && !shared {
		err = errdefs.Hint(errdefs.New(errdefs.Invalid, "path %s is mounted on %s but it is not a shared mount", path, at), "mount --make-shared %s", at)
	}
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// sharing returns where the mount is on which path lies, and whether what is
// mounted there appears in others.
func sharing(path string) (at string, shared bool, err error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_NO_AUTOMOUNT, unix.STATX_MNT_ID, &st); err != nil {
		return "", false, fmt.Errorf("look at %s: %w", path, err)
	}
	info, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return "", false, err
	}
	for line := range bytes.Lines(info) {
		at, shared, ok := mountLine(line, st.Mnt_id)
		if ok {
			return at, shared, nil
		}
	}
	return "", false, fmt.Errorf("look at %s: its mount is not in this namespace", path)
}

// mountLine reads a line of mountinfo: "id parent device root at options
// [shared:N ...] - ...". ok is whether it is of the mount that is meant.
func mountLine(line []byte, id uint64) (at string, shared, ok bool) {
	f := bytes.Fields(line)
	if len(f) < 7 || string(f[0]) != strconv.FormatUint(id, 10) {
		return "", false, false
	}
	for _, tag := range f[6:] {
		if string(tag) == "-" {
			break
		}
		shared = shared || bytes.HasPrefix(tag, []byte("shared:"))
	}
	return string(f[4]), shared, true
}

// UnmountOnly is Unmount, but that what is mounted on the peers of the mounts
// at target stays: it takes their ties first.
func UnmountOnly(target string) error {
	if err := unix.Mount("", target, "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("cut the mount at %s off: %w", target, err)
	}
	return Unmount(target)
}
