// Package process names the processes of containers so that none is taken for
// another: by pid and the time at which it began, or by a descriptor.
package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"

	"lade/internal/engine/container/record"
	"lade/internal/linux/pidfd"
)

// Began returns when a process began, in the kernel's ticks: together
// with its id it names one process for as long as the machine runs. 0 means
// that there is none.
func Began(pid int) uint64 {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The name, in brackets, may hold anything; what follows the last one not.
	i := bytes.LastIndexByte(raw, ')')
	if i < 0 {
		return 0
	}
	f := bytes.Fields(raw[i+1:])
	const state, startTime = 0, 19 // fields 3 and 22 of proc_pid_stat(5)
	if len(f) <= startTime || f[state][0] == 'Z' {
		return 0
	}
	n, _ := strconv.ParseUint(string(f[startTime]), 10, 64)
	return n
}

// Open returns a descriptor of the process that st names, or nil if it
// has ended. The descriptor never comes to mean another one.
func Open(st record.State) *os.File {
	f := OpenPID(st.PID)
	if f == nil {
		return nil
	}
	if start := Began(st.PID); start == 0 || start != st.PIDStart {
		f.Close()
		return nil
	}
	return f
}

// OpenPID returns a descriptor of a process, or nil if there is none.
func OpenPID(pid int) *os.File {
	if pid <= 0 {
		return nil
	}
	fd, err := pidfd.OpenNonblock(pid)
	if err != nil {
		return nil
	}
	return os.NewFile(uintptr(fd), "process")
}

// AwaitEnd waits until a process has ended; nil is one that has. It closes the
// descriptor, and reports false if giveUp is closed first.
func AwaitEnd(giveUp <-chan struct{}, process *os.File) bool {
	if process == nil {
		return true
	}
	defer process.Close()
	raw, err := process.SyscallConn()
	if err != nil {
		return true
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The Go runtime's poller wakes us; the descriptor is only looked at.
		_ = raw.Read(func(fd uintptr) bool {
			ended, err := pidfd.Ended(int(fd))
			return ended || err != nil
		})
	}()
	select {
	case <-done:
		return true
	case <-giveUp:
		process.Close() // wakes the reader
		<-done
		return false
	}
}

// Kill kills the process behind a descriptor.
func Kill(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	err = raw.Control(func(fd uintptr) { sent = pidfd.Signal(int(fd), syscall.SIGKILL) })
	return errors.Join(err, sent)
}

// Signal signals a container that has no shim any more.
func Signal(st record.State, sig int) error {
	f := Open(st)
	if f == nil {
		return os.ErrProcessDone
	}
	defer f.Close()
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	err = raw.Control(func(fd uintptr) { sent = pidfd.Signal(int(fd), syscall.Signal(sig)) })
	return errors.Join(err, sent)
}
