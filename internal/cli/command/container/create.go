// Package container holds the commands for containers: run, ps, logs and the
// others that Docker has under `docker container`.
package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/spf13/cobra"

	"lade/client"
	"lade/internal/cli/command"
	"lade/internal/cli/format"
	"lade/internal/cli/request"
	"lade/internal/cli/terminal"
	"lade/internal/errdefs"
)

// When to pull an image.
const (
	pullAlways  = "always"
	pullMissing = "missing"
	pullNever   = "never"
)

// creation is what run and create share.
type creation struct {
	request.Flags
	pull    string
	quiet   bool
	cidfile string
}

// request puts the create request together.
func (o *creation) request(cmd *cobra.Command, args []string) (container.CreateRequest, error) {
	switch o.pull {
	case pullAlways, pullMissing, pullNever:
	default:
		return container.CreateRequest{}, errdefs.New(errdefs.Invalid, "--pull %q: want always, missing or never", o.pull)
	}
	return o.Request(args[0], args[1:], cmd.Flags().Changed("entrypoint"))
}

// command returns a command that makes a container and goes on with it.
func (o *creation) command(env *command.Env, name, short string, run func(context.Context, container.CreateRequest) error) *cobra.Command {
	cmd := &cobra.Command{
		Use:               name + " [OPTIONS] IMAGE [COMMAND] [ARG...]",
		Short:             short,
		Args:              command.AtLeast(1),
		ValidArgsFunction: env.CompleteImages(),
		RunE: func(cmd *cobra.Command, args []string) error {
			req, err := o.request(cmd, args)
			if err == nil {
				err = run(cmd.Context(), req)
			}
			return command.WithStatus(command.StatusEngine, err)
		},
	}
	fs := cmd.Flags()
	o.Register(fs)
	fs.StringVar(&o.pull, "pull", pullMissing, `Pull image before running ("always", "missing", "never")`)
	fs.BoolVarP(&o.quiet, "quiet", "q", false, "Suppress the pull output")
	fs.StringVar(&o.cidfile, "cidfile", "", "Write the container ID to the file")
	return cmd
}

// NewCreate returns the command create.
func NewCreate(env *command.Env) *cobra.Command {
	var o creation
	return o.command(env, "create", "Create a new container", func(ctx context.Context, req container.CreateRequest) error {
		_, stdout, stderr, chosen := o.Attached()
		req.AttachStdin, req.AttachStdout, req.AttachStderr = req.OpenStdin, stdout || !chosen, stderr || !chosen
		req.StdinOnce = req.OpenStdin && req.AttachStdin
		id, err := o.create(ctx, env, req)
		if err != nil {
			return err
		}
		fmt.Fprintln(env.Out, id)
		return nil
	})
}

// create makes the container, after pulling its image if that is wanted or
// needed, and returns its ID.
func (o *creation) create(ctx context.Context, env *command.Env, req container.CreateRequest) (id string, err error) {
	cidfile, err := newCIDFile(o.cidfile)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, cidfile.close(id)) }()
	c, err := env.Client()
	if err != nil {
		return "", err
	}
	if o.pull == pullAlways {
		if err := o.fetch(ctx, env, c, req.Image); err != nil {
			return "", err
		}
	}
	opts := client.CreateOptions{Name: o.Name, Platform: o.Platform}
	resp, err := c.CreateContainer(ctx, req, opts)
	if o.pull == pullMissing && missingImage(err) {
		if !o.quiet {
			fmt.Fprintf(env.Err, "Unable to find image '%s' locally\n", withTag(req.Image))
		}
		if err := o.fetch(ctx, env, c, req.Image); err != nil {
			return "", err
		}
		resp, err = c.CreateContainer(ctx, req, opts)
	}
	if err != nil {
		return "", err
	}
	for _, w := range resp.Warnings {
		fmt.Fprintf(env.Err, "WARNING: %s\n", w)
	}
	return resp.ID, nil
}

// missingImage reports whether a create failed for want of the image, and not
// of a network or another container.
func missingImage(err error) bool {
	return errdefs.Is(err, errdefs.NotFound) && strings.Contains(strings.ToLower(err.Error()), "no such image")
}

func withTag(ref string) string {
	if _, tag, digest := command.SplitReference(ref); tag == "" && digest == "" {
		return ref + ":latest"
	}
	return ref
}

// fetch pulls to standard error: standard output is the container's.
func (o *creation) fetch(ctx context.Context, env *command.Env, c *client.Client, ref string) error {
	w := env.Err
	if o.quiet {
		w = io.Discard
	}
	_, width, _ := terminal.Size(w)
	p := format.NewProgress(w, int(width))
	defer p.Close()
	return c.PullImage(ctx, client.PullOptions{Ref: ref, Platform: o.Platform, Auth: env.Auth(ctx, ref)}, func(m jsonstream.Message) { p.Message(m) })
}

// cidFile is the file of --cidfile. It is made before the container, since a
// container whose ID could not be written would be lost to its script.
type cidFile struct {
	file *os.File
}

func newCIDFile(name string) (cidFile, error) {
	if name == "" {
		return cidFile{}, nil
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		err = errdefs.New(errdefs.Conflict, "container ID file found, make sure the other container isn't running or delete %s", name)
	}
	if err != nil {
		return cidFile{}, fmt.Errorf("create the container ID file: %w", err)
	}
	return cidFile{f}, nil
}

// close writes the ID, or takes the file away if there is none.
func (c cidFile) close(id string) error {
	if c.file == nil {
		return nil
	}
	defer c.file.Close()
	if id == "" {
		return os.Remove(c.file.Name())
	}
	if _, err := c.file.WriteString(id); err != nil {
		return fmt.Errorf("write the container ID: %w", err)
	}
	return nil
}
