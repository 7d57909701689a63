package system

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/volume"
	"github.com/spf13/cobra"

	"lade/api"
	"lade/client"
	"lade/internal/cli/command"
	"lade/internal/cli/format"
	"lade/internal/errdefs"
)

// The kinds of objects.
const (
	Container = "container"
	Image     = "image"
	Volume    = "volume"
	Network   = "network"
)

type inspectOptions struct {
	format, kind, platform string
	size                   bool
}

// NewInspect returns the command inspect: for all kinds of objects, or in a
// group for the one kind.
func NewInspect(env *command.Env, kind string) *cobra.Command {
	o := inspectOptions{kind: kind}
	cmd := &cobra.Command{
		Use:   "inspect [OPTIONS] NAME|ID [NAME|ID...]",
		Short: "Return low-level information on objects",
		Args:  command.AtLeast(1),
		RunE:  func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), env, args) },
	}
	fs := cmd.Flags()
	fs.StringVarP(&o.format, "format", "f", "", "Format output using a Go template, or 'json'")
	switch kind {
	case Image:
		cmd.ValidArgsFunction = env.CompleteImages()
		fs.StringVar(&o.platform, "platform", "", "Inspect a specific platform of the multi-platform image (os[/arch[/variant]])")
	case Volume:
		cmd.ValidArgsFunction = env.CompleteVolumes()
	case Network:
		fs.BoolP("verbose", "v", false, "Verbose output for diagnostics")
	case Container:
		cmd.ValidArgsFunction = env.CompleteContainers()
		fs.BoolVarP(&o.size, "size", "s", false, "Display total file sizes")
	default:
		cmd.ValidArgsFunction = env.CompleteContainers()
		fs.BoolVarP(&o.size, "size", "s", false, "Display total file sizes if the type is container")
		fs.StringVar(&o.kind, "type", "", "Only inspect objects of the given type (container|image|network|volume)")
	}
	return cmd
}

// object is one that was found: as it came, and a value of the type it has.
type object struct {
	raw   json.RawMessage
	typed any
}

func (o *inspectOptions) run(ctx context.Context, env *command.Env, names []string) error {
	switch o.kind {
	case "", Container, Image, Network, Volume:
	default:
		return errdefs.New(errdefs.Invalid, "--type %q: want container, image, network or volume", o.kind)
	}
	c, err := env.Client()
	if err != nil {
		return err
	}
	var found []object
	var errs []error
	for _, name := range names {
		obj, err := o.find(ctx, c, name)
		if err == nil {
			err = env.HasPlatform(ctx, name, o.platform)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		found = append(found, obj)
	}
	if err := o.write(env.Out, found); err != nil {
		errs = append(errs, err)
	}
	return command.Join(errs)
}

// find looks for an object among the kinds in turn.
func (o *inspectOptions) find(ctx context.Context, c *client.Client, name string) (object, error) {
	for _, kind := range []struct {
		name  string
		typed any
		ask   func() (json.RawMessage, error)
	}{
		{Container, &container.InspectResponse{}, func() (json.RawMessage, error) { return c.InspectContainerRaw(ctx, name, o.size) }},
		{Image, &image.InspectResponse{}, func() (json.RawMessage, error) { return c.InspectImageRaw(ctx, name) }},
		{Network, &network.Inspect{}, func() (json.RawMessage, error) { return c.InspectNetworkRaw(ctx, name) }},
		{Volume, &volume.Volume{}, func() (json.RawMessage, error) { return c.InspectVolumeRaw(ctx, name) }},
	} {
		if o.kind != "" && o.kind != kind.name {
			continue
		}
		raw, err := kind.ask()
		if err == nil {
			return object{raw, kind.typed}, nil
		}
		if o.kind != "" || !errdefs.Is(err, errdefs.NotFound) && !errdefs.Is(err, errdefs.Invalid) {
			return object{}, err
		}
	}
	err := errdefs.New(errdefs.NotFound, "no such object: %s", name)
	return object{}, errdefs.Hint(err, "'lade ps -a', 'lade images' and 'lade volume ls' list what there is")
}

func (o *inspectOptions) write(w io.Writer, found []object) error {
	if o.format == "" {
		var raw []json.RawMessage
		for _, obj := range found {
			raw = append(raw, obj.raw)
		}
		return format.Array(w, raw)
	}
	for _, obj := range found {
		if err := format.Object(w, o.format, obj.raw, obj.typed); err != nil {
			return err
		}
	}
	return nil
}

// NewExplain returns the command explain.
func NewExplain(env *command.Env) *cobra.Command {
	var kind string
	cmd := &cobra.Command{
		Use:   "explain [OPTIONS] CONTAINER",
		Short: "Print each step that the kernel is asked to take for a container",
		Long: "What is printed is the value that the runtime executes, in its order: namespaces, mounts, cgroups,\n" +
			"devices, capabilities, the system call filter, and at the end the program itself.",
		Args:              command.Exactly(1),
		ValidArgsFunction: env.CompleteContainers(),
		RunE: func(cmd *cobra.Command, args []string) error {
			if kind != api.ExplainText && kind != api.ExplainJSON {
				return errdefs.New(errdefs.Invalid, "--format %q: want text or json", kind)
			}
			c, err := env.Client()
			if err != nil {
				return err
			}
			text, err := c.Explain(cmd.Context(), args[0], kind)
			if err != nil {
				return err
			}
			_, err = io.Copy(env.Out, text)
			return errors.Join(err, text.Close())
		},
	}
	cmd.Flags().StringVar(&kind, "format", api.ExplainText, "text or json")
	return cmd
}

// NewInfo returns the command info.
func NewInfo(env *command.Env) *cobra.Command {
	var text string
	cmd := &cobra.Command{
		Use:               "info [OPTIONS]",
		Short:             "Display system-wide information",
		Args:              command.Exactly(0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := env.Client()
			if err != nil {
				return err
			}
			info, err := c.Info(cmd.Context())
			if err != nil {
				return err
			}
			if text != "" {
				return format.Value(env.Out, text, info)
			}
			if err := writeInfo(env.Out, info); err != nil {
				return err
			}
			for _, w := range info.Warnings {
				fmt.Fprintln(env.Err, w)
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&text, "format", "f", "", "Format output using a Go template, or 'json'")
	return cmd
}
