// Package netns does things in other network namespaces.
package netns

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Open returns the network namespace of a process.
func Open(pid int) (*os.File, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return nil, fmt.Errorf("open network namespace: %w", err)
	}
	return f, nil
}

// Do runs fn in the network namespace ns, in a thread that is there only
// meanwhile: fn must not start goroutines that count on it. Sockets that fn
// opens stay in ns, and /proc/sys/net is the one of ns.
func Do(ns *os.File, fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			done <- fmt.Errorf("open network namespace: %w", err)
			runtime.UnlockOSThread()
			return
		}
		defer func() { _ = home.Close() }()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter network namespace: %w", err)
			runtime.UnlockOSThread()
			return
		}
		err = fn()
		// A thread that does not find home stays locked, and so ends with this
		// goroutine.
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}
