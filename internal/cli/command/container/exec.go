package container

import (
	"context"
	"errors"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"

	"lade/client"
	"lade/internal/cli/attach"
	"lade/internal/cli/command"
	"lade/internal/cli/request"
	"lade/internal/cli/terminal"
	"lade/internal/errdefs"
)

type execOptions struct {
	container.ExecCreateRequest
	interactive, detach bool
	detachKeys          string
	env, envFiles       []string
}

// NewExec returns the command exec.
func NewExec(env *command.Env) *cobra.Command {
	var o execOptions
	cmd := &cobra.Command{
		Use:               "exec [OPTIONS] CONTAINER COMMAND [ARG...]",
		Short:             "Execute a command in a running container",
		Args:              command.AtLeast(2),
		ValidArgsFunction: env.CompleteContainers("running"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Cmd = args[1:]
			return o.run(cmd.Context(), env, args[0])
		},
	}
	fs := cmd.Flags()
	fs.SetInterspersed(false)
	fs.BoolVarP(&o.detach, "detach", "d", false, "Detached mode: run command in the background")
	detachKeysFlag(fs, &o.detachKeys)
	fs.StringArrayVarP(&o.env, "env", "e", nil, "Set environment variables")
	fs.StringArrayVar(&o.envFiles, "env-file", nil, "Read in a file of environment variables")
	fs.BoolVarP(&o.interactive, "interactive", "i", false, "Keep STDIN open even if not attached")
	fs.BoolVar(&o.Privileged, "privileged", false, "Give extended privileges to the command")
	fs.BoolVarP(&o.Tty, "tty", "t", false, "Allocate a pseudo-TTY")
	fs.StringVarP(&o.User, "user", "u", "", "Username or UID (format: <name|uid>[:<group|gid>])")
	fs.StringVarP(&o.WorkingDir, "workdir", "w", "", "Working directory inside the container")
	return cmd
}

func (o *execOptions) run(ctx context.Context, env *command.Env, id string) error {
	if err := o.complete(env); err != nil {
		return err
	}
	keys, err := detachKeys(o.detachKeys)
	if err != nil {
		return err
	}
	c, err := env.Client()
	if err != nil {
		return err
	}
	execID, err := c.CreateExec(ctx, id, o.ExecCreateRequest)
	if err != nil {
		return startError(err)
	}
	if o.detach {
		return startError(c.StartExecDetached(ctx, execID, o.Tty))
	}
	streams := attach.Streams{Out: env.Out, Err: env.Err, TTY: o.Tty, DetachKeys: keys}
	if o.interactive {
		streams.In = env.In
	}
	restore, err := streams.Raw()
	if err != nil {
		return err
	}
	defer restore()
	stream, err := c.StartExec(ctx, execID, container.ExecStartRequest{Tty: o.Tty, ConsoleSize: o.ConsoleSize})
	if err != nil {
		return startError(err)
	}
	if o.Tty {
		stop := attach.FollowSize(ctx, env.Out, func(ctx context.Context, rows, columns uint) error {
			return c.ResizeExec(ctx, execID, rows, columns)
		})
		defer stop()
	}
	err = streams.Copy(ctx, stream, restore)
	restore()
	if errors.Is(err, attach.ErrDetached) {
		return nil
	}
	return exit(execCode(ctx, c, execID))
}

// complete fills the request in from flags, files and the terminal.
func (o *execOptions) complete(env *command.Env) error {
	for i, v := range o.env {
		var err error
		if o.env[i], err = request.Environment(v); err != nil {
			return err
		}
	}
	var err error
	if o.Env, err = request.EnvFile(o.envFiles, o.env); err != nil {
		return err
	}
	o.DetachKeys = o.detachKeys
	if !o.detach {
		o.AttachStdin, o.AttachStdout, o.AttachStderr = o.interactive, true, true
	}
	if o.Tty && o.AttachStdin && !terminal.Is(env.In) {
		err := errdefs.New(errdefs.Invalid, "the input device is not a TTY")
		return errdefs.Hint(err, "leave out -t to pipe data")
	}
	if rows, columns, ok := terminal.Size(env.Out); ok && o.Tty {
		o.ConsoleSize = &[2]uint{rows, columns}
	}
	return nil
}

// startError gives an error of starting a process the exit status that a shell
// would have.
func startError(err error) error {
	if err == nil {
		return nil
	}
	if errdefs.Is(err, errdefs.NotFound) { // the container, not the command
		return err
	}
	return &command.ExitError{Status: command.StartStatus(err, command.StatusFailed), Err: err}
}

// How long to ask for the exit code of a process whose output has ended: the
// API has no call that waits for one.
const (
	execPatience = 5 * time.Second
	execPause    = 5 * time.Millisecond
)

// execCode returns the exit code of a process whose output has ended. One that
// closed its output and lives on is let go, as with Docker.
func execCode(ctx context.Context, c *client.Client, execID string) (int, error) {
	deadline := time.After(execPatience)
	for pause := execPause; ; pause *= 2 {
		info, err := c.InspectExec(ctx, execID)
		switch {
		case err == nil && !info.Running && info.ExitCode != nil:
			return *info.ExitCode, nil
		case err != nil && !errors.Is(err, client.ErrConnection):
			return 0, err
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-deadline:
			return 0, err
		case <-time.After(pause):
		}
	}
}
