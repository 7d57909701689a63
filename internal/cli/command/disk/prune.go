package disk

import (
	"context"
	"fmt"
	"io"
	"maps"
	"strings"

	"github.com/spf13/cobra"

	"lade/client"
	"lade/internal/cli/command"
	"lade/internal/cli/format"
	"lade/internal/errdefs"
)

// pruneOptions are the flags of all prunes.
type pruneOptions struct {
	force, all, volumes bool
	filters             []string
}

func (o *pruneOptions) command(env *command.Env, use, short string, run func(context.Context, *command.Env) error) *cobra.Command {
	cmd := &cobra.Command{
		Use:               use,
		Short:             short,
		Args:              command.Exactly(0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return run(cmd.Context(), env) },
	}
	cmd.Flags().BoolVarP(&o.force, "force", "f", false, "Do not prompt for confirmation")
	return cmd
}

// NewPruneContainers returns the command container prune.
func NewPruneContainers(env *command.Env) *cobra.Command {
	var o pruneOptions
	cmd := o.command(env, "prune [OPTIONS]", "Remove all stopped containers", func(ctx context.Context, env *command.Env) error {
		return o.one(ctx, env, client.Containers, "WARNING! This will remove all stopped containers.", nil)
	})
	cmd.Flags().StringArrayVar(&o.filters, "filter", nil, `Provide filter values (e.g. "until=<timestamp>")`)
	return cmd
}

// NewPruneImages returns the command image prune.
func NewPruneImages(env *command.Env) *cobra.Command {
	var o pruneOptions
	cmd := o.command(env, "prune [OPTIONS]", "Remove unused images", func(ctx context.Context, env *command.Env) error {
		warning, extra := "WARNING! This will remove all dangling images.", client.Filters{"dangling": {"true"}}
		if o.all {
			warning, extra = "WARNING! This will remove all images without at least one container associated to them.", client.Filters{"dangling": {"false"}}
		}
		return o.one(ctx, env, client.Images, warning, extra)
	})
	cmd.Flags().BoolVarP(&o.all, "all", "a", false, "Remove all unused images, not just dangling ones")
	cmd.Flags().StringArrayVar(&o.filters, "filter", nil, `Provide filter values (e.g. "until=<timestamp>")`)
	return cmd
}

// one prunes one noun.
func (o *pruneOptions) one(ctx context.Context, env *command.Env, noun, warning string, extra client.Filters) error {
	filters, err := command.Filters(o.filters)
	if err != nil {
		return err
	}
	maps.Copy(filters, extra)
	if !o.force && !env.Confirm(warning) {
		return nil
	}
	c, err := env.Client()
	if err != nil {
		return err
	}
	p, err := c.Prune(ctx, noun, filters)
	if err != nil {
		return err
	}
	writePruned(env.Out, p)
	fmt.Fprintf(env.Out, "Total reclaimed space: %s\n", format.FineSize(int64(p.SpaceReclaimed)))
	return nil
}

// NewPrune returns the command system prune.
func NewPrune(env *command.Env) *cobra.Command {
	var o pruneOptions
	cmd := o.command(env, "prune [OPTIONS]", "Remove unused data", o.everything)
	cmd.Flags().BoolVarP(&o.all, "all", "a", false, "Remove all unused images not just dangling ones")
	cmd.Flags().BoolVar(&o.volumes, "volumes", false, "Prune anonymous volumes")
	cmd.Flags().StringArrayVar(&o.filters, "filter", nil, `Provide filter values (e.g. "label=<key>=<value>")`)
	return cmd
}

func (o *pruneOptions) everything(ctx context.Context, env *command.Env) error {
	filters, err := command.Filters(o.filters)
	if err != nil {
		return err
	}
	if len(filters["until"]) > 0 && o.volumes {
		return errdefs.New(errdefs.Invalid, `the "until" filter is not supported with "--volumes"`)
	}
	if !o.force && !env.Confirm(o.warning()) {
		return nil
	}
	c, err := env.Client()
	if err != nil {
		return err
	}
	images := maps.Clone(filters)
	images["dangling"] = []string{map[bool]string{true: "false", false: "true"}[o.all]}
	steps := []struct {
		noun    string
		filters client.Filters
	}{{client.Containers, filters}, {client.Networks, filters}, {client.Volumes, filters}, {client.Images, images}, {client.Build, filters}}
	var space uint64
	for _, s := range steps {
		if s.noun == client.Volumes && !o.volumes {
			continue
		}
		p, err := c.Prune(ctx, s.noun, s.filters)
		switch {
		// An engine without that noun has nothing of it.
		case errdefs.Is(err, errdefs.NotFound), errdefs.Is(err, errdefs.NotImplemented):
			continue
		case err != nil:
			return fmt.Errorf("prune %s: %w", s.noun, err)
		}
		writePruned(env.Out, p)
		space += p.SpaceReclaimed
	}
	fmt.Fprintf(env.Out, "Total reclaimed space: %s\n", format.FineSize(int64(space)))
	return nil
}

func (o *pruneOptions) warning() string {
	lines := []string{"WARNING! This will remove:", "  - all stopped containers", "  - all networks not used by at least one container"}
	if o.volumes {
		lines = append(lines, "  - all anonymous volumes not used by at least one container")
	}
	if o.all {
		lines = append(lines, "  - all images without at least one container associated to them", "  - all build cache")
	} else {
		lines = append(lines, "  - all dangling images", "  - unused build cache")
	}
	if len(o.filters) > 0 {
		lines = append(lines, "", "  Items to be pruned will be filtered with:")
		for _, f := range o.filters {
			lines = append(lines, "  - "+f)
		}
	}
	return strings.Join(append(lines, ""), "\n")
}

// writePruned lists what is gone, in Docker's words.
func writePruned(w io.Writer, p client.Pruned) {
	list := func(heading string, names []string) {
		if len(names) == 0 {
			return
		}
		fmt.Fprintf(w, "%s:\n%s\n\n", heading, strings.Join(names, "\n"))
	}
	list("Deleted Containers", p.ContainersDeleted)
	list("Deleted Networks", p.NetworksDeleted)
	list("Deleted Volumes", p.VolumesDeleted)
	var images []string
	for _, d := range p.ImagesDeleted {
		if d.Untagged != "" {
			images = append(images, "untagged: "+d.Untagged)
		}
		if d.Deleted != "" {
			images = append(images, "deleted: "+d.Deleted)
		}
	}
	list("Deleted Images", images)
	list("Deleted build cache objects", p.CachesDeleted)
}
