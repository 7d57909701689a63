// Package image holds the commands for images: images, pull, load, rmi and tag.
package image

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/moby/moby/api/types/jsonstream"
	"github.com/spf13/cobra"

	"lade/client"
	"lade/internal/cli/command"
	"lade/internal/cli/format"
	"lade/internal/cli/terminal"
	"lade/internal/errdefs"
)

// NewPull returns the command pull.
func NewPull(env *command.Env) *cobra.Command {
	var o client.PullOptions
	var quiet, all bool
	cmd := &cobra.Command{
		Use:               "pull [OPTIONS] NAME[:TAG|@DIGEST]",
		Short:             "Download an image from a registry",
		Args:              command.Exactly(1),
		ValidArgsFunction: env.CompleteImages(),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Ref = args[0]
			if all {
				return pullAll(cmd.Context(), env, o, quiet)
			}
			return pull(cmd.Context(), env, o, quiet)
		},
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "Suppress verbose output")
	cmd.Flags().StringVar(&o.Platform, "platform", "", "Set platform if server is multi-platform capable")
	cmd.Flags().BoolVarP(&all, "all-tags", "a", false, "Download all tagged images in the repository")
	trust(cmd)
	return cmd
}

// trust adds the flag of Docker's content trust, which has come to its end:
// images are verified as policy.json says, whatever the flag is.
func trust(cmd *cobra.Command) {
	cmd.Flags().Bool("disable-content-trust", true, "Skip image verification (has no effect)")
	cmd.Flags().Lookup("disable-content-trust").Hidden = true
}

// pullAll fetches each tag that a repository has in its registry. One that
// cannot be had does not keep the others waiting.
func pullAll(ctx context.Context, env *command.Env, o client.PullOptions, quiet bool) error {
	repository, tag, digest := command.SplitReference(o.Ref)
	if tag != "" || digest != "" {
		return errdefs.New(errdefs.Invalid, "tag can't be used with --all-tags/-a")
	}
	c, err := env.Client()
	if err != nil {
		return err
	}
	found, err := c.RemoteTags(ctx, repository, env.Auth(ctx, o.Ref))
	if err != nil {
		return err
	}
	var errs []error
	for _, t := range found.Tags {
		o.Ref = repository + ":" + t
		if err := pull(ctx, env, o, quiet); err != nil {
			errs = append(errs, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return command.Join(errs)
}

func pull(ctx context.Context, env *command.Env, o client.PullOptions, quiet bool) error {
	full := command.FullReference(o.Ref)
	if _, tag, digest := command.SplitReference(o.Ref); tag == "" && digest == "" && !quiet {
		fmt.Fprintln(env.Out, "Using default tag: latest")
	}
	c, err := env.Client()
	if err != nil {
		return err
	}
	o.Auth = env.Auth(ctx, o.Ref)
	p := progress(env.Out, quiet)
	err = c.PullImage(ctx, o, p.Message)
	p.Close()
	if err != nil {
		return err
	}
	fmt.Fprintln(env.Out, full)
	return nil
}

func progress(w io.Writer, quiet bool) *format.Progress {
	if quiet {
		return format.NewProgress(io.Discard, 0)
	}
	_, width, _ := terminal.Size(w)
	return format.NewProgress(w, int(width))
}

// NewLoad returns the command load.
func NewLoad(env *command.Env) *cobra.Command {
	var input string
	var quiet bool
	cmd := &cobra.Command{
		Use:               "load [OPTIONS]",
		Short:             "Load an image from a tar archive or STDIN",
		Args:              command.Exactly(0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return load(cmd.Context(), env, input, quiet) },
	}
	cmd.Flags().StringVarP(&input, "input", "i", "", "Read from tar archive file, instead of STDIN")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "Suppress the load output")
	return cmd
}

func load(ctx context.Context, env *command.Env, input string, quiet bool) error {
	archive := env.In
	switch {
	case input != "":
		f, err := os.Open(input)
		if err != nil {
			return fmt.Errorf("load images: %w", err)
		}
		defer f.Close()
		archive = f
	case terminal.Is(env.In):
		return errdefs.Hint(errdefs.New(errdefs.Invalid, "load images: the input is a terminal"),
			"name a file with --input, or pipe one in")
	}
	c, err := env.Client()
	if err != nil {
		return err
	}
	p := progress(env.Out, false)
	defer p.Close()
	return c.LoadImages(ctx, archive, quiet, func(m jsonstream.Message) {
		// What was loaded is said even to those who want it quiet.
		if !quiet || m.Stream != "" {
			p.Message(m)
		}
	})
}

// NewRemove returns the command rmi, or rm in its group.
func NewRemove(env *command.Env, name string, aliases ...string) *cobra.Command {
	var o client.RemoveImageOptions
	var platforms []string
	cmd := &cobra.Command{
		Use:               name + " [OPTIONS] IMAGE [IMAGE...]",
		Aliases:           aliases,
		Short:             "Remove one or more images",
		Args:              command.AtLeast(1),
		ValidArgsFunction: env.CompleteImages(),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, ref := range args {
				for _, p := range platforms {
					if err := env.HasPlatform(cmd.Context(), ref, p); err != nil {
						return err
					}
				}
			}
			return remove(cmd.Context(), env, args, o)
		},
	}
	cmd.Flags().BoolVarP(&o.Force, "force", "f", false, "Force removal of the image")
	cmd.Flags().StringSliceVar(&platforms, "platform", nil, "Remove only the given platform variant (os[/arch[/variant]])")
	cmd.Flags().BoolVar(&o.NoPrune, "no-prune", false, "Do not delete untagged parents")
	return cmd
}

func remove(ctx context.Context, env *command.Env, refs []string, o client.RemoveImageOptions) error {
	c, err := env.Client()
	if err != nil {
		return err
	}
	var errs []error
	for _, ref := range refs { // one after the other: they may share layers
		done, err := c.RemoveImage(ctx, ref, o)
		switch {
		case errdefs.Is(err, errdefs.NotFound) && o.Force:
			fmt.Fprintf(env.Err, "lade: %s\n", err)
		case err != nil:
			errs = append(errs, err)
		}
		for _, d := range done {
			if d.Untagged != "" {
				fmt.Fprintf(env.Out, "Untagged: %s\n", d.Untagged)
			}
			if d.Deleted != "" {
				fmt.Fprintf(env.Out, "Deleted: %s\n", d.Deleted)
			}
		}
	}
	return command.Join(errs)
}

// NewTag returns the command tag.
func NewTag(env *command.Env) *cobra.Command {
	return &cobra.Command{
		Use:               "tag SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
		Short:             "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
		Args:              command.Exactly(2),
		ValidArgsFunction: env.CompleteImages(),
		RunE: func(cmd *cobra.Command, args []string) error {
			if strings.Contains(args[1], "@") {
				return errdefs.New(errdefs.Invalid, "tag %s: the new name cannot have a digest", args[1])
			}
			c, err := env.Client()
			if err != nil {
				return err
			}
			return c.TagImage(cmd.Context(), args[0], args[1])
		},
	}
}
