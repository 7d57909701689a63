package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	api "github.com/moby/moby/api/types/container"

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
		if r == nil {
			defer c.op.unlock()
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
	c.mu.Lock()
	if c.gone {
		c.mu.Unlock()
		return nil // removed by itself, as it was to be
	}
	def, last := c.def, c.state
	c.state.Status = api.StateRemoving
	c.mu.Unlock()
	if err := s.records.Remove(def, last); err != nil {
		c.mu.Lock()
		c.state.Status = api.StateDead
		c.mu.Unlock()
		return fmt.Errorf("remove container %s: %w", def.Name, err)
	}
	err := s.removeFiles(ctx, def.ID)
	s.mu.Lock()
	delete(s.byID, def.ID)
	if s.names[def.Name] == def.ID {
		delete(s.names, def.Name)
	}
	s.mu.Unlock()
	s.ids.Free(def.IDBase)
	c.pending.End()
	c.mu.Lock()
	c.gone = true
	c.wake(api.WaitConditionRemoved, c.state)
	c.mu.Unlock()
	if err != nil {
		return fmt.Errorf("remove container %s: %w", def.Name, err)
	}
	return nil
}

// removeFiles removes all that belongs to an id and is not a record.
func (s *Service) removeFiles(ctx context.Context, id string) error {
	return errors.Join(
		os.RemoveAll(s.bundle(id)),
		s.cfg.Snapshots.Remove(id),
		os.RemoveAll(s.dataDir(id)),
		s.cfg.Images.Unpin(ctx, id),
	)
}
