package mount

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// UserNamespace returns a descriptor of a new user namespace with the given
// mappings: what an idmapped mount is told them by. There is no other way to
// make one than a process inside it. A copy of this process does, which only
// sleeps until it is killed; to start a program would cost many times as much.
func UserNamespace(uids, gids []IDMap) (int, error) {
	// The child dies with this thread, so it must stay until all is done.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	pid, err := sleepingChild()
	if err != nil {
		return -1, fmt.Errorf("make a user namespace: %w", err)
	}
	defer func() {
		_ = unix.Kill(pid, unix.SIGKILL)
		_, _ = retryInt(func() (int, error) { return unix.Wait4(pid, nil, unix.WALL, nil) })
	}()
	proc := "/proc/" + strconv.Itoa(pid)
	if err := writeMap(proc+"/uid_map", uids); err != nil {
		return -1, err
	}
	if err := writeMap(proc+"/gid_map", gids); err != nil {
		return -1, err
	}
	fd, err := unix.Open(proc+"/ns/user", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open user namespace: %w", err)
	}
	return fd, nil
}

// writeMap writes all lines at once: the kernel takes only one write.
func writeMap(path string, maps []IDMap) error {
	var b []byte
	for _, m := range maps {
		b = strconv.AppendUint(b, uint64(m.Container), 10)
		b = append(b, ' ')
		b = strconv.AppendUint(b, uint64(m.Host), 10)
		b = append(b, ' ')
		b = strconv.AppendUint(b, uint64(m.Size), 10)
		b = append(b, '\n')
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("map ids: %w", err)
	}
	defer f.Close()
	if _, err := f.Write(b); err != nil {
		return fmt.Errorf("map ids: %w", err)
	}
	return nil
}

// sleepingChild starts a process in a new user namespace that does nothing. It
// dies with this thread at the latest.
func sleepingChild() (int, error) {
	// A signal must not run one of Go's handlers in the child, where Go does
	// not live any more. The child starts with this thread's mask.
	var all, old unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, &old); err != nil {
		return 0, err
	}
	pid, errno := forkAsleep()
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil); err != nil {
		return 0, err
	}
	if errno != 0 {
		return 0, errno
	}
	return pid, nil
}

// forkAsleep copies this process without its other threads, as fork(2) does:
// the copy has memory of its own, and goes through nothing of Go but raw system
// calls. No stack may grow and no pointer be written between the two.
//
//go:norace
//go:nosplit
func forkAsleep() (int, syscall.Errno) {
	pid, _, errno := syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD|syscall.CLONE_NEWUSER), 0, 0, 0, 0, 0)
	if errno != 0 || pid != 0 {
		return int(pid), errno
	}
	_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0)
	for {
		// poll(NULL, 0, -1) under another name: no architecture lacks ppoll.
		_, _, _ = syscall.RawSyscall6(syscall.SYS_PPOLL, 0, 0, 0, 0, 0, 0)
	}
}
