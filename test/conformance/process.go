package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"lade/internal/linux/pty"
)

// prSetChildSubreaper is PR_SET_CHILD_SUBREAPER, which package syscall lacks.
const prSetChildSubreaper = 36

// becomeSubreaper makes this process the parent of all orphans below it. The
// suite waits for processes of detached containers to be gone, so they must be
// reaped at once, by whom it does not matter.
func becomeSubreaper() error {
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prSetChildSubreaper, 1, 0); errno != 0 {
		return fmt.Errorf("become a subreaper: %w", errno)
	}
	return nil
}

// reap waits for the process, and for whatever else ends meanwhile.
func reap(pid int) error {
	for {
		got, err := syscall.Wait4(-1, nil, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return fmt.Errorf("wait for bats: %w", err)
		case got == pid:
			return nil
		}
	}
}

// endLost ends the suite's own helpers that are left when all tests are over,
// until stop is closed. A test that fails, or is over before its helper has
// written its pid file, leaves it behind, and bats would wait for it forever.
func endLost(over, stop <-chan struct{}) {
	select {
	case <-over:
	case <-stop:
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		for _, pid := range helpers() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		select {
		case <-stop:
			return
		case <-tick.C:
		}
	}
}

// helpers returns the receivers of terminals and the seccomp agents among this
// process's children, which include all orphans.
func helpers() []int {
	lists, _ := filepath.Glob("/proc/self/task/*/children")
	var pids []int
	for _, file := range lists {
		list, _ := os.ReadFile(file)
		for word := range strings.FieldsSeq(string(list)) {
			name, _ := os.ReadFile("/proc/" + word + "/comm")
			if pid, err := strconv.Atoi(word); err == nil && (string(name) == "recvtty\n" || string(name) == "seccompagent\n") {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// soon is when what is left in a pipe has been read.
func soon() time.Time { return time.Now().Add(time.Second) }

// batsCommand is how bats is started.
type batsCommand struct {
	args, env []string
}

// bats returns the command that runs one file.
func (d *driver) bats(file string) (*batsCommand, error) {
	bats, err := exec.LookPath("bats")
	if err != nil {
		return nil, err
	}
	b := &batsCommand{
		args: []string{bats, "-t"},
		env:  append(os.Environ(), "RUNC="+d.runtime, "TMPDIR="+d.tmp),
	}
	if d.filter != "" {
		b.args = append(b.args, "-f", d.filter)
	}
	b.args = append(b.args, file)
	if d.v2 {
		const bind = `mount --bind /sys/fs/cgroup/unified /sys/fs/cgroup && exec "$@"`
		b.args = append([]string{"/bin/sh", "-c", bind, "sh"}, b.args...)
	}
	return b, nil
}

// start starts bats as the leader of a session with a terminal, in a mount
// namespace from which nothing comes back.
func (b *batsCommand) start(out *os.File) (pid int, hangUp func(), err error) {
	master, slave, err := pty.Open()
	if err != nil {
		return 0, nil, err
	}
	defer slave.Close()
	// What tests write to the terminal is nobody's.
	go func() { _, _ = io.Copy(io.Discard, master) }()
	pid, err = syscall.ForkExec(b.args[0], b.args, &syscall.ProcAttr{
		Env:   b.env,
		Files: []uintptr{slave.Fd(), out.Fd(), out.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0, Unshareflags: syscall.CLONE_NEWNS},
	})
	if err != nil {
		_ = master.Close()
		return 0, nil, err
	}
	return pid, func() { _ = master.Close() }, nil
}
