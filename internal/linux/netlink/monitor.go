package netlink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Monitor receives what a netlink family tells of changes that anybody makes.
type Monitor struct {
	f   *os.File
	buf []byte
}

// ErrMissed says that more happened than could be told.
var ErrMissed = errors.New("events were missed")

// Watch opens a monitor of groups in the network namespace of the calling thread.
func Watch(family int, groups ...int) (*Monitor, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, family)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	f := os.NewFile(uintptr(fd), "netlink")
	// What is missed is asked for again, so a small buffer would do no harm but
	// work.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 1<<20)
	err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	for _, g := range groups {
		if err == nil {
			err = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, g)
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("watch netlink: %w", err), f.Close())
	}
	return &Monitor{f, make([]byte, 64<<10)}, nil
}

// Close ends the monitor, and a Next that waits.
func (m *Monitor) Close() error { return m.f.Close() }

// Next waits for changes and calls fn for each. sender is the socket that asked
// for it (Conn.Port), or 0 where the kernel acted by itself.
func (m *Monitor) Next(fn func(sender uint32, e Message)) error {
	n, err := m.f.Read(m.buf)
	if errors.Is(err, unix.ENOBUFS) {
		return ErrMissed
	}
	if err != nil {
		return err
	}
	for b := m.buf[:n]; len(b) >= unix.NLMSG_HDRLEN; {
		size := int(binary.NativeEndian.Uint32(b))
		if size < unix.NLMSG_HDRLEN || size > len(b) {
			return nil
		}
		fn(binary.NativeEndian.Uint32(b[12:]), Message{Type: binary.NativeEndian.Uint16(b[4:]), Flags: binary.NativeEndian.Uint16(b[6:]), Data: b[unix.NLMSG_HDRLEN:size]})
		b = b[min(align(size), len(b)):]
	}
	return nil
}

// Port returns the socket's number in its family, by which monitors name it.
func (c *Conn) Port() uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	sa, err := unix.Getsockname(c.fd)
	if nl, ok := sa.(*unix.SockaddrNetlink); ok && err == nil {
		return nl.Pid
	}
	return 0
}
