package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"lade/internal/engine/container/record"
	"lade/internal/errdefs"
)

// Remove removes a container and all that belongs to it.
func (s *Service) Remove(ctx context.Context, ref string, o RemoveOptions) error {
	for killed := false; ; killed = true {
		c, err := s.acquire(ctx, ref)
		if killed && errdefs.Is(err, errdefs.NotFound) {
			return nil // it was to be removed when it ends
		}
		if err != nil {
			return err
		}
		_, st := c.view()
		r := c.current()
		if r == nil && st.Status == api.StateRestarting && !o.Force {
			c.op.unlock()
			return errdefs.New(errdefs.Conflict, "cannot remove container %q: container is restarting: stop the container before removing or force remove", strings.TrimPrefix(ref, "/"))
		}
		if r == nil {
			defer c.op.unlock()
			c.keepVolumes = !o.Volumes
			return s.removeLocked(context.WithoutCancel(ctx), c)
		}
		c.op.unlock()
		if !o.Force {
			what := "running: stop the container before removing or force remove"
			if st.Status == api.StatePaused {
				what = "paused and must be unpaused first"
			}
			return errdefs.New(errdefs.Conflict, "cannot remove container %q: container is %s", strings.TrimPrefix(ref, "/"), what)
		}
		if err := s.killRun(context.WithoutCancel(ctx), c, r); err != nil {
			return err
		}
		ref = c.id
	}
}

// removeLocked removes c, whose operation lock is held and which does not run.
// The record goes first: what a crash leaves then is directories without a
// record, which the sweep at the next start finds.
func (s *Service) removeLocked(ctx context.Context, c *container) error {
	def, _ := c.view()
	keep := c.keepVolumes && !def.Ephemeral
	if keep {
		if err := s.volumes.Keep(ctx, def); err != nil {
			return err
		}
	}
	def, ok, err := s.forget(c)
	if err != nil || !ok {
		return err
	}
	err = errors.Join(s.removeFiles(ctx, def.ID), s.volumes.Release(ctx, def, !keep))
	s.ids.Free(def.IDBase)
	s.unlist(c, def)
	if err != nil {
		return fmt.Errorf("remove container %s: %w", def.Name, err)
	}
	return nil
}

// removeEarly does of a removal what can be told from outside: record, name,
// and the claim on the image go. removeRest does the rest.
func (s *Service) removeEarly(ctx context.Context, c *container) error {
	def, ok, err := s.forget(c)
	if err != nil || !ok {
		return err
	}
	if err := s.cfg.Images.Unpin(ctx, def.ID); err != nil {
		s.log.Error("let go of a container's image", "container", def.ID, "err", err)
	}
	s.unlist(c, def)
	return nil
}

// removeRest removes what removeEarly has left. The shim has left by now.
func (s *Service) removeRest(ctx context.Context, c *container) error {
	def, _ := c.view()
	err := errors.Join(s.removeFiles(ctx, def.ID), s.volumes.Release(ctx, def, true))
	s.ids.Free(def.IDBase)
	return err
}

// forget removes the record. ok is false if it is gone already: the container
// has removed itself, as it was to.
func (s *Service) forget(c *container) (def record.Definition, ok bool, err error) {
	c.mu.Lock()
	def, last := c.def, c.state
	if c.gone {
		c.mu.Unlock()
		return def, false, nil
	}
	c.state.Status = api.StateRemoving
	c.mu.Unlock()
	if err := s.records.Remove(def, last, record.Event(def, events.ActionDestroy)); err != nil {
		c.mu.Lock()
		c.state.Status = api.StateDead
		c.mu.Unlock()
		return def, false, fmt.Errorf("remove container %s: %w", def.Name, err)
	}
	return def, true, nil
}

// unlist gives the name back and tells everybody that the container is gone.
func (s *Service) unlist(c *container, def record.Definition) {
	s.table.Drop(def.ID, def.Name)
	c.pending.End()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = true
	c.changed()
	c.wake(api.WaitConditionRemoved, c.state)
}

// removeFiles removes all that belongs to an id and is not a record.
func (s *Service) removeFiles(ctx context.Context, id string) error {
	return errors.Join(
		os.RemoveAll(s.cfg.Bundle(id)),
		s.cfg.Snapshots.Remove(id),
		os.RemoveAll(s.cfg.Data(id)),
		s.cfg.Images.Unpin(ctx, id),
	)
}
