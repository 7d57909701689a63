package command

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// terminal stands between the terminal that a command runs on and that of the
// container, where the command stays in the foreground.
type terminal struct {
	ours, theirs int // a socket pair: the container's side sends its master
	master       *os.File
}

func newTerminal() (*terminal, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make the console socket: %w", err)
	}
	return &terminal{ours: pair[0], theirs: pair[1]}, nil
}

// relay takes the master, if the container has a terminal, and copies both
// ways until restore is called.
func (t *terminal) relay(stdin *os.File, stdout io.Writer) (restore func(), err error) {
	defer unix.Close(t.ours)
	fd, err := receiveFD(t.ours)
	if fd < 0 || err != nil {
		return nil, err
	}
	// In non-blocking mode its reads go by the poller, and end at Close.
	_ = unix.SetNonblock(fd, true)
	t.master = os.NewFile(uintptr(fd), "terminal")
	var old *unix.Termios
	if isTerminal(stdin) {
		if old, err = raw(int(stdin.Fd())); err != nil {
			return nil, err
		}
		t.resize(stdin)
	}
	go func() { _, _ = io.Copy(t.master, stdin) }()
	drained := make(chan struct{})
	go func() {
		_, _ = io.Copy(stdout, t.master) // ends with EIO when the last one has closed the terminal
		close(drained)
	}()
	return func() {
		<-drained
		_ = t.master.Close()
		if old != nil {
			_ = unix.IoctlSetTermios(int(stdin.Fd()), unix.TCSETS, old)
		}
	}, nil
}

// resize gives the container's terminal the size of ours.
func (t *terminal) resize(from *os.File) {
	if t.master == nil {
		return
	}
	if size, err := unix.IoctlGetWinsize(int(from.Fd()), unix.TIOCGWINSZ); err == nil {
		_ = unix.IoctlSetWinsize(int(t.master.Fd()), unix.TIOCSWINSZ, size)
	}
}

// raw makes a terminal hand through every key, and returns how it was. What is
// written to it is processed as before.
func raw(fd int) (*unix.Termios, error) {
	old, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("read the terminal's mode: %w", err)
	}
	mode := *old
	mode.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	mode.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	mode.Cflag = mode.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	mode.Cc[unix.VMIN], mode.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &mode); err != nil {
		return nil, fmt.Errorf("set the terminal's mode: %w", err)
	}
	return old, nil
}

// receiveFD returns the descriptor that waits in a socket, or -1 when there is
// none.
func receiveFD(sock int) (int, error) {
	control := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(sock, make([]byte, 64), control, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
	if errors.Is(err, unix.EAGAIN) {
		return -1, nil
	}
	if err != nil {
		return -1, fmt.Errorf("receive the terminal: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil || len(messages) == 0 {
		return -1, err
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) == 0 {
		return -1, err
	}
	return fds[0], nil
}
