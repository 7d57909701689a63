// Package poll waits for many descriptors at once through epoll.
//
// It is for programs that are one loop and want no goroutine per descriptor;
// everything else has the Go runtime's own poller. Waiting is level-triggered:
// a descriptor is reported for as long as it is ready. Hang-ups and errors are
// reported whatever was asked for, so a descriptor that must be left alone for
// a while has to be removed.
package poll

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Events is a set of conditions of a descriptor.
type Events uint32

// The conditions.
const (
	In       Events = unix.EPOLLIN
	Out      Events = unix.EPOLLOUT
	HalfHup  Events = unix.EPOLLRDHUP // the peer will send nothing more
	HangUp   Events = unix.EPOLLHUP
	Error    Events = unix.EPOLLERR
	maxBatch        = 32
)

// Event says that a descriptor is ready.
type Event struct {
	FD     int
	Events Events
}

// Poller is a set of descriptors to wait for. It serves one goroutine.
type Poller struct {
	fd  int
	raw [maxBatch]unix.EpollEvent
	out [maxBatch]Event
}

// New returns an empty set.
func New() (*Poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create epoll: %w", err)
	}
	return &Poller{fd: fd}, nil
}

// Add puts fd into the set.
func (p *Poller) Add(fd int, ev Events) error { return p.control(unix.EPOLL_CTL_ADD, fd, ev) }

// Modify changes what fd is waited for.
func (p *Poller) Modify(fd int, ev Events) error { return p.control(unix.EPOLL_CTL_MOD, fd, ev) }

// Remove takes fd out of the set. It must happen before fd is closed: a
// duplicate of it elsewhere would keep it in the set.
func (p *Poller) Remove(fd int) error { return p.control(unix.EPOLL_CTL_DEL, fd, 0) }

func (p *Poller) control(op, fd int, ev Events) error {
	e := unix.EpollEvent{Events: uint32(ev), Fd: int32(fd)}
	if err := unix.EpollCtl(p.fd, op, fd, &e); err != nil {
		return fmt.Errorf("watch descriptor %d: %w", fd, err)
	}
	return nil
}

// Wait returns what is ready, and waits for it up to timeout; a negative
// timeout has no end. A signal ends the wait with nothing. The slice is valid
// until the next call.
func (p *Poller) Wait(timeout time.Duration) ([]Event, error) {
	ms := -1
	if timeout >= 0 {
		// Rounded up: a wait that ends early would be repeated with 0.
		ms = int((timeout + time.Millisecond - 1) / time.Millisecond)
	}
	n, err := unix.EpollWait(p.fd, p.raw[:], ms)
	if errors.Is(err, unix.EINTR) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("wait for descriptors: %w", err)
	}
	for i, e := range p.raw[:n] {
		p.out[i] = Event{FD: int(e.Fd), Events: Events(e.Events)}
	}
	return p.out[:n], nil
}

// Close gives the set up. The descriptors in it stay open.
func (p *Poller) Close() error { return unix.Close(p.fd) }

// Waker is a descriptor that another goroutine makes readable.
type Waker struct{ fd int }

// NewWaker returns a waker that is not readable.
func NewWaker() (*Waker, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("create eventfd: %w", err)
	}
	return &Waker{fd}, nil
}

// FD returns the descriptor to wait for.
func (w *Waker) FD() int { return w.fd }

// Wake makes the descriptor readable. Any goroutine may call it.
func (w *Waker) Wake() {
	// EAGAIN means that 2^64-2 calls were not yet seen: it is readable.
	_, _ = unix.Write(w.fd, []byte{0, 0, 0, 0, 0, 0, 0, 1})
}

// Drain makes the descriptor unreadable again.
func (w *Waker) Drain() {
	var b [8]byte
	_, _ = unix.Read(w.fd, b[:])
}

// Close releases the descriptor. Nothing may Wake it any more.
func (w *Waker) Close() error { return unix.Close(w.fd) }
