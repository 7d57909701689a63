package cgroup

import (
	"encoding/binary"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
)

// OOMWatch is a descriptor on which the kernel tells that a group has run out
// of memory.
type OOMWatch struct {
	// FD is ready for Events when something may have happened.
	FD     int
	Events int16

	dir   Dir
	kills uint64
}

// WatchOOM begins to watch the group.
func (g Group) WatchOOM() (*OOMWatch, error) {
	d, ok := g.controller("memory")
	if !ok {
		return nil, errdefs.New(errdefs.NotImplemented, "watch for out-of-memory: the container has no cgroup of the controller memory")
	}
	w := &OOMWatch{dir: d}
	var err error
	if d.V2 {
		w.Events = unix.POLLPRI
		if w.kills, err = g.OOMKills(); err != nil {
			return nil, err
		}
		w.FD, err = openRetry(d.Path+"/memory.events", unix.O_RDONLY)
	} else {
		w.Events = unix.POLLIN
		w.FD, err = watchV1(d.Path)
	}
	if err != nil {
		return nil, fmt.Errorf("watch for out-of-memory: %w", err)
	}
	return w, nil
}

// watchV1 returns an eventfd that the kernel signals.
func watchV1(dir string) (int, error) {
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return -1, err
	}
	control, err := openRetry(dir+"/memory.oom_control", unix.O_RDONLY)
	if err == nil {
		err = writeFile(dir+"/cgroup.event_control", strconv.Itoa(event)+" "+strconv.Itoa(control))
		_ = unix.Close(control)
	}
	if err != nil {
		_ = unix.Close(event)
		return -1, err
	}
	return event, nil
}

// Happened reports whether memory ran out since it was last asked. The kernel
// also wakes who waits for other reasons, and when the cgroup is removed.
func (w *OOMWatch) Happened() bool {
	if w.dir.V2 {
		n, err := Group{Dirs: []Dir{w.dir}}.OOMKills()
		if err != nil {
			return false
		}
		more := n > w.kills
		w.kills = n
		// A read by this descriptor is what makes it wait anew.
		_, _ = unix.Pread(w.FD, make([]byte, 512), 0)
		return more
	}
	b := make([]byte, 8)
	if n, err := unix.Read(w.FD, b); err != nil || n != 8 || binary.NativeEndian.Uint64(b) == 0 {
		return false
	}
	return unix.Access(w.dir.Path+"/cgroup.event_control", unix.F_OK) == nil
}

// Close ends the watch.
func (w *OOMWatch) Close() { _ = unix.Close(w.FD) }
