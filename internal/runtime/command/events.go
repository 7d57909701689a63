package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/cgroup"
	"lade/internal/runtime/state"
)

// events prints what a container uses, again and again, and tells when it runs
// out of memory, until it ends; with --stats once.
func (a *app) events(ctx context.Context, args []string) error {
	interval, once := 5*time.Second, false
	rest, err := flagSet{duration("interval", &interval), boolean("stats", &once)}.parse(args, true)
	if err != nil {
		return err
	}
	if interval <= 0 {
		return errdefs.New(errdefs.Invalid, "duration interval must be greater than 0")
	}
	rec, status, err := a.live(rest)
	if err != nil {
		return err
	}
	if status == state.Stopped || status == state.Creating {
		return errdefs.New(errdefs.Conflict, "container with id %s is not running", rec.ID)
	}
	out := json.NewEncoder(a.stdout)
	if once {
		return printStats(out, rec)
	}
	return a.stream(ctx, out, rec, interval)
}

func duration(names string, to *time.Duration) flag {
	return flag{names: names, set: func(v string) (err error) {
		*to, err = time.ParseDuration(v)
		return err
	}}
}

func printStats(out *json.Encoder, rec *state.Record) error {
	d, err := rec.Cgroup.Detail()
	if err != nil {
		return err
	}
	return out.Encode(event{Type: "stats", ID: rec.ID, Data: statsOf(d)})
}

// stream waits for three things at once: the next look at the statistics, the
// kernel's word that memory has run out, and the end of the container.
func (a *app) stream(ctx context.Context, out *json.Encoder, rec *state.Record, interval time.Duration) error {
	pidfd, err := unix.PidfdOpen(rec.PID, 0)
	if errors.Is(err, unix.ESRCH) || err == nil && !rec.Alive() {
		return nil
	}
	if err != nil {
		return fmt.Errorf("wait for the container's end: %w", err)
	}
	defer unix.Close(pidfd)
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	oom, err := rec.Cgroup.WatchOOM()
	switch {
	case err == nil:
		defer oom.Close()
		fds = append(fds, unix.PollFd{Fd: int32(oom.FD), Events: oom.Events})
	case errdefs.Is(err, errdefs.NotImplemented):
		a.warn(err.Error())
	default:
		return err
	}
	next := time.Now().Add(interval)
	for ctx.Err() == nil {
		n, err := unix.Poll(fds, int(max(time.Until(next).Milliseconds()+1, 0)))
		switch {
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("wait for events: %w", err)
		case n > 0 && len(fds) > 1 && fds[1].Revents != 0:
			if err := tellOOM(out, rec, oom); err != nil {
				return err
			}
		}
		if n > 0 && fds[0].Revents != 0 {
			return nil
		}
		if now := time.Now(); !now.Before(next) {
			next = now.Add(interval)
			if err := printStats(out, rec); err != nil && rec.Alive() {
				return err
			}
		}
	}
	return ctx.Err()
}

func tellOOM(out *json.Encoder, rec *state.Record, oom *cgroup.OOMWatch) error {
	if !oom.Happened() {
		return nil
	}
	return out.Encode(event{Type: "oom", ID: rec.ID})
}
