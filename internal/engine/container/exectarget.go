package container

import (
	"context"

	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/engine/container/launch"
	"lade/internal/engine/container/record"
	"lade/internal/errdefs"
)

// ExecTarget is a running container, as a further process in it needs it.
type ExecTarget struct {
	ID     string
	Bundle string
	Shim   launch.Streams
	Ended  <-chan struct{} // closed when the container has ended
	// Say tells what happens to an exec: an action, and pairs of a name and a value.
	Say func(action string, pairs ...string)
	// Process derives the OCI process of an exec from its request.
	Process func(api.ExecCreateRequest) (*specs.Process, error)
}

// ExecTarget finds a running container.
func (s *Service) ExecTarget(_ context.Context, ref string) (ExecTarget, error) {
	c, err := s.lookup(ref)
	if err != nil {
		return ExecTarget{}, err
	}
	def, st := c.view()
	r, sh := c.current(), c.shimNow()
	switch {
	case st.Status == api.StatePaused:
		return ExecTarget{}, errdefs.New(errdefs.Conflict, "container %s is paused, unpause the container before exec", ref)
	case st.Status == api.StateRestarting:
		return ExecTarget{}, errRestarting(def)
	case !st.Alive() || r == nil:
		return ExecTarget{}, errdefs.New(errdefs.Conflict, "container %s is not running", def.ID)
	case sh == nil:
		return ExecTarget{}, errdefs.Hint(errdefs.New(errdefs.Unavailable, "container %s has lost its shim", def.ID), "restart the container")
	}
	return ExecTarget{
		ID: def.ID, Bundle: s.cfg.Bundle(def.ID), Shim: sh, Ended: r.ended,
		Say: func(action string, pairs ...string) {
			s.records.Say(record.Event(def, events.Action(action), pairs...))
		},
		Process: func(req api.ExecCreateRequest) (*specs.Process, error) { return launch.ExecProcess(def, st, req) },
	}, nil
}
