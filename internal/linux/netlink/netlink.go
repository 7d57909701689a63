// Package netlink speaks the kernel's netlink protocol: it frames messages and
// attributes, sends a batch of requests in one call, and reads the answers.
//
// What the messages mean is the business of packages rtnl (links, addresses,
// routes) and nft (packet filter rules). Nothing here keeps state besides the
// socket, and nothing waits: the kernel answers a request while it is sent.
package netlink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Message is one request: its header's type and flags, and what follows the
// header. Answers have the same form.
type Message struct {
	Type  uint16
	Flags uint16
	Data  []byte
	// What says in words what is asked for; errors carry it.
	What string
}

// Conn is a socket of one netlink family. Its methods may be called
// concurrently; one exchange runs at a time.
type Conn struct {
	mu  sync.Mutex
	fd  int    // -1 when closed; guarded by mu
	seq uint32 // of the last message sent; guarded by mu
	buf []byte // guarded by mu
}

// Dial opens a socket in the network namespace of the calling thread, in which
// it stays.
func Dial(family int) (*Conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, family)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	// Extended acknowledgements say in words what the kernel did not like; a
	// capped one does not send the request back. Kernels without them do
	// without.
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("bind netlink socket: %w", err)
	}
	return &Conn{fd: fd, buf: make([]byte, 64<<10)}, nil
}

// Close closes the socket.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fd < 0 {
		return nil
	}
	err := unix.Close(c.fd)
	c.fd = -1
	return err
}

// Do sends requests in one call, in their order, and returns the first error
// that the kernel answered with. Requests after the one that failed may have
// been carried out: they do not know of each other, unless they are in a
// transaction of nftables'.
func (c *Conn) Do(reqs ...Message) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b []byte
	first := c.seq + 1
	acks := 0
	for _, r := range reqs {
		c.seq++
		if r.Flags&unix.NLM_F_ACK != 0 {
			acks++
		}
		b = appendMessage(b, r, c.seq)
	}
	if err := c.send(b); err != nil {
		return fmt.Errorf("%s: %w", reqs[0].What, err)
	}
	var failed error
	for acks > 0 {
		more, err := c.read(func(seq uint32, m Message) (bool, error) {
			// An answer to an exchange that was given up, or an error for a
			// message that asked for no answer: only the latter counts.
			if seq < first || seq > c.seq || m.Type != unix.NLMSG_ERROR {
				return true, nil
			}
			r := reqs[seq-first]
			if r.Flags&unix.NLM_F_ACK != 0 {
				acks--
			}
			if err := errorOf(m); err != nil && failed == nil {
				failed = fmt.Errorf("%s: %w", r.What, err)
				// A transaction that fails as a whole is answered once.
				if r.Flags&unix.NLM_F_ACK == 0 {
					acks = 0
				}
			}
			return acks > 0, nil
		})
		if err != nil {
			return fmt.Errorf("%s: %w", reqs[0].What, err)
		}
		if !more {
			break
		}
	}
	return failed
}

// Ask sends one request and calls fn for each message that answers it. For a
// request with NLM_F_DUMP there are any number, otherwise one. The data is
// valid only during the call.
func (c *Conn) Ask(r Message, fn func(Message) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seq++
	seq := c.seq
	if err := c.send(appendMessage(nil, r, seq)); err != nil {
		return fmt.Errorf("%s: %w", r.What, err)
	}
	dump := r.Flags&unix.NLM_F_DUMP == unix.NLM_F_DUMP
	var failed error
	for {
		more, err := c.read(func(got uint32, m Message) (bool, error) {
			switch {
			case got != seq:
				return true, nil
			case m.Type == unix.NLMSG_DONE:
				return false, nil
			case m.Type == unix.NLMSG_ERROR:
				return false, errorOf(m)
			}
			if failed == nil {
				failed = fn(m)
			}
			return dump, nil
		})
		if err != nil {
			return fmt.Errorf("%s: %w", r.What, err)
		}
		if !more {
			return failed
		}
	}
}

func (c *Conn) send(b []byte) error {
	if c.fd < 0 {
		return os.ErrClosed
	}
	for grown := false; ; {
		err := unix.Sendto(c.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EMSGSIZE) && !grown:
			// A large transaction is one message to the socket.
			_ = unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 2*len(b))
			grown = true
		default:
			return err
		}
	}
}

// read receives one datagram and calls fn for its messages until fn says that
// it wants no more.
func (c *Conn) read(fn func(seq uint32, m Message) (bool, error)) (bool, error) {
	var n int
	for {
		var err error
		n, _, err = unix.Recvfrom(c.fd, c.buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return false, fmt.Errorf("receive: %w", err)
		}
		break
	}
	more := true
	for b := c.buf[:n]; len(b) >= unix.NLMSG_HDRLEN && more; {
		size := int(binary.NativeEndian.Uint32(b))
		if size < unix.NLMSG_HDRLEN || size > len(b) {
			return false, errors.New("receive: message is cut off")
		}
		m := Message{Type: binary.NativeEndian.Uint16(b[4:]), Flags: binary.NativeEndian.Uint16(b[6:]), Data: b[unix.NLMSG_HDRLEN:size]}
		var err error
		if more, err = fn(binary.NativeEndian.Uint32(b[8:]), m); err != nil {
			return false, err
		}
		b = b[min(align(size), len(b)):]
	}
	return more, nil
}

// Error is what the kernel answered to a request.
type Error struct {
	Errno syscall.Errno
	Text  string // the kernel's words, where it has some
}

func (e *Error) Error() string {
	if e.Text == "" {
		return e.Errno.Error()
	}
	return e.Errno.Error() + " (" + e.Text + ")"
}

// Unwrap lets errors.Is find the number.
func (e *Error) Unwrap() error { return e.Errno }

// errorOf returns the error in an acknowledgement, or nil.
func errorOf(m Message) error {
	if len(m.Data) < 4 {
		return errors.New("acknowledgement is cut off")
	}
	code := -int32(binary.NativeEndian.Uint32(m.Data))
	if code == 0 {
		return nil
	}
	e := &Error{Errno: syscall.Errno(code)}
	// The header of the request follows, all of the request where it was not
	// capped, then attributes.
	rest := m.Data[4:]
	if m.Flags&unix.NLM_F_ACK_TLVS == 0 || len(rest) < unix.NLMSG_HDRLEN {
		return e
	}
	skip := unix.NLMSG_HDRLEN
	if m.Flags&unix.NLM_F_CAPPED == 0 {
		skip = align(int(binary.NativeEndian.Uint32(rest)))
	}
	if skip <= len(rest) {
		for kind, value := range Attributes(rest[skip:]) {
			if kind == unix.NLMSGERR_ATTR_MSG && len(value) > 0 {
				e.Text = CString(value)
			}
		}
	}
	return e
}

func appendMessage(b []byte, m Message, seq uint32) []byte {
	size := unix.NLMSG_HDRLEN + len(m.Data)
	b = binary.NativeEndian.AppendUint32(b, uint32(size))
	b = binary.NativeEndian.AppendUint16(b, m.Type)
	b = binary.NativeEndian.AppendUint16(b, m.Flags|unix.NLM_F_REQUEST)
	b = binary.NativeEndian.AppendUint32(b, seq)
	b = binary.NativeEndian.AppendUint32(b, 0) // the kernel knows the port
	b = append(b, m.Data...)
	return append(b, make([]byte, align(size)-size)...)
}

func align(n int) int { return (n + 3) &^ 3 }
