// Package inherit rules which descriptors go from a process to the programs
// that it runs.
package inherit

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Nothing marks every open descriptor from first on close-on-exec: those, too,
// that the process was started with and does not know of.
func Nothing(first int) error {
	err := unix.CloseRange(uint(first), ^uint(0)>>1, unix.CLOSE_RANGE_CLOEXEC)
	if err == nil {
		return nil
	}
	if !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("seal descriptors: %w", err)
	}
	// Before Linux 5.11.
	return each(first, func(fd, _ int) error {
		unix.CloseOnExec(fd)
		return nil
	})
}

// Discard closes the descriptors from first on that the process was started
// with, and which somebody may wait to see closed. Call it before any is made
// that is not close-on-exec: by that it knows them.
func Discard(first int) error {
	return each(first, func(fd, flags int) error {
		if flags&unix.FD_CLOEXEC != 0 {
			return nil
		}
		return unix.Close(fd)
	})
}

// each calls fn with every open descriptor from first on, and its flags.
func each(first int, fn func(fd, flags int) error) error {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return fmt.Errorf("list descriptors: %w", err)
	}
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || fd < first {
			continue
		}
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if errors.Is(err, unix.EBADF) {
			continue // the directory itself, closed by now
		}
		if err == nil {
			err = fn(fd, flags)
		}
		if err != nil {
			return fmt.Errorf("seal descriptor %d: %w", fd, err)
		}
	}
	return nil
}
