package container

import (
	"context"

	"lade/internal/engine/container/depend"
	"lade/internal/engine/container/record"
	"lade/internal/errdefs"
)

// others shows the containers to those that depend on them.
type others struct{ s *Service }

// Look returns what is known of a container, and a channel that is closed when
// its state changes.
func (o others) Look(ref string) (record.Definition, record.State, <-chan struct{}, error) {
	c, err := o.s.lookup(ref)
	if err != nil {
		return record.Definition{}, record.State{}, nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.news == nil {
		c.news = make(chan struct{})
	}
	return c.def, c.state, c.news, nil
}

// StartFor starts a container that those depend on which path names.
func (o others) StartFor(ctx context.Context, ref string, path []string) error {
	return o.s.start(ctx, ref, path)
}

// startFirst starts what a container depends on. No lock is held meanwhile.
func (s *Service) startFirst(ctx context.Context, def record.Definition, path []string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	over := make(chan struct{})
	defer close(over)
	go func() {
		select {
		case <-s.quit:
			cancel(errdefs.New(errdefs.Unavailable, "the engine stops"))
		case <-over:
		}
	}()
	return depend.First(ctx, others{s}, def, path)
}

// set changes the state and tells those who wait for that. c.mu is held.
func (c *container) set(st record.State) {
	c.state = st
	c.changed()
}

// changed tells those who wait for a change. c.mu is held.
func (c *container) changed() {
	if c.news != nil {
		close(c.news)
		c.news = nil
	}
}
