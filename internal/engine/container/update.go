package container

import (
	"context"
	"errors"
	"fmt"

	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"lade/internal/engine/container/process"
	"lade/internal/engine/container/record"
	"lade/internal/engine/container/request"
	"lade/internal/errdefs"
)

// Update gives a container other limits and another restart policy: at once if
// it runs, and for every start from now on.
//
// The record goes before the kernel, and the state says meanwhile that the two
// may differ: an engine that finds that makes the kernel what the record says.
func (s *Service) Update(ctx context.Context, ref string, u api.UpdateConfig) (api.UpdateResponse, error) {
	none := api.UpdateResponse{Warnings: []string{}}
	c, err := s.acquire(ctx, ref)
	if err != nil {
		return none, err
	}
	defer c.op.unlock()
	def, st := c.view()
	if st.Status == api.StateDead || st.Status == api.StateRemoving {
		return none, errdefs.New(errdefs.Conflict, "Cannot update container %s: Container is marked for removal and cannot be %q.", def.ID, "update")
	}
	next := def
	if next.Host, err = request.Update(def.Host, u, s.cfg.Host.CPUs); err != nil {
		return none, fmt.Errorf("Cannot update container %s: %w", def.ID, err) //nolint:staticcheck // docker's words
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), startTimeout)
	defer cancel()
	if err := s.update(ctx, c, def, next); err != nil {
		return none, fmt.Errorf("Cannot update container %s: %w", def.ID, err) //nolint:staticcheck // docker's words
	}
	return none, nil
}

// update makes next of old. c.op is held.
func (s *Service) update(ctx context.Context, c *container, old, next record.Definition) error {
	happened := record.Event(next, events.ActionUpdate)
	if _, st := c.view(); !st.Alive() {
		return s.redefine(c, next, happened)
	}
	if err := s.setUpdating(c, true); err != nil {
		return err
	}
	err := s.redefine(c, next)
	if err == nil {
		if err = s.enforce(ctx, c); err == nil {
			return s.setUpdating(c, false, happened)
		}
		// What the kernel does not take is not to be tried at every start.
		err = errors.Join(err, s.redefine(c, old), s.enforce(ctx, c))
	}
	return errors.Join(err, s.setUpdating(c, false))
}

// redefine records what a container is from now on.
func (s *Service) redefine(c *container, def record.Definition, happened ...events.Message) error {
	if err := s.records.PutDefinition(def, happened...); err != nil {
		return fmt.Errorf("record container %s: %w", def.Name, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.def = def
	return nil
}

// setUpdating records whether the kernel may know other limits than the record.
func (s *Service) setUpdating(c *container, on bool, happened ...events.Message) error {
	return s.change(c, func(_ record.Definition, st *record.State) ([]events.Message, bool) {
		st.Updating = on
		return happened, true
	})
}

// enforce makes the limits of a container that runs those of its record.
func (s *Service) enforce(ctx context.Context, c *container) error {
	def, st := c.view()
	err := s.launcher.Update(ctx, def)
	if err == nil {
		return nil
	}
	if f := process.Open(st); f != nil {
		f.Close()
		return err
	}
	return nil // it has ended meanwhile
}

// finishUpdate does what an engine was about to do that was killed in an update.
func (s *Service) finishUpdate(ctx context.Context, c *container) {
	def, st := c.view()
	if !st.Updating || !st.Alive() {
		return
	}
	err := s.enforce(ctx, c)
	if err == nil {
		err = s.setUpdating(c, false, record.Event(def, events.ActionUpdate))
	}
	if err != nil {
		s.log.Error("finish the update of a container", "container", c.id, "err", err)
	}
}
