package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is a command on a pseudo terminal, and what it has printed.
type terminal struct {
	t      *testing.T
	master *os.File
	cmd    *exec.Cmd
	bytes  chan []byte
	seen   strings.Builder
}

// onTerminal starts c with a terminal of 24 by 80 as its controlling one.
func onTerminal(t *testing.T, c *exec.Cmd) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetUint32(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80}); err != nil {
		t.Fatal(err)
	}
	c.Stdin, c.Stdout, c.Stderr = slave, slave, slave
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	err = c.Start()
	_ = slave.Close()
	if err != nil {
		t.Fatal(err)
	}
	term := &terminal{t: t, master: master, cmd: c, bytes: make(chan []byte, 64)}
	go func() {
		defer close(term.bytes)
		for {
			b := make([]byte, 4096)
			n, err := master.Read(b)
			if err != nil {
				return
			}
			term.bytes <- b[:n]
		}
	}()
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait() // an error says that it was waited for before
		_ = master.Close()
		for range term.bytes {
			// Until the reader has ended.
		}
	})
	return term
}

// write types s.
func (x *terminal) write(s string) {
	x.t.Helper()
	if _, err := x.master.WriteString(s); err != nil {
		x.t.Fatal(err)
	}
}

// expect waits until the terminal shows want, and forgets what came before.
func (x *terminal) expect(want string) {
	x.t.Helper()
	timeout := time.After(30 * time.Second)
	for {
		if _, rest, found := strings.Cut(x.seen.String(), want); found {
			x.seen.Reset()
			x.seen.WriteString(rest)
			return
		}
		select {
		case b, open := <-x.bytes:
			if !open {
				x.t.Fatalf("the terminal closed before %q; it shows %q", want, x.seen.String())
			}
			x.seen.Write(b)
		case <-timeout:
			x.t.Fatalf("no %q on the terminal; it shows %q", want, x.seen.String())
		}
	}
}

// exit waits for the command and returns its exit code.
func (x *terminal) exit() int {
	x.t.Helper()
	ended := make(chan struct{})
	go func() {
		_ = x.cmd.Wait() // the exit code tells
		close(ended)
	}()
	timeout := time.After(30 * time.Second)
	shown := x.bytes
	for {
		select {
		case <-ended:
			return x.cmd.ProcessState.ExitCode()
		case b, open := <-shown:
			if !open {
				shown = nil
			}
			x.seen.Write(b)
		case <-timeout:
			x.t.Fatalf("the command does not end; the terminal shows %q", x.seen.String())
		}
	}
}
