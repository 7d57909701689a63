package container

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/runtime/state"
)

// State is what the command state prints: the specification's fields and
// those that runc adds.
type State struct {
	Version     string            `json:"ociVersion"`
	ID          string            `json:"id"`
	PID         int               `json:"pid"`
	Status      state.Status      `json:"status"`
	Bundle      string            `json:"bundle"`
	Rootfs      string            `json:"rootfs"`
	Created     time.Time         `json:"created"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Owner       string            `json:"owner"`
}

// StateOf returns the state of a container that is in a status.
func StateOf(r *state.Record, s state.Status) State {
	out := State{
		Version: r.OCIVersion, ID: r.ID, PID: r.PID, Status: s, Bundle: r.Bundle, Rootfs: r.Rootfs,
		Created: r.Created, Annotations: r.Annotations, Owner: "root",
	}
	if r.Owner != 0 {
		out.Owner = "#" + strconv.Itoa(r.Owner)
	}
	if s == state.Stopped {
		out.PID = 0
	}
	return out
}

// Get returns the state of a container.
func Get(store state.Store, id string) (State, error) {
	dir, err := store.Open(id)
	if err != nil {
		return State{}, err
	}
	rec, err := dir.Load()
	if err != nil {
		return State{}, err
	}
	status, err := dir.Status(rec)
	if err != nil {
		return State{}, err
	}
	s := StateOf(rec, status)
	return s, nil
}

// Signal sends a signal to a container's first process; with all, to every
// process in its cgroup.
func Signal(ctx context.Context, store state.Store, id string, sig syscall.Signal, all bool) error {
	dir, err := store.Open(id)
	if err != nil {
		return err
	}
	rec, err := dir.Load()
	if err != nil {
		return err
	}
	// Who is not the first of a pid namespace takes no other process along.
	if all || sig == unix.SIGKILL && !rec.PIDNS {
		return signalAll(ctx, rec, sig, all)
	}
	if err := signalInit(rec, sig); err != nil {
		return err
	}
	if sig == unix.SIGKILL {
		// A frozen process takes even this signal only when it is thawed.
		if frozen, err := rec.Cgroup.Frozen(); err == nil && frozen {
			return rec.Cgroup.Thaw()
		}
	}
	return nil
}

// signalAll signals every process of a container. That there is none is an
// error only where nobody asked for all.
func signalAll(ctx context.Context, rec *state.Record, sig syscall.Signal, asked bool) error {
	pids, err := rec.Cgroup.Procs()
	switch {
	case err != nil:
		return err
	case len(pids) == 0 && !asked:
		return errdefs.New(errdefs.Conflict, "container not running")
	case sig == unix.SIGKILL:
		return rec.Cgroup.Kill(ctx)
	}
	for _, pid := range pids {
		if err := unix.Kill(pid, sig); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("signal process %d: %w", pid, err)
		}
	}
	return nil
}

// open returns a descriptor of the recorded process, if that is the one that
// has its number now.
func openInit(rec *state.Record) (int, error) {
	notRunning := errdefs.New(errdefs.Conflict, "container not running")
	if rec.PID == 0 {
		return -1, notRunning
	}
	fd, err := unix.PidfdOpen(rec.PID, 0)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return -1, notRunning
	}
	if err != nil {
		return -1, fmt.Errorf("open process %d: %w", rec.PID, err)
	}
	// Only now: the number cannot change hands while the descriptor is open
	// and its process is not reaped.
	if !rec.Alive() {
		_ = unix.Close(fd)
		return -1, notRunning
	}
	return fd, nil
}

func signalInit(rec *state.Record, sig syscall.Signal) error {
	fd, err := openInit(rec)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	err = unix.PidfdSendSignal(fd, sig, nil, 0)
	if errors.Is(err, unix.ESRCH) {
		return errdefs.New(errdefs.Conflict, "container not running")
	}
	if err != nil {
		return fmt.Errorf("signal container %s: %w", rec.ID, err)
	}
	return nil
}

// Delete removes a container: with force, one that still runs, or that was
// never completely made, too.
func Delete(ctx context.Context, store state.Store, id string, force bool) error {
	dir, err := store.Open(id)
	if err != nil {
		return err
	}
	if err := dir.Lock(); err != nil {
		return err
	}
	defer dir.Unlock()
	rec, err := dir.Load()
	if err != nil && !force {
		return err
	}
	if err != nil {
		rec = &state.Record{ID: id}
	}
	status, err := dir.Status(rec)
	if err != nil && !force {
		return err
	}
	// A created container is deleted as it is: nothing of its own has run.
	if status != state.Stopped && status != state.Created && !force {
		return errdefs.Hint(errdefs.New(errdefs.Conflict, "cannot delete container %s that is not stopped: %s", id, status), "stop it first, or use --force")
	}
	return destroy(ctx, dir, rec)
}

// destroy ends what is left of a container and removes every trace.
func destroy(ctx context.Context, dir *state.Dir, rec *state.Record) error {
	if fd, err := openInit(rec); err == nil {
		err = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		_ = rec.Cgroup.Thaw()
		if err == nil {
			err = waitEnd(ctx, fd)
		}
		_ = unix.Close(fd)
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("end container %s: %w", rec.ID, err)
		}
	}
	if len(rec.Cgroup.Dirs) > 0 {
		if !rec.PIDNS {
			// Others of its processes do not end with the first one.
			if err := rec.Cgroup.Kill(ctx); err != nil {
				return err
			}
		}
		if err := removeCgroup(ctx, rec.Cgroup); err != nil {
			return err
		}
	}
	if err := leaveResctrl(rec); err != nil {
		return err
	}
	var errs []error
	if rec.PID != 0 {
		errs = poststop(ctx, rec)
	}
	if err := dir.Remove(); err != nil {
		return fmt.Errorf("remove the state of container %s: %w", rec.ID, err)
	}
	return errors.Join(errs...)
}

// waitEnd waits until the process behind a pidfd has ended.
func waitEnd(ctx context.Context, fd int) error {
	limit := time.Now().Add(10 * time.Second)
	if d, ok := ctx.Deadline(); ok && d.Before(limit) {
		limit = d
	}
	for {
		left := int(time.Until(limit).Milliseconds())
		if left <= 0 {
			return errors.New("it does not end")
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, left)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		case n > 0:
			return nil
		}
	}
}
