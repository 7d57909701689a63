package container

import (
	"context"
	"fmt"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"

	"lade/client"
	"lade/internal/cli/command"
	"lade/internal/errdefs"
)

// each returns a command that does one thing to each container that is named.
func each(env *command.Env, use, short string, states []string, do func(ctx context.Context, c *client.Client, id string) error) *cobra.Command {
	return &cobra.Command{
		Use:               use,
		Short:             short,
		Args:              command.AtLeast(1),
		ValidArgsFunction: env.CompleteContainers(states...),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := env.Client()
			if err != nil {
				return err
			}
			return env.Each(args, func(id string) error { return do(cmd.Context(), c, id) })
		},
	}
}

// stopFlags are the flags of stop and restart.
type stopFlags struct {
	signal  string
	timeout int
}

func (f *stopFlags) register(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVarP(&f.signal, "signal", "s", "", "Signal to send to the container")
	fs.IntVarP(&f.timeout, "timeout", "t", 0, "Seconds to wait before killing the container")
	fs.IntVar(&f.timeout, "time", 0, "Seconds to wait before killing the container")
	fs.Lookup("time").Hidden = true // what timeout was called until docker 28
}

func (f *stopFlags) options(cmd *cobra.Command) client.StopOptions {
	o := client.StopOptions{Signal: f.signal}
	if cmd.Flags().Changed("timeout") || cmd.Flags().Changed("time") {
		o.Timeout = &f.timeout
	}
	return o
}

// NewStop returns the command stop.
func NewStop(env *command.Env) *cobra.Command {
	var f stopFlags
	var cmd *cobra.Command
	cmd = each(env, "stop [OPTIONS] CONTAINER [CONTAINER...]", "Stop one or more running containers", []string{"running"},
		func(ctx context.Context, c *client.Client, id string) error {
			return c.StopContainer(ctx, id, f.options(cmd))
		})
	f.register(cmd)
	return cmd
}

// NewRestart returns the command restart.
func NewRestart(env *command.Env) *cobra.Command {
	var f stopFlags
	var cmd *cobra.Command
	cmd = each(env, "restart [OPTIONS] CONTAINER [CONTAINER...]", "Restart one or more containers", nil,
		func(ctx context.Context, c *client.Client, id string) error {
			return c.RestartContainer(ctx, id, f.options(cmd))
		})
	f.register(cmd)
	return cmd
}

// NewKill returns the command kill.
func NewKill(env *command.Env) *cobra.Command {
	var signal string
	cmd := each(env, "kill [OPTIONS] CONTAINER [CONTAINER...]", "Kill one or more running containers", []string{"running"},
		func(ctx context.Context, c *client.Client, id string) error {
			return c.KillContainer(ctx, id, signal)
		})
	cmd.Flags().StringVarP(&signal, "signal", "s", "", "Signal to send to the container")
	return cmd
}

// NewPause returns the command pause.
func NewPause(env *command.Env) *cobra.Command {
	return each(env, "pause CONTAINER [CONTAINER...]", "Pause all processes within one or more containers", []string{"running"},
		func(ctx context.Context, c *client.Client, id string) error { return c.PauseContainer(ctx, id) })
}

// NewUnpause returns the command unpause.
func NewUnpause(env *command.Env) *cobra.Command {
	return each(env, "unpause CONTAINER [CONTAINER...]", "Unpause all processes within one or more containers", []string{"paused"},
		func(ctx context.Context, c *client.Client, id string) error { return c.UnpauseContainer(ctx, id) })
}

// NewRemove returns the command rm.
func NewRemove(env *command.Env) *cobra.Command {
	var o client.RemoveOptions
	cmd := each(env, "rm [OPTIONS] CONTAINER [CONTAINER...]", "Remove one or more containers", nil,
		func(ctx context.Context, c *client.Client, id string) error {
			err := c.RemoveContainer(ctx, id, o)
			switch {
			case o.Force && errdefs.Is(err, errdefs.NotFound):
				// What shall be gone is gone: scripts clean up this way.
				return &command.ExitError{Err: err}
			case errdefs.Is(err, errdefs.Conflict) && !o.Force && errdefs.HintOf(err) == "":
				return errdefs.Hint(err, "stop it first, or use rm --force")
			}
			return err
		})
	cmd.Aliases = []string{"remove"}
	cmd.Flags().BoolVarP(&o.Force, "force", "f", false, "Force the removal of a running container (uses SIGKILL)")
	cmd.Flags().BoolVarP(&o.Volumes, "volumes", "v", false, "Remove anonymous volumes associated with the container")
	return cmd
}

// NewWait returns the command wait.
func NewWait(env *command.Env) *cobra.Command {
	return &cobra.Command{
		Use:               "wait CONTAINER [CONTAINER...]",
		Short:             "Block until one or more containers stop, then print their exit codes",
		Args:              command.AtLeast(1),
		ValidArgsFunction: env.CompleteContainers("running"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := env.Client()
			if err != nil {
				return err
			}
			return env.EachPrints(args, func(id string) (string, error) { return waitFor(cmd.Context(), c, id) })
		},
	}
}

func waitFor(ctx context.Context, c *client.Client, id string) (string, error) {
	wait, err := c.WaitContainer(ctx, id, container.WaitConditionNotRunning)
	if err != nil {
		return "", err
	}
	code, err := exitCode(ctx, c, id, wait, container.WaitConditionNotRunning)
	if err != nil {
		return "", err
	}
	return fmt.Sprint(code), nil
}

// NewRename returns the command rename.
func NewRename(env *command.Env) *cobra.Command {
	return &cobra.Command{
		Use:               "rename CONTAINER NEW_NAME",
		Short:             "Rename a container",
		Args:              command.Exactly(2),
		ValidArgsFunction: env.CompleteContainers(),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := env.Client()
			if err != nil {
				return err
			}
			return c.RenameContainer(cmd.Context(), args[0], args[1])
		},
	}
}
