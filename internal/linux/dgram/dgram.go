// Package dgram sends messages without ever waiting: to Unix sockets and over
// UDP, or as a stream over TCP. It does without package net, which is too much
// for a program that stands beside each container.
package dgram

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Target is where messages go.
type Target struct {
	Network string // unix (a stream), unixgram, udp or tcp
	Address string // a path, or an IP address and a port
}

// maxPending bounds what waits for a stream to take more.
const maxPending = 1 << 20

// Socket sends to the first of its targets that there is. It serves one goroutine.
type Socket struct {
	targets []target
	retry   time.Duration
	fd      int
	stream  bool
	next    time.Time // when to try to connect again
	pending []byte    // of a stream, not sent yet
	whole   int       // messages in pending
	lost    uint64
}

type target struct {
	family, kind int
	addr         unix.Sockaddr
}

// New returns a socket. It connects with the first message; after a failure not
// before retry is over. An address that is none is an error.
func New(targets []Target, retry time.Duration) (*Socket, error) {
	s := &Socket{fd: -1, retry: retry}
	for _, t := range targets {
		r, err := resolve(t)
		if err != nil {
			return nil, err
		}
		s.targets = append(s.targets, r)
	}
	return s, nil
}

func resolve(t Target) (target, error) {
	kind := unix.SOCK_DGRAM
	switch t.Network {
	case "unix", "tcp":
		kind = unix.SOCK_STREAM
	case "unixgram", "udp":
	default:
		return target{}, fmt.Errorf("send to %s: no such network %q", t.Address, t.Network)
	}
	if strings.HasPrefix(t.Network, "unix") {
		if len(t.Address) > 107 {
			return target{}, fmt.Errorf("send to %s: the path of a socket has at most 107 bytes", t.Address)
		}
		return target{unix.AF_UNIX, kind, &unix.SockaddrUnix{Name: t.Address}}, nil
	}
	a, err := netip.ParseAddrPort(t.Address)
	if err != nil {
		return target{}, fmt.Errorf("send to %s: want an IP address and a port", t.Address)
	}
	if ip := a.Addr().Unmap(); ip.Is4() {
		return target{unix.AF_INET, kind, &unix.SockaddrInet4{Addr: ip.As4(), Port: int(a.Port())}}, nil
	}
	return target{unix.AF_INET6, kind, &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}}, nil
}

// Send sends a message, or reports that it could not.
func (s *Socket) Send(p []byte) bool {
	if s.fd < 0 && !s.connect() {
		return false
	}
	if !s.stream {
		err := s.write(p)
		if err != nil && !busy(err) && !errors.Is(err, unix.EMSGSIZE) {
			s.reset() // the daemon began again, perhaps: once more
			return s.connect() && !s.stream && s.write(p) == nil
		}
		return err == nil
	}
	if len(s.pending)+len(p) > maxPending {
		return false
	}
	s.pending = append(s.pending, p...)
	s.whole++
	s.flush()
	return true
}

func (s *Socket) write(p []byte) error {
	for {
		err := unix.Sendto(s.fd, p, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// flush sends what a stream takes of what is pending.
func (s *Socket) flush() {
	for len(s.pending) > 0 {
		n, err := unix.SendmsgN(s.fd, s.pending, nil, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EINTR):
		case busy(err):
			return
		case err != nil:
			s.lost += uint64(s.whole)
			s.reset()
			s.next = time.Now().Add(s.retry)
			return
		default:
			s.pending = append(s.pending[:0], s.pending[n:]...)
		}
	}
	s.whole = 0
}

// busy reports whether an error only says "not now"; a stream that is not
// connected yet says ENOTCONN.
func busy(err error) bool {
	return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ENOTCONN) || errors.Is(err, unix.EALREADY)
}

func (s *Socket) reset() {
	if s.fd >= 0 {
		_ = unix.Close(s.fd)
	}
	s.fd, s.pending, s.whole = -1, nil, 0
}

// connect tries the targets in turn. A connection over TCP is still being made
// when it returns.
func (s *Socket) connect() bool {
	now := time.Now()
	if now.Before(s.next) {
		return false
	}
	for _, t := range s.targets {
		fd, err := unix.Socket(t.family, t.kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			continue
		}
		if err := unix.Connect(fd, t.addr); err == nil || errors.Is(err, unix.EINPROGRESS) {
			s.fd, s.stream = fd, t.kind == unix.SOCK_STREAM
			return true
		}
		_ = unix.Close(fd)
	}
	s.next = now.Add(s.retry)
	return false
}

// Lost returns how many messages that Send took were lost since.
func (s *Socket) Lost() uint64 { return s.lost }

// Close sends what is pending, for half a second at most, and closes the socket.
func (s *Socket) Close() {
	deadline := time.Now().Add(500 * time.Millisecond)
	for s.fd >= 0 && len(s.pending) > 0 {
		left := time.Until(deadline)
		if left <= 0 {
			s.lost += uint64(s.whole)
			break
		}
		if n, err := unix.Poll([]unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLOUT}}, int(left.Milliseconds())+1); n == 0 && err == nil {
			continue
		}
		s.flush()
	}
	s.reset()
}
