package exec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// message is one packet from a child: a milestone, a report ('e'), a number
// that a call returned ('p': a process or a descriptor), or 0 when there will be no more.
type message struct {
	kind  byte
	errno syscall.Errno
	op    uint64 // of a report: the address of the op
	call  uint64 // its number; of 'p': the number
}

func receive(fd int) (message, error) {
	var b [64]byte
	for {
		n, err := unix.Read(fd, b[:])
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ECONNRESET):
			// The latter comes once, when the child has ended and not read all that
			// it was sent, and before what it has said itself.
			continue
		case err != nil:
			return message{}, err
		}
		return parse(b[:n])
	}
}

// parse reads a packet.
func parse(b []byte) (message, error) {
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }
	switch n := len(b); {
	case n == 1:
		return message{kind: b[0]}, nil
	case n == 8:
		return message{kind: 'p', call: word(0)}, nil
	case n == 32 && word(0) == magic:
		return message{kind: 'e', errno: syscall.Errno(word(1)), op: word(2), call: word(3)}, nil
	case n == 0:
		return message{}, nil
	}
	return message{}, errors.New("a packet that is no report")
}

func milestone(m byte) string {
	switch m {
	case Ready:
		return "ready"
	case Created:
		return "created"
	}
	return "executed"
}

// Listen makes a socket at path on which a created container awaits its start.
func Listen(path string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("make the start socket: %w", err)
	}
	addr, done, err := address(path)
	if err == nil {
		err = unix.Bind(fd, addr)
		done()
	}
	if err == nil {
		err = unix.Listen(fd, 1)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("make the start socket %s: %w", path, err)
	}
	return fd, nil
}

// Connect connects to the socket at path; kind is SOCK_STREAM or
// SOCK_SEQPACKET.
func Connect(path string, kind int) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("connect to %s: %w", path, err)
	}
	addr, done, err := address(path)
	if err == nil {
		err = unix.Connect(fd, addr)
		done()
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("connect to %s: %w", path, err)
	}
	return fd, nil
}

// address returns the address of a socket. One that is too long for the
// kernel goes by a descriptor of its directory, until done is called.
func address(path string) (addr *unix.SockaddrUnix, done func(), err error) {
	if len(path) < 108 {
		return &unix.SockaddrUnix{Name: path}, func() {}, nil
	}
	dir, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	name := "/proc/self/fd/" + strconv.Itoa(dir) + "/" + filepath.Base(path)
	return &unix.SockaddrUnix{Name: name}, func() { _ = unix.Close(dir) }, nil
}

// Begin starts a created container over a connection to its start socket, and
// returns when it executes its program. name is that program's, for errors.
func Begin(conn int, name string) error {
	if err := unix.Sendto(conn, []byte{Release}, unix.MSG_NOSIGNAL, nil); err != nil {
		return fmt.Errorf("tell the container to start: %w", err)
	}
	begun := false
	for {
		m, err := receive(conn)
		switch {
		case err != nil:
			return fmt.Errorf("hear from the container: %w", err)
		case m.kind == Executing:
			begun = true
		case m.kind == 'e' && m.call == unix.SYS_EXECVE:
			return fmt.Errorf("exec %s: %w", name, m.errno)
		case m.kind == 'e':
			return fmt.Errorf("system call %d before the container's program: %w", m.call, m.errno)
		case m.kind == 0 && begun:
			return nil
		case m.kind == 0:
			return errors.New("the container ended before it executed its program")
		}
	}
}
