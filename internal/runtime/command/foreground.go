package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"lade/internal/runtime/container"
	"lade/internal/runtime/exec"
)

// foreground starts a process, passes signals on to it and waits for its end;
// its exit code becomes the command's. With remove, its container goes with it.
func (a *app) foreground(ctx context.Context, socket string, remove bool, start func(console int) (*container.Process, error)) error {
	var t *terminal
	console := 0
	if socket == "" {
		var err error
		if t, err = newTerminal(); err != nil {
			return err
		}
		console = t.theirs
	}
	// Before the start: the program may be running, and be known to run, before
	// start returns, and a signal for it must not end the runtime. Notify costs
	// two switches of threads for each: only those that are worth passing on.
	signals := make(chan os.Signal, 32)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH)
	p, err := start(console)
	if err != nil {
		return err
	}
	defer p.Child.Close()
	if err := p.Executed(ctx); err != nil {
		return err
	}
	var restore func()
	if t != nil {
		if restore, err = t.relay(a.stdin, a.stdout); err != nil {
			p.Child.Kill()
			return err
		}
	}
	ended := make(chan error, 1)
	var status syscall.WaitStatus
	go func() {
		var err error
		status, err = p.Child.Wait()
		ended <- err
	}()
	for {
		select {
		case s := <-signals:
			a.pass(s, p.Child, t)
			continue
		case err = <-ended:
		}
		break
	}
	if restore != nil {
		restore()
	}
	if remove {
		err = errors.Join(err, p.Remove(ctx))
	}
	if err != nil {
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
