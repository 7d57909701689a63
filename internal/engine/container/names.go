package container

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/events"

	"lade/internal/engine/container/record"
	"lade/internal/engine/container/words"
	"lade/internal/errdefs"
	"lade/internal/ident"
)

// lookup finds a container by id, name or the beginning of its id, in this order.
func (s *Service) lookup(ref string) (*container, error) {
	ref = strings.TrimPrefix(ref, "/")
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.byID[ref]; c != nil {
		return c, nil
	}
	if id, ok := s.names[ref]; ok && s.byID[id] != nil {
		return s.byID[id], nil
	}
	var found *container
	if ident.IsPrefix(ref) {
		for id, c := range s.byID {
			if !strings.HasPrefix(id, ref) {
				continue
			}
			if found != nil {
				return nil, errdefs.Hint(errdefs.New(errdefs.Invalid, "multiple IDs found with provided prefix: %s", ref), "give more of its characters")
			}
			found = c
		}
	}
	if found == nil {
		return nil, errdefs.New(errdefs.NotFound, "No such container: %s", ref)
	}
	return found, nil
}

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

// reserve takes a name, or makes one up if it is empty. Between reserve and the
// container's own entry the name stands for an id that lookup does not find.
func (s *Service) reserve(name, id string) (string, error) {
	name = strings.TrimPrefix(name, "/")
	if name != "" && !ident.IsName(name) {
		return "", errdefs.New(errdefs.Invalid, "Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if name != "" {
		if owner, taken := s.names[name]; taken {
			return "", nameTaken(name, owner)
		}
		s.names[name] = id
		return name, nil
	}
	for try := range 20 {
		name = words.Name()
		if try > 5 {
			name += fmt.Sprint(rand.IntN(1000))
		}
		if _, taken := s.names[name]; !taken {
			s.names[name] = id
			return name, nil
		}
	}
	name = ident.Short(id)
	s.names[name] = id
	return name, nil
}

func nameTaken(name, owner string) error {
	return errdefs.New(errdefs.Conflict, "Conflict. The container name \"/%s\" is already in use by container %q. You have to remove (or rename) that container to be able to reuse that name.", name, owner)
}

func (s *Service) release(name, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.names[name] == id {
		delete(s.names, name)
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
	if _, err := s.reserve(name, c.id); err != nil {
		return err
	}
	old := def.Name
	def.Name = name
	if err := s.records.PutDefinition(def, record.Event(def, events.ActionRename, "oldName", "/"+old)); err != nil {
		s.release(name, c.id)
		return fmt.Errorf("rename container %s: %w", old, err)
	}
	c.mu.Lock()
	c.def = def
	c.mu.Unlock()
	s.release(old, c.id)
	if s.cfg.Networks != nil {
		return s.cfg.Networks.Rename(ctx, c.id, name)
	}
	return nil
}

// all returns every container, the newest first.
func (s *Service) all() []*container {
	s.mu.Lock()
	list := make([]*container, 0, len(s.byID))
	for _, c := range s.byID {
		list = append(list, c)
	}
	s.mu.Unlock()
	slices.SortFunc(list, func(a, b *container) int {
		if n := b.created.Compare(a.created); n != 0 {
			return n
		}
		return strings.Compare(a.id, b.id)
	})
	return list
}
