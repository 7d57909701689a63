package gauntlet

import (
	"net"
	"path/filepath"
	"syscall"
)

// console listens for the terminal that a runtime sends, and returns what takes
// it: a function that waits until it has come, or the listener is closed.
func console(dir string) (l *net.UnixListener, take func() (closed func()), err error) {
	l, err = net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "tty.sock"), Net: "unix"})
	if err != nil {
		return nil, nil, err
	}
	return l, func() func() {
		var fds []int
		if c, err := l.AcceptUnix(); err == nil {
			control := make([]byte, 64)
			_, n, _, _, _ := c.ReadMsgUnix(make([]byte, 64), control)
			_ = c.Close()
			if messages, err := syscall.ParseSocketControlMessage(control[:n]); err == nil && len(messages) == 1 {
				fds, _ = syscall.ParseUnixRights(&messages[0])
			}
		}
		return func() {
			for _, fd := range fds {
				_ = syscall.Close(fd)
			}
		}
	}, nil
}
