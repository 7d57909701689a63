package serve

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"lade/internal/errdefs"
	"lade/internal/linux/pidfd"
	"lade/internal/linux/poll"
)

// job is a run of the runtime.
type job struct {
	pid, pidfd int
	log        string
	done       func(error)
}

// runtime runs the runtime with a command and its arguments. The standard
// streams that are -1 are the runtime's own: what it prints becomes a part of
// its error. done is called when it has ended.
func (s *server) runtime(files stdio, done func(error), args ...string) {
	s.jobSeq++
	j := &job{log: "runtime-" + strconv.Itoa(s.jobSeq) + ".log", done: done}
	if err := s.spawn(j, files, args); err != nil {
		_ = os.Remove(j.log)
		done(err)
	}
}

func (s *server) spawn(j *job, files stdio, args []string) error {
	own, err := syscall.Open(j.log, syscall.O_CREAT|syscall.O_RDWR|syscall.O_APPEND|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("open %s: %w", j.log, err)
	}
	defer syscall.Close(own)
	null, err := syscall.Open(os.DevNull, syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", os.DevNull, err)
	}
	defer syscall.Close(null)
	std := []uintptr{uintptr(null), uintptr(own), uintptr(own)}
	for i, fd := range files {
		if fd >= 0 {
			std[i] = uintptr(fd)
		}
	}
	argv := []string{s.cfg.Runtime}
	if s.cfg.RuntimeRoot != "" {
		argv = append(argv, "--root", s.cfg.RuntimeRoot)
	}
	argv = append(argv, s.cfg.RuntimeArgs...)
	argv = append(argv, "--log", s.cfg.Bundle+"/"+j.log, "--log-format", "json")
	argv = append(argv, args...)
	// A runtime does not outlive us: who sees that there is no shim must not find
	// that a container comes into being nevertheless.
	j.pidfd = -1
	j.pid, err = syscall.ForkExec(argv[0], argv, &syscall.ProcAttr{
		Env: s.env, Files: std, Sys: &syscall.SysProcAttr{PidFD: &j.pidfd, Pdeathsig: syscall.SIGKILL},
	})
	if err != nil {
		return errdefs.Hint(fmt.Errorf("run %s: %w", argv[0], err), "check that the OCI runtime is installed there")
	}
	if j.pidfd < 0 {
		if j.pidfd, err = pidfd.Open(j.pid); err != nil {
			return err
		}
	}
	s.jobs[j.pid] = j
	return s.loop.watch(j.pidfd, poll.In, func(poll.Events) { s.jobEnded(j) })
}

func (s *server) jobEnded(j *job) {
	st, ok, err := pidfd.Reap(j.pid)
	if err == nil && !ok {
		return
	}
	delete(s.jobs, j.pid)
	s.loop.forget(j.pidfd)
	_ = syscall.Close(j.pidfd)
	if err == nil && (st.Code != 0 || st.Signal != 0) {
		err = s.complaint(j, st)
	}
	_ = os.Remove(j.log)
	j.done(err)
	s.check()
}

// complaint returns why a run of the runtime failed, in the runtime's words.
func (s *server) complaint(j *job, st pidfd.Status) error {
	var said string
	if b, err := os.ReadFile(j.log); err == nil {
		said = lastError(b)
	}
	if said == "" {
		said = fmt.Sprintf("%s ended with code %d", s.cfg.Runtime, st.Code)
		if st.Signal != 0 {
			said = fmt.Sprintf("%s was killed by signal %d", s.cfg.Runtime, int(st.Signal))
		}
		return &silentError{errors.New(said)}
	}
	return classify(said)
}

// silentError is a failure of which the runtime did not say why, at least not
// in its log.
type silentError struct{ error }

func (e *silentError) Unwrap() error { return e.error }

// classify gives a runtime's message a class, by the phrases that all
// runtimes share.
func classify(said string) error {
	for _, p := range []string{"executable file", "no such file or directory", "permission denied", "not a directory", "exec format error", "is a directory"} {
		if strings.Contains(strings.ToLower(said), p) {
			return errdefs.New(errdefs.Invalid, "%s", said)
		}
	}
	for _, p := range []string{"not running", "does not exist", "stopped", "process already finished", "no such process"} {
		if strings.Contains(strings.ToLower(said), p) {
			return errdefs.New(errdefs.Conflict, "%s", said)
		}
	}
	return errors.New(said)
}

// lastError returns the last error in a runtime's log, or what it has printed
// there if it logged none.
func lastError(log []byte) string {
	const most = 16 << 10
	log = log[max(0, len(log)-most):]
	var logged string
	var printed []string
	for line := range bytes.Lines(log) {
		var l struct{ Level, Msg string }
		if json.Unmarshal(line, &l) == nil {
			if l.Level == "error" || l.Level == "fatal" {
				logged = l.Msg
			}
		} else if t := strings.TrimSpace(string(line)); t != "" {
			printed = append(printed, t)
		}
	}
	if logged != "" {
		return logged
	}
	return strings.Join(printed, "; ")
}
