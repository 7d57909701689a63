package mount

import (
	"fmt"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// NamespaceRoot opens the root of the mount namespace of a process: what the
// process saw when it began, wherever it has changed its own root to. Nothing
// of the namespace is executed or changed.
func NamespaceRoot(pid int) (*os.File, error) {
	type result struct {
		fd  int
		err error
	}
	done := make(chan result, 1)
	go func() {
		// The thread enters the namespace, and ends with this goroutine: it is
		// never unlocked.
		runtime.LockOSThread()
		fd, err := namespaceRoot(pid)
		done <- result{fd, err}
	}()
	r := <-done
	if r.err != nil {
		return nil, fmt.Errorf("look into the mounts of process %d: %w", pid, r.err)
	}
	return os.NewFile(uintptr(r.fd), "/"), nil
}

func namespaceRoot(pid int) (int, error) {
	ns, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(ns)
	if err := unix.Unshare(unix.CLONE_FS); err != nil { // a thread's root is its process's otherwise
		return -1, err
	}
	if err := unix.Setns(ns, unix.CLONE_NEWNS); err != nil {
		return -1, err
	}
	return unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}
