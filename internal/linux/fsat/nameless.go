package fsat

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Nameless opens a new file in dir that has no name: it ends with its last
// descriptor, however its owner ends.
func Nameless(dir string) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make a file without a name in %s: %w", dir, err)
	}
	return os.NewFile(uintptr(fd), dir+" (nameless)"), nil
}
