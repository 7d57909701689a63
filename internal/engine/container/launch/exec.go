package launch

import (
	"slices"

	api "github.com/moby/moby/api/types/container"

	"github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/engine/container/ocispec"
	"lade/internal/engine/container/record"
	"lade/internal/engine/container/users"
	"lade/internal/spec"
)

// ExecProcess derives the process of an exec: the container's own, with what
// the request says in place.
func ExecProcess(def record.Definition, st record.State, req api.ExecCreateRequest) (*specs.Process, error) {
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
