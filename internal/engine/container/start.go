package container

import (
	"context"
	"fmt"
	"time"

	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"lade/internal/engine/container/launch"
	"lade/internal/engine/container/record"
	"lade/internal/errdefs"
)

// startTimeout bounds a start. A start that was asked for goes on when the
// client leaves, so it needs a bound of its own.
const startTimeout = 2 * time.Minute

// failTimeout bounds what is done for a container that did not start.
const failTimeout = 20 * time.Second

// Start starts a container, after those that it depends on. One that runs is an error of class NotModified.
func (s *Service) Start(ctx context.Context, ref string) error {
	return s.start(ctx, ref, nil)
}

// start is Start for those that path names, which wait for this one.
func (s *Service) start(ctx context.Context, ref string, path []string) error {
	def, st, err := s.known(ref)
	if err == nil && !st.Up() {
		err = s.startFirst(ctx, def, path)
	}
	if err != nil {
		return err
	}
	c, err := s.acquire(ctx, ref)
	if err != nil {
		return err
	}
	defer c.op.unlock()
	c.mu.Lock()
	if c.state.Status != api.StateRestarting {
		c.state.Restarts = 0
	}
	c.mu.Unlock()
	return s.startLocked(ctx, c)
}

// startLocked starts c, whose operation lock is held.
func (s *Service) startLocked(ctx context.Context, c *container) error {
	def, st := c.view()
	switch st.Status {
	case api.StatePaused:
		return errdefs.New(errdefs.Conflict, "cannot start a paused container, try unpause instead")
	case api.StateRunning, api.StateRestarting:
		return errdefs.New(errdefs.NotModified, "container %s is already running", def.Name)
	case api.StateDead, api.StateRemoving:
		return errdefs.New(errdefs.Conflict, "container is marked for removal and cannot be started")
	default:
	}
	return s.begin(ctx, c)
}

// begin starts c, whose operation lock is held, and which does not run.
func (s *Service) begin(ctx context.Context, c *container) error {
	def, _ := c.view()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), startTimeout)
	defer cancel()
	err := s.launch(ctx, c, def)
	if err == nil {
		return nil
	}
	s.startFailed(ctx, c, def, err)
	return errdefs.Hint(errdefs.With(classOfStart(err), fmt.Errorf("start container %s: %w", def.Name, err)), "%s", errdefs.HintOf(err))
}

// classOfStart is Invalid for what the image or the request is to blame for.
func classOfStart(err error) errdefs.Class {
	if c := errdefs.ClassOf(err); c != errdefs.Internal {
		return c
	}
	if launch.ExitCode(err) != 128 {
		return errdefs.Invalid
	}
	return errdefs.Internal
}

// startFailed records why a container did not start, lets waiting clients go,
// and removes a container that was to be removed when it ends.
func (s *Service) startFailed(ctx context.Context, c *container, def record.Definition, cause error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), failTimeout)
	defer cancel()
	c.mu.Lock()
	c.state.Error = cause.Error()
	c.state.ExitCode = launch.ExitCode(cause)
	st := c.state
	c.mu.Unlock()
	c.pending.Drop()
	if err := s.records.PutState(def, st); err != nil {
		s.log.Error("record a failed start", "container", def.ID, "err", err)
	}
	if def.Ephemeral {
		if err := s.removeLocked(ctx, c); err != nil {
			s.log.Error("remove a container that did not start", "container", def.ID, "err", err)
		}
	}
}

// launch makes c run, and watches it.
func (s *Service) launch(ctx context.Context, c *container, def record.Definition) error {
	_, old := c.view()
	kept := record.State{Restarts: old.Restarts}
	if old.Status == api.StateRestarting {
		kept = record.State{Restarts: old.Restarts + 1, RestartPause: old.RestartPause}
	}
	kept.Health = startingHealth(def)
	if err := s.volumes.Mount(ctx, def); err != nil {
		s.volumes.Unmount(def) // some may be
		return err
	}
	st, sh, err := s.launcher.Start(ctx, def, launch.Wanted{
		Clients: c.pending.Take,
		Record: func(st record.State) error {
			st.Restarts, st.RestartPause, st.Health = kept.Restarts, kept.RestartPause, kept.Health
			return s.records.PutState(def, st, record.Event(def, events.ActionStart))
		},
	})
	if err != nil {
		s.volumes.Unmount(def)
		return err
	}
	st.Restarts, st.RestartPause, st.Health = kept.Restarts, kept.RestartPause, kept.Health
	s.adopted(ctx, c, st, sh)
	c.attachLate(ctx, sh)
	return nil
}
