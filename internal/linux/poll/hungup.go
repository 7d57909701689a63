package poll

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// HungUp reports whether nobody is at the other end of a connection any more:
// it is closed for both directions. A peer that will only send nothing more is
// still there.
func HungUp(c syscall.Conn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return true
	}
	gone := false
	err = raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd)}} // hang-ups are reported unasked
		n, err := unix.Poll(p, 0)
		gone = err == nil && n > 0 && p[0].Revents&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0
	})
	return gone || err != nil
}
