package container

import (
	"context"

	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"lade/internal/engine/container/record"
	"lade/internal/errdefs"
)

// Pause freezes a container's processes.
func (s *Service) Pause(ctx context.Context, ref string) error {
	return s.freeze(ctx, ref, api.StateRunning, api.StatePaused)
}

// Unpause lets them go on.
func (s *Service) Unpause(ctx context.Context, ref string) error {
	return s.freeze(ctx, ref, api.StatePaused, api.StateRunning)
}

func errRestarting(def record.Definition) error {
	return errdefs.New(errdefs.Conflict, "container %s is restarting, wait until the container is running", def.ID)
}

func (s *Service) freeze(ctx context.Context, ref string, from, to api.ContainerState) error {
	c, err := s.acquire(ctx, ref)
	if err != nil {
		return err
	}
	defer c.op.unlock()
	def, st := c.view()
	switch {
	case st.Status == api.StateRestarting:
		return errRestarting(def)
	case !st.Alive():
		return errdefs.New(errdefs.Conflict, "container %s is not running", def.ID)
	case st.Status != from && to == api.StatePaused:
		return errdefs.New(errdefs.Conflict, "container %s is already paused", def.ID)
	case st.Status != from:
		return errdefs.New(errdefs.Conflict, "container %s is not paused", def.ID)
	}
	command, action := "pause", events.ActionPause
	if to == api.StateRunning {
		command, action = "resume", events.ActionUnPause
	}
	if _, err := s.launcher.Command(ctx, def, command, def.ID); err != nil {
		return err
	}
	return s.change(c, func(def record.Definition, st *record.State) ([]events.Message, bool) {
		if !st.Alive() {
			return nil, false // it ended meanwhile
		}
		st.Status = to
		return []events.Message{record.Event(def, action)}, true
	})
}
