package container

import (
	"context"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"

	"lade/internal/cli/attach"
	"lade/internal/cli/command"
	"lade/internal/cli/terminal"
	"lade/internal/errdefs"
)

type attachOptions struct {
	noStdin, sigProxy bool
	detachKeys        string
}

// NewAttach returns the command attach.
func NewAttach(env *command.Env) *cobra.Command {
	var o attachOptions
	cmd := &cobra.Command{
		Use:               "attach [OPTIONS] CONTAINER",
		Short:             "Attach local standard input, output, and error streams to a running container",
		Args:              command.Exactly(1),
		ValidArgsFunction: env.CompleteContainers("running"),
		RunE:              func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), env, args[0]) },
	}
	fs := cmd.Flags()
	fs.BoolVar(&o.noStdin, "no-stdin", false, "Do not attach STDIN")
	fs.BoolVar(&o.sigProxy, "sig-proxy", true, "Proxy all received signals to the process")
	detachKeysFlag(fs, &o.detachKeys)
	return cmd
}

func (o *attachOptions) run(ctx context.Context, env *command.Env, id string) error {
	keys, err := detachKeys(o.detachKeys)
	if err != nil {
		return err
	}
	c, err := env.Client()
	if err != nil {
		return err
	}
	info, err := c.InspectContainer(ctx, id)
	if err != nil {
		return err
	}
	switch {
	case info.State == nil || info.Config == nil || !info.State.Running:
		err := errdefs.New(errdefs.Conflict, "cannot attach to container %s: it does not run", id)
		return errdefs.Hint(err, "start it with 'lade start -ai %s'", id)
	case info.State.Paused:
		err := errdefs.New(errdefs.Conflict, "cannot attach to container %s: it is paused", id)
		return errdefs.Hint(err, "let it go on with 'lade unpause %s'", id)
	}
	s := newSession(env, info)
	s.c = c
	s.streams.DetachKeys = keys
	if !o.noStdin && info.Config.OpenStdin {
		s.streams.In = env.In
		if info.Config.Tty && !terminal.Is(env.In) {
			return errdefs.Hint(errNoTerminal(), "use --no-stdin to watch only")
		}
	}
	restore, err := s.streams.Raw()
	if err != nil {
		return err
	}
	defer restore()
	if o.sigProxy {
		running := make(chan struct{})
		close(running)
		stop := s.forward(ctx, running, restore)
		defer stop()
	}
	wait, err := c.WaitContainer(ctx, s.id, container.WaitConditionNotRunning)
	if err != nil {
		return err
	}
	stream, err := s.attach(ctx, o.detachKeys)
	if err != nil {
		wait.Close()
		return err
	}
	// A program that fills the screen draws itself anew only when the size
	// changes: make it change.
	if rows, columns, ok := terminal.Size(env.Out); ok && info.Config.Tty {
		_ = c.ResizeContainer(ctx, s.id, rows+1, columns+1)
	}
	return s.finish(ctx, stream, wait, restore)
}

// newSession returns a session with all output of a container that exists.
func newSession(env *command.Env, info container.InspectResponse) *session {
	s := &session{env: env, id: info.ID}
	s.streams = attach.Streams{Out: env.Out, Err: env.Err}
	if info.Config != nil {
		s.streams.TTY = info.Config.Tty
	}
	if info.HostConfig != nil {
		s.autoRemove = info.HostConfig.AutoRemove
	}
	return s
}

func errNoTerminal() error {
	return errdefs.New(errdefs.Invalid, "cannot attach stdin to a TTY-enabled container because stdin is not a terminal")
}
