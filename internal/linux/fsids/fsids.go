// Package fsids does things to files in the name of other ids.
package fsids

import (
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// As runs fn in a thread whose files belong to uid and gid, and which keeps its
// capabilities over files: in a file system or a mount that belongs to a user
// namespace, only ids that are known there can own anything. fn must not leave
// work to other goroutines that counts on it.
func As(uid, gid uint32, fn func() error) error {
	if uid == 0 && gid == 0 {
		return fn()
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with its ids
		err := become(int(uid), int(gid))
		if err == nil {
			err = fn()
		}
		done <- err
	}()
	return <-done
}

func become(uid, gid int) error {
	if err := errors.Join(unix.Setfsgid(gid), unix.Setfsuid(uid)); err != nil {
		return fmt.Errorf("take the ids %d:%d: %w", uid, gid, err)
	}
	// The change took the capabilities over files; they are still permitted.
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return fmt.Errorf("read own capabilities: %w", err)
	}
	for i := range data {
		data[i].Effective = data[i].Permitted
	}
	if err := unix.Capset(&hdr, &data[0]); err != nil {
		return fmt.Errorf("keep own capabilities: %w", err)
	}
	return nil
}
