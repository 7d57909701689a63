package command

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"lade/internal/runtime/exec"
)

// foreground starts a child, passes signals on to it and waits for its end;
// its exit code becomes the command's. end is called when it has ended.
func (a *app) foreground(socket string, start func(console int) (*exec.Child, error), end func() error) error {
	signals := make(chan os.Signal, 32)
	signal.Notify(signals)
	var t *terminal
	console := 0
	if socket == "" {
		var err error
		if t, err = newTerminal(a.stdin); err != nil {
			return err
		}
		console = t.theirs
	}
	child, err := start(console)
	if err != nil {
		return err
	}
	defer child.Close()
	var restore func()
	if t != nil {
		if restore, err = t.relay(a.stdin, a.stdout); err != nil {
			child.Kill()
			return errors.Join(err, end())
		}
	}
	ended := make(chan error, 1)
	var status syscall.WaitStatus
	go func() {
		var err error
		status, err = child.Wait()
		ended <- err
	}()
	for {
		select {
		case s := <-signals:
			a.pass(s, child, t)
			continue
		case err = <-ended:
		}
		break
	}
	if restore != nil {
		restore()
	}
	if err := errors.Join(err, end()); err != nil {
		return fmt.Errorf("wait for the container: %w", err)
	}
	code := status.ExitStatus()
	if status.Signaled() {
		code = 128 + int(status.Signal())
	}
	if code == 0 {
		return nil
	}
	return &exitError{code: code}
}

// pass hands a signal on to the child.
func (a *app) pass(s os.Signal, child *exec.Child, t *terminal) {
	sig, ok := s.(syscall.Signal)
	switch {
	case !ok || sig == unix.SIGCHLD || sig == unix.SIGURG || sig == unix.SIGPIPE:
	case sig == unix.SIGWINCH && t != nil:
		t.resize(a.stdin)
	default:
		_ = unix.PidfdSendSignal(child.PidFD, sig, nil, 0)
	}
}
