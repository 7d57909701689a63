// Package portlock holds ports of the host without serving them, so that nobody
// else takes what the packet filter sends elsewhere.
package portlock

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// Lock is a port that is held. Close gives it back.
type Lock struct {
	f    *os.File // nil where the kernel has no sockets for the protocol
	port uint16
}

// Hold takes a port of an address for a protocol, given by its number (TCP, UDP,
// SCTP); port 0 stands for any that is free. One that somebody has is an error
// that wraps syscall.EADDRINUSE; an address that is not the host's one that wraps
// syscall.EADDRNOTAVAIL.
func Hold(protocol uint8, at netip.AddrPort) (*Lock, error) {
	family, kind := unix.AF_INET, unix.SOCK_STREAM
	if at.Addr().Is6() {
		family = unix.AF_INET6
	}
	if protocol == unix.IPPROTO_UDP {
		kind = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(protocol))
	if protocol == unix.IPPROTO_SCTP && (errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.ESOCKTNOSUPPORT)) {
		return &Lock{port: at.Port()}, nil // then nobody else can have it
	}
	if err != nil {
		return nil, fmt.Errorf("hold port: %w", err)
	}
	f := os.NewFile(uintptr(fd), "port")
	if err := hold(fd, protocol, at); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	l := &Lock{f: f, port: at.Port()}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		l.port = uint16(sa.Port)
	case *unix.SockaddrInet6:
		l.port = uint16(sa.Port)
	}
	return l, nil
}

func hold(fd int, protocol uint8, at netip.AddrPort) error {
	var sa unix.Sockaddr
	if at.Addr().Is6() {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return err
		}
		sa = &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
	} else {
		sa = &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
	}
	if protocol == unix.IPPROTO_UDP {
		// Nobody reads: take nothing.
		none := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}
		if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &none}); err != nil {
			return err
		}
	}
	return unix.Bind(fd, sa)
}

// Port returns the number of the port.
func (l *Lock) Port() uint16 { return l.port }

// Close gives the port back.
func (l *Lock) Close() error {
	if l.f == nil {
		return nil
	}
	return l.f.Close()
}
