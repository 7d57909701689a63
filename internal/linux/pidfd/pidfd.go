// Package pidfd handles processes by descriptors, which unlike process ids
// never come to mean another process.
package pidfd

import (
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Status is how a process ended.
type Status struct {
	PID    int
	Code   int            // what it passed to exit, when Signal is 0
	Signal syscall.Signal // what killed it, or 0
	Core   bool           // it left a core
}

// Open returns a descriptor of the process, close-on-exec. It is readable
// once the process has ended.
func Open(pid int) (int, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return -1, fmt.Errorf("open process %d: %w", pid, err)
	}
	return fd, nil
}

// OpenNonblock is Open with O_NONBLOCK set, so that os.NewFile hands the
// descriptor to the Go runtime's poller.
func OpenNonblock(pid int) (int, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return -1, fmt.Errorf("open process %d: %w", pid, err)
	}
	return fd, nil
}

// Signal sends sig to the process.
func Signal(fd int, sig syscall.Signal) error {
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil {
		return fmt.Errorf("send signal %d: %w", int(sig), err)
	}
	return nil
}

// Ended reports whether the process has ended, child of ours or not.
func Ended(fd int) (bool, error) {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(p, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return false, fmt.Errorf("poll process: %w", err)
		}
		return n > 0, nil
	}
}

// Peek returns how the child behind fd ended, and leaves it to be reaped.
// The second result is false while it runs.
func Peek(fd int) (Status, bool, error) {
	return wait(unix.P_PIDFD, fd, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT)
}

// PeekAny is Peek for whichever child has ended. It is false when none has.
func PeekAny() (Status, bool, error) {
	st, ok, err := wait(unix.P_ALL, 0, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT)
	if errors.Is(err, unix.ECHILD) {
		return Status{}, false, nil
	}
	return st, ok, err
}

// Reap takes away the child, if it has ended.
func Reap(pid int) (Status, bool, error) {
	return wait(unix.P_PID, pid, unix.WEXITED|unix.WNOHANG)
}

// siginfo is the kernel's siginfo_t as waitid fills it in on 64-bit machines.
type siginfo struct {
	_      int32 // si_signo
	_      int32 // si_errno
	code   int32
	_      int32
	pid    int32
	_      uint32 // si_uid
	status int32
	_      [100]byte
}

// The values of si_code for SIGCHLD.
const (
	cldExited = 1
	cldDumped = 3
)

func wait(kind, id, options int) (Status, bool, error) {
	var si siginfo
	for {
		err := unix.Waitid(kind, id, (*unix.Siginfo)(unsafe.Pointer(&si)), options, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return Status{}, false, fmt.Errorf("wait for a process: %w", err)
		}
		break
	}
	if si.pid == 0 {
		return Status{}, false, nil
	}
	st := Status{PID: int(si.pid)}
	if si.code == cldExited {
		st.Code = int(si.status)
	} else {
		st.Signal, st.Core = syscall.Signal(si.status), si.code == cldDumped
	}
	return st, true, nil
}

// BecomeSubreaper makes this process the parent of every descendant that
// loses its own.
func BecomeSubreaper() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become subreaper: %w", err)
	}
	return nil
}
