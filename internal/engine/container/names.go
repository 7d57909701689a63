package container

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/events"

	"lade/internal/engine/container/record"
	"lade/internal/errdefs"
)

// lookup finds a container by id, name or the beginning of its id, in this order.
func (s *Service) lookup(ref string) (*container, error) { return s.table.Find(ref) }

// acquire finds a container and takes its operation lock; the caller unlocks.
func (s *Service) acquire(ctx context.Context, ref string) (*container, error) {
	c, err := s.lookup(ref)
	if err != nil {
		return nil, err
	}
	for {
		if err := c.op.lock(ctx); err != nil {
			return nil, err
		}
		c.mu.Lock()
		gone, r, alive := c.gone, c.run, c.state.Alive()
		c.mu.Unlock()
		switch {
		case gone:
			c.op.unlock()
			return nil, errdefs.New(errdefs.NotFound, "No such container: %s", ref)
		case r == nil || alive:
			return c, nil
		}
		// It has ended, and what it had is not yet given back.
		c.op.unlock()
		select {
		case <-r.ended:
		case <-ctx.Done():
			return nil, errdefs.With(errdefs.Cancelled, context.Cause(ctx))
		}
	}
}

// Rename gives a container another name.
func (s *Service) Rename(ctx context.Context, ref, name string) error {
	name = strings.TrimPrefix(name, "/")
	if name == "" {
		return errdefs.New(errdefs.Invalid, "Neither old nor new names may be empty")
	}
	c, err := s.acquire(ctx, ref)
	if err != nil {
		return err
	}
	defer c.op.unlock()
	def, _ := c.view()
	if def.Name == name {
		return errdefs.New(errdefs.Invalid, "Renaming a container with the same name as its current name")
	}
	if _, err := s.table.Reserve(name, c.id); err != nil {
		return err
	}
	old := def.Name
	def.Name = name
	if err := s.redefine(c, def, record.Event(def, events.ActionRename, "oldName", "/"+old)); err != nil {
		s.table.Release(name, c.id)
		return fmt.Errorf("rename container %s: %w", old, err)
	}
	s.table.Release(old, c.id)
	if s.cfg.Networks != nil {
		return s.cfg.Networks.Rename(ctx, c.id, name)
	}
	return nil
}

// all returns every container, the newest first.
func (s *Service) all() []*container {
	list := s.table.All()
	slices.SortFunc(list, func(a, b *container) int {
		if n := b.created.Compare(a.created); n != 0 {
			return n
		}
		return strings.Compare(a.id, b.id)
	})
	return list
}
