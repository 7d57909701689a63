package container

import (
	"context"
	"fmt"
	"slices"
	"strings"

	api "github.com/moby/moby/api/types/container"

	"lade/internal/engine/container/record"
	"lade/internal/errdefs"
)

// waiter is one answer that somebody waits for.
type waiter struct {
	cond api.WaitCondition
	ch   chan api.WaitResponse // with room for the one answer
}

// Waiting is a wait that stands.
type Waiting struct {
	ID     string                  // of the container
	Answer <-chan api.WaitResponse // on which one answer arrives
	// Since names the run of the container that was when the wait began. With it,
	// the Wait of an engine that took over goes on as if it had begun then.
	Since string
}

// Wait waits for a condition. No change after it has returned is missed, and
// none after the moment that since names, which may be empty for now.
func (s *Service) Wait(ctx context.Context, ref string, cond api.WaitCondition, since string) (Waiting, error) {
	switch cond {
	case "":
		cond = api.WaitConditionNotRunning
	case api.WaitConditionNotRunning, api.WaitConditionNextExit, api.WaitConditionRemoved:
	default:
		return Waiting{}, errdefs.New(errdefs.Invalid, "invalid condition: %q", cond)
	}
	w := &waiter{cond, make(chan api.WaitResponse, 1)}
	c, err := s.lookup(ref)
	if err != nil {
		// It may have ended and removed itself while no engine was there to
		// tell: then its end is still known.
		if st, ok := s.records.Ended(ref); ok {
			w.ch <- answer(st)
			return Waiting{ID: ref, Answer: w.ch}, nil
		}
		return Waiting{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if since == "" {
		since = runOf(c.state)
	}
	out := Waiting{ID: c.id, Answer: w.ch, Since: since}
	if c.gone || cond == api.WaitConditionNotRunning && !c.state.Up() || cond == api.WaitConditionNextExit && endedSince(since, c.state) {
		w.ch <- answer(c.state)
		return out, nil
	}
	c.waiters = append(c.waiters, w)
	context.AfterFunc(ctx, func() { c.forget(w) })
	return out, nil
}

// runOf names the last run of a container, and whether it is over.
func runOf(st record.State) string {
	return fmt.Sprintf("%d.%t", st.StartedAt.UnixNano(), st.Alive())
}

// endedSince reports whether a run has ended since the moment that since names.
func endedSince(since string, st record.State) bool {
	now := runOf(st)
	if since == now {
		return false
	}
	// A run that was over then, and one that goes on now: the first since.
	return strings.HasSuffix(since, ".true") || !st.Alive()
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
