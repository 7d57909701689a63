package container

import (
	"context"
	"slices"

	api "github.com/moby/moby/api/types/container"

	"lade/internal/engine/container/record"
	"lade/internal/errdefs"
)

// waiter is one answer that somebody waits for.
type waiter struct {
	cond api.WaitCondition
	ch   chan api.WaitResponse // with room for the one answer
}

// Wait returns a channel on which one answer arrives when the condition
// holds. No change after Wait has returned is missed.
func (s *Service) Wait(ctx context.Context, ref string, cond api.WaitCondition) (<-chan api.WaitResponse, error) {
	switch cond {
	case "":
		cond = api.WaitConditionNotRunning
	case api.WaitConditionNotRunning, api.WaitConditionNextExit, api.WaitConditionRemoved:
	default:
		return nil, errdefs.New(errdefs.Invalid, "invalid condition: %q", cond)
	}
	w := &waiter{cond, make(chan api.WaitResponse, 1)}
	c, err := s.lookup(ref)
	if err != nil {
		// It may have ended and removed itself while no engine was there to
		// tell: then its end is still known.
		if st, ok := s.records.Ended(ref); ok {
			w.ch <- answer(st)
			return w.ch, nil
		}
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone || cond == api.WaitConditionNotRunning && !c.state.Alive() {
		w.ch <- answer(c.state)
		return w.ch, nil
	}
	c.waiters = append(c.waiters, w)
	context.AfterFunc(ctx, func() { c.forget(w) })
	return w.ch, nil
}

func answer(st record.State) api.WaitResponse {
	r := api.WaitResponse{StatusCode: int64(st.ExitCode)}
	if st.Error != "" && !st.FinishedAt.IsZero() { // why it did not start, Start has said
		r.Error = &api.WaitExitError{Message: st.Error}
	}
	return r
}

// forget drops a waiter whose client has left.
func (c *container) forget(w *waiter) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiters = slices.DeleteFunc(c.waiters, func(o *waiter) bool { return o == w })
}

// wake answers those who wait for an exit, and on removal everybody. c.mu is held.
func (c *container) wake(cond api.WaitCondition, st record.State) {
	c.waiters = slices.DeleteFunc(c.waiters, func(w *waiter) bool {
		if cond != api.WaitConditionRemoved && w.cond == api.WaitConditionRemoved {
			return false
		}
		w.ch <- answer(st)
		return true
	})
}
