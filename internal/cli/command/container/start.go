package container

import (
	"context"

	"github.com/spf13/cobra"

	"lade/internal/cli/command"
	"lade/internal/cli/terminal"
	"lade/internal/errdefs"
)

type startOptions struct {
	attach, stdin bool
	detachKeys    string
}

// NewStart returns the command start.
func NewStart(env *command.Env) *cobra.Command {
	var o startOptions
	cmd := &cobra.Command{
		Use:               "start [OPTIONS] CONTAINER [CONTAINER...]",
		Short:             "Start one or more stopped containers",
		Args:              command.AtLeast(1),
		ValidArgsFunction: env.CompleteContainers("exited", "created"),
		RunE:              func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), env, args) },
	}
	fs := cmd.Flags()
	fs.BoolVarP(&o.attach, "attach", "a", false, "Attach STDOUT/STDERR and forward signals")
	fs.BoolVarP(&o.stdin, "interactive", "i", false, "Attach container's STDIN")
	detachKeysFlag(fs, &o.detachKeys)
	return cmd
}

func (o *startOptions) run(ctx context.Context, env *command.Env, args []string) error {
	c, err := env.Client()
	if err != nil {
		return err
	}
	if !o.attach && !o.stdin {
		return env.Each(args, func(id string) error { return c.StartContainer(ctx, id, "") })
	}
	if len(args) > 1 {
		return errdefs.New(errdefs.Invalid, "you cannot start and attach multiple containers at once")
	}
	keys, err := detachKeys(o.detachKeys)
	if err != nil {
		return err
	}
	info, err := c.InspectContainer(ctx, args[0])
	if err != nil {
		return err
	}
	s := newSession(env, info)
	s.c = c
	s.streams.DetachKeys = keys
	if o.stdin && info.Config != nil && info.Config.OpenStdin {
		s.streams.In = env.In
		if s.streams.TTY && !terminal.Is(env.In) {
			return errNoTerminal()
		}
	}
	if info.State != nil && info.State.Running {
		a := attachOptions{noStdin: s.streams.In == nil, sigProxy: true, detachKeys: o.detachKeys}
		return a.run(ctx, env, info.ID)
	}
	return s.run(ctx, true, o.detachKeys)
}
