package container

import (
	"context"
	"fmt"
	"io"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"lade/api"
	"lade/client"
	"lade/internal/cli/attach"
	"lade/internal/cli/command"
	"lade/internal/cli/terminal"
	"lade/internal/errdefs"
)

type runOptions struct {
	creation
	detach     bool
	sigProxy   bool
	detachKeys string
	explain    bool
}

// NewRun returns the command run.
func NewRun(env *command.Env) *cobra.Command {
	var o runOptions
	cmd := o.command(env, "run", "Create and run a new container from an image", func(ctx context.Context, req container.CreateRequest) error {
		return o.run(ctx, env, req)
	})
	fs := cmd.Flags()
	fs.BoolVarP(&o.detach, "detach", "d", false, "Run container in background and print container ID")
	fs.BoolVar(&o.sigProxy, "sig-proxy", true, "Proxy received signals to the process")
	detachKeysFlag(fs, &o.detachKeys)
	fs.BoolVar(&o.explain, "explain", false, "Print each step that the kernel would be asked to take, and run nothing")
	return cmd
}

func (o *runOptions) run(ctx context.Context, env *command.Env, req container.CreateRequest) error {
	keys, err := detachKeys(o.detachKeys)
	if err != nil {
		return err
	}
	if err := o.connect(env, &req); err != nil {
		return err
	}
	if req.Tty {
		if rows, columns, ok := terminal.Size(env.Out); ok {
			req.HostConfig.ConsoleSize = [2]uint{rows, columns}
		}
	}
	s := &session{env: env, autoRemove: req.HostConfig.AutoRemove}
	s.streams = attach.Streams{TTY: req.Tty, DetachKeys: keys}
	if req.AttachStdin {
		s.streams.In = env.In
	}
	if req.AttachStdout {
		s.streams.Out = env.Out
	}
	if req.AttachStderr {
		s.streams.Err = env.Err
	}
	if s.id, err = o.create(ctx, env, req); err != nil {
		return err
	}
	if s.c, err = env.Client(); err != nil {
		return err
	}
	switch {
	case o.explain:
		return o.explainAndRemove(ctx, env, s)
	case o.detach:
		if err := s.c.StartContainer(ctx, s.id, ""); err != nil {
			return &command.ExitError{Status: command.StartStatus(err, command.StatusEngine), Err: err}
		}
		fmt.Fprintln(env.Out, s.id)
		return nil
	}
	return s.run(ctx, o.sigProxy, o.detachKeys)
}

// connect says in the request which of our streams the process gets.
func (o *runOptions) connect(env *command.Env, req *container.CreateRequest) error {
	stdin, stdout, stderr, chosen := o.Attached()
	switch {
	case o.detach && chosen:
		return errdefs.New(errdefs.Invalid, "conflicting options: cannot specify both --attach and --detach")
	case o.detach:
		return nil
	}
	req.AttachStdin, req.AttachStdout, req.AttachStderr = req.OpenStdin, true, true
	if chosen {
		req.AttachStdin, req.AttachStdout, req.AttachStderr = stdin, stdout, stderr
	}
	req.StdinOnce = req.OpenStdin && req.AttachStdin
	if req.Tty && req.AttachStdin && !terminal.Is(env.In) {
		err := errdefs.New(errdefs.Invalid, "cannot attach stdin to a TTY-enabled container because stdin is not a terminal")
		return errdefs.Hint(err, "leave out -t to pipe data")
	}
	return nil
}

// explainAndRemove shows how the container would be started. The container
// exists for that moment only: it is the engine and the runtime that explain,
// from the very values that they would start it with.
func (o *runOptions) explainAndRemove(ctx context.Context, env *command.Env, s *session) error {
	defer func() {
		_ = s.c.RemoveContainer(context.WithoutCancel(ctx), s.id, client.RemoveOptions{Force: true, Volumes: true})
	}()
	text, err := s.c.Explain(ctx, s.id, api.ExplainText)
	if err != nil {
		return err
	}
	defer text.Close()
	_, err = io.Copy(env.Out, text)
	return err
}

func detachKeysFlag(fs *pflag.FlagSet, keys *string) {
	fs.StringVar(keys, "detach-keys", "", "Override the key sequence for detaching a container")
}

// detachKeys parses the keys, or the default if there are none.
func detachKeys(list string) ([]byte, error) {
	if list == "" {
		list = terminal.DefaultDetachKeys
	}
	return terminal.ParseKeys(list)
}
