// Package pty handles pseudo-terminals.
package pty

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// SetSize tells the terminal how large its window is; the kernel tells the
// processes in it.
func SetSize(fd int, width, height uint16) error {
	ws := &unix.Winsize{Col: width, Row: height}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, ws); err != nil {
		return fmt.Errorf("resize terminal: %w", err)
	}
	return nil
}

// Size returns the size of the terminal's window.
func Size(fd int) (width, height uint16, err error) {
	ws, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ)
	if err != nil {
		return 0, 0, fmt.Errorf("size of terminal: %w", err)
	}
	return ws.Col, ws.Row, nil
}

// IsMaster reports whether fd is the master side of a pseudo-terminal.
func IsMaster(fd int) bool {
	_, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	return err == nil
}

// Open makes a pseudo-terminal.
func Open() (master, slave *os.File, err error) {
	m, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("open terminal: %w", err)
	}
	n, err := unix.IoctlGetInt(int(m.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(m.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		_ = m.Close()
		return nil, nil, fmt.Errorf("open terminal: %w", err)
	}
	return m, slave, nil
}
