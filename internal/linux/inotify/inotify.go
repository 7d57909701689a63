// Package inotify waits for changes in a directory.
package inotify

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Watcher tells that something in one directory was written, made or removed.
type Watcher struct {
	f   *os.File
	buf [4096]byte
}

// New begins to watch dir. What happens from now on ends the next Wait.
func New(dir string) (*Watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", dir, err)
	}
	const mask = unix.IN_MODIFY | unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_DELETE | unix.IN_DELETE_SELF | unix.IN_ONLYDIR
	if _, err := unix.InotifyAddWatch(fd, dir, mask); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("watch %s: %w", dir, err)
	}
	return &Watcher{f: os.NewFile(uintptr(fd), "inotify")}, nil
}

// Wait returns nil when something has changed since the last Wait, and the
// context's error when that ends first.
func (w *Watcher) Wait(ctx context.Context) error {
	stop := func() bool { return true }
	defer func() { stop() }()
	for {
		if err := w.f.SetReadDeadline(time.Time{}); err != nil {
			return fmt.Errorf("wait for a change: %w", err)
		}
		stop()
		stop = context.AfterFunc(ctx, func() { _ = w.f.SetReadDeadline(time.Unix(1, 0)) })
		_, err := w.f.Read(w.buf[:])
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return fmt.Errorf("wait for a change: %w", err)
		case ctx.Err() != nil:
			return ctx.Err()
		}
		// The deadline of an earlier wait, whose context ended as it returned.
	}
}

// Close ends the watch, and a Wait that is under way.
func (w *Watcher) Close() error { return w.f.Close() }
