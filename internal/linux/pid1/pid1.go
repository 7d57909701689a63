// Package pid1 is the first process of a container that asked for an init: it
// starts the container's program, passes signals on to it, reaps what is
// orphaned, and ends as the program ends.
//
// The first process of a PID namespace ignores signals for which it has no
// handler, and inherits every orphan (pid_namespaces(7)). Most programs are
// written for neither.
package pid1

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// Exit codes for a program that could not be started, as a shell has them.
const (
	NotExecutable = 126
	NotFound      = 127
)

// Run starts args with this process's streams and environment, and returns the
// code to exit with once that program has ended: its own, or 128 and the
// number of the signal that killed it. An error means that it never started.
func Run(args []string) (int, error) {
	if len(args) == 0 {
		return NotFound, errors.New("no program given; usage: lade-init PROGRAM [ARGUMENT...]")
	}
	path, err := exec.LookPath(args[0])
	if err != nil {
		return codeOf(err), fmt.Errorf("start %s: %w", args[0], err)
	}
	// Every signal from here on is the program's. They are held in the channel
	// until it has started; a burst beyond its size is as lossy as the kernel,
	// which merges pending signals of one number.
	signals := make(chan os.Signal, 64)
	signal.Notify(signals)
	attr := &os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}, Env: os.Environ()}
	// A process group of its own, in the foreground of the terminal if there
	// is one: keys such as Ctrl-C then signal the program and not its init.
	attr.Sys = &syscall.SysProcAttr{Setpgid: true}
	if _, err := unix.IoctlGetTermios(0, unix.TCGETS); err == nil {
		attr.Sys = &syscall.SysProcAttr{Foreground: true, Ctty: 0}
	}
	p, err := os.StartProcess(path, args, attr)
	if err != nil {
		return codeOf(err), fmt.Errorf("start %s: %w", args[0], err)
	}
	return serve(p.Pid, signals), nil
}

// serve passes signals to child and reaps until child has ended.
func serve(child int, signals <-chan os.Signal) int {
	for s := range signals {
		switch s {
		case unix.SIGCHLD:
			if code, ended := reap(child); ended {
				return code
			}
		case unix.SIGURG: // the Go runtime's own, for preemption
		default:
			if n, ok := s.(syscall.Signal); ok {
				_ = unix.Kill(child, n)
			}
		}
	}
	return 0
}

// reap collects every process that has ended, and says whether child did.
func reap(child int) (code int, ended bool) {
	for {
		var st unix.WaitStatus
		pid, err := unix.Wait4(-1, &st, unix.WNOHANG, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil || pid == 0:
			return code, ended
		case pid == child && st.Exited():
			code, ended = st.ExitStatus(), true
		case pid == child && st.Signaled():
			code, ended = 128+int(st.Signal()), true
		}
	}
}

func codeOf(err error) int {
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return NotFound
	}
	return NotExecutable
}
