package container

import (
	"context"
	"slices"

	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/engine/container/launch"
	"lade/internal/engine/container/ocispec"
	"lade/internal/engine/container/record"
	"lade/internal/engine/container/users"
	"lade/internal/errdefs"
	"lade/internal/spec"
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
		Process: func(req api.ExecCreateRequest) (*specs.Process, error) { return execProcess(def, st, req) },
	}, nil
}

// execProcess derives the process of an exec: the container's own, with what
// the request says in place.
func execProcess(def record.Definition, st record.State, req api.ExecCreateRequest) (*specs.Process, error) {
	user := req.User
	var groups []string
	if user == "" {
		user, groups = def.Config.User, def.Host.GroupAdd
	}
	// The container's root as its own processes see it. What is read there is
	// bounded, and never leads out of it.
	root, err := users.ProcessRoot(st.PID)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	who, err := users.Resolve(root, user, groups)
	if err != nil {
		return nil, err
	}
	in := ocispec.Input{ID: def.ID, Config: def.Config, Host: def.Host, Who: who}
	built, err := ocispec.Build(in)
	if err != nil {
		return nil, err
	}
	p := built.Process
	p.Args = req.Cmd
	p.Terminal = req.Tty
	p.ConsoleSize = nil
	if req.Tty && req.ConsoleSize != nil {
		p.ConsoleSize = &specs.Box{Height: req.ConsoleSize[0], Width: req.ConsoleSize[1]}
	}
	c := *def.Config
	c.Tty = req.Tty
	c.Env = slices.Concat(c.Env, req.Env)
	p.Env = ocispec.Env(&c, who.Home)
	if req.WorkingDir != "" {
		p.Cwd = req.WorkingDir
	}
	if req.Privileged {
		all, err := spec.AddDrop(nil, []string{"ALL"}, nil)
		if err != nil {
			return nil, err
		}
		p.Capabilities = &specs.LinuxCapabilities{Bounding: all, Effective: all, Permitted: all}
	}
	return p, nil
}
