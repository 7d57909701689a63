package container

import (
	"context"
	"time"

	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"lade/internal/engine/container/record"
	"lade/internal/engine/container/restart"
)

// decide gives the state of a container that has ended what its restart policy
// makes of it. It goes into the same record as the end: an engine that is
// killed then leaves to the next one what was to be done.
func decide(def record.Definition, st record.State) record.State {
	pause, again := restart.Next(def.Host.RestartPolicy, restart.Ended{
		Code: st.ExitCode, Ran: st.FinishedAt.Sub(st.StartedAt), Count: st.Restarts, Pause: st.RestartPause, Stopped: st.Stopped,
	})
	if again {
		st.Status = api.StateRestarting
	}
	st.RestartPause = pause
	return st
}

// startLater starts a container again after its pause, unless something else
// happens to it meanwhile.
func (s *Service) startLater(ctx context.Context, c *container) {
	c.mu.Lock()
	c.attempt++
	attempt, pause := c.attempt, c.state.RestartPause
	c.mu.Unlock()
	ctx = context.WithoutCancel(ctx)
	s.running.Go(func() {
		timer := time.NewTimer(pause)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-s.quit:
			return // the next engine does it
		}
		def, _ := c.view()
		first := s.startFirst(ctx, def, nil)
		select {
		case c.op.held <- struct{}{}:
			defer c.op.unlock()
		case <-s.quit:
			return
		}
		s.startAgain(ctx, c, attempt, first)
	})
}

// startAgain starts a container for its policy, unless one that it depends on
// could not be. c.op is held.
func (s *Service) startAgain(ctx context.Context, c *container, attempt uint64, first error) {
	c.mu.Lock()
	off := c.gone || c.attempt != attempt || c.state.Status != api.StateRestarting
	c.mu.Unlock()
	if off {
		return
	}
	err := first
	if err == nil {
		err = s.begin(ctx, c)
	}
	if err == nil {
		return
	}
	s.log.Warn("start a container again", "container", c.id, "err", err)
	// Docker gives up here. What was missing may come: a device, a network, room
	// on the disk.
	def, st := c.view()
	st.StartedAt = time.Now().UTC()
	st.FinishedAt = st.StartedAt
	st.Status = api.StateExited
	st.Restarts++
	st = decide(def, st)
	if err := s.setState(c, def, st); err != nil {
		s.log.Error("record a failed start", "container", c.id, "err", err)
	}
	if st.Status == api.StateRestarting {
		s.startLater(ctx, c)
	}
}

// Resume starts what restart policies want to run and does not: after Adopt,
// once networks are there.
func (s *Service) Resume(ctx context.Context) {
	for _, c := range s.all() {
		def, st := c.view()
		if st.Status == api.StateExited && c.oldBoot && restart.AtBoot(def.Host.RestartPolicy, st.Stopped) {
			st.Status, st.Stopped, st.RestartPause = api.StateRestarting, false, 0
			if err := s.setState(c, def, st); err != nil {
				s.log.Error("start a container at boot", "container", c.id, "err", err)
				continue
			}
		}
		if st.Status == api.StateRestarting {
			s.startLater(ctx, c)
		}
	}
}

// change records a change of how a container is, which fn makes. If fn returns
// false, nothing changes.
func (s *Service) change(c *container, fn func(record.Definition, *record.State) (happened []events.Message, write bool)) error {
	c.rec.Lock()
	defer c.rec.Unlock()
	def, st := c.view()
	happened, write := fn(def, &st)
	if !write {
		return nil
	}
	if err := s.records.PutState(def, st, happened...); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.set(st)
	return nil
}

// setState records how a container is.
func (s *Service) setState(c *container, def record.Definition, st record.State, happened ...events.Message) error {
	c.rec.Lock()
	defer c.rec.Unlock()
	if err := s.records.PutState(def, st, happened...); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.set(st)
	if st.Status == api.StateExited {
		c.wake(api.WaitConditionNextExit, st)
	}
	return nil
}

// stopped notes that somebody wants a container to end: no policy starts it
// again.
func (s *Service) stopped(c *container) error {
	return s.change(c, func(def record.Definition, st *record.State) ([]events.Message, bool) {
		if st.Stopped || !st.Up() || def.Host.RestartPolicy.IsNone() {
			return nil, false
		}
		st.Stopped = true
		return nil, true
	})
}

// giveUp ends a container that is about to be started again. It reports whether
// there was one.
func (s *Service) giveUp(ctx context.Context, c *container) (bool, error) {
	if _, st := c.view(); st.Status != api.StateRestarting {
		return false, nil
	}
	c, err := s.acquire(ctx, c.id)
	if err != nil {
		return false, err
	}
	defer c.op.unlock()
	def, st := c.view()
	if st.Status != api.StateRestarting {
		return false, nil // it runs by now
	}
	st.Status, st.Stopped, st.RestartPause = api.StateExited, true, 0
	return true, s.setState(c, def, st, record.Event(def, events.ActionStop))
}
