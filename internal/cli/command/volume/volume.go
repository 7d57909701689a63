// Package volume holds the commands for volumes.
package volume

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/volume"
	"github.com/spf13/cobra"

	"lade/client"
	"lade/internal/cli/command"
	"lade/internal/cli/format"
	"lade/internal/cli/terminal"
	"lade/internal/errdefs"
)

// NewCreate returns the command volume create.
func NewCreate(env *command.Env) *cobra.Command {
	var req volume.CreateRequest
	var opts, labels []string
	cmd := &cobra.Command{
		Use:               "create [OPTIONS] [VOLUME]",
		Short:             "Create a volume",
		Args:              command.AtMost(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				if req.Name != "" {
					return errdefs.New(errdefs.Invalid, "conflicting options: cannot specify a volume-name through both --name and as a positional arg")
				}
				req.Name = args[0]
			}
			req.DriverOpts, req.Labels = pairs(opts), pairs(labels)
			c, err := env.Client()
			if err != nil {
				return err
			}
			v, err := c.CreateVolume(cmd.Context(), req)
			if err != nil {
				return err
			}
			fmt.Fprintln(env.Out, v.Name)
			return nil
		},
	}
	fs := cmd.Flags()
	fs.StringVarP(&req.Driver, "driver", "d", "local", "Specify volume driver name")
	fs.StringVar(&req.Name, "name", "", "Specify volume name")
	fs.Lookup("name").Hidden = true
	fs.StringArrayVarP(&opts, "opt", "o", nil, "Set driver specific options")
	fs.StringArrayVar(&labels, "label", nil, "Set metadata for a volume")
	return cmd
}

// pairs reads flags of the form key=value.
func pairs(flags []string) map[string]string {
	m := map[string]string{}
	for _, f := range flags {
		k, v, _ := strings.Cut(f, "=")
		m[k] = v
	}
	return m
}

// NewList returns the command volume ls.
func NewList(env *command.Env) *cobra.Command {
	var quiet, cluster bool
	var text string
	var flags []string
	cmd := &cobra.Command{
		Use:               "ls [OPTIONS]",
		Aliases:           []string{"list"},
		Short:             "List volumes",
		Args:              command.Exactly(0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			filters, err := command.Filters(flags)
			if err != nil {
				return err
			}
			c, err := env.Client()
			if err != nil {
				return err
			}
			list, err := c.ListVolumes(cmd.Context(), filters)
			if err != nil {
				return err
			}
			rows := make([]row, 0, len(list.Volumes))
			for _, v := range list.Volumes {
				rows = append(rows, row{v})
			}
			if cluster {
				rows = nil // there are none
			}
			return format.Write(env.Out, format.Table{
				Format: text, Quiet: quiet, Key: "Name", Default: `{{.Driver}}\t{{.Name}}`, Headers: headers,
			}, rows)
		},
	}
	fs := cmd.Flags()
	fs.BoolVarP(&quiet, "quiet", "q", false, "Only display volume names")
	fs.BoolVar(&cluster, "cluster", false, "Display only cluster volumes, and use cluster volume list formatting")
	fs.StringArrayVarP(&flags, "filter", "f", nil, `Provide filter values (e.g. "dangling=true")`)
	fs.StringVar(&text, "format", "", command.FormatUsage)
	return cmd
}

// headers are the headings of the columns.
var headers = map[string]string{
	"Driver": "DRIVER", "Name": "VOLUME NAME", "Scope": "SCOPE", "Mountpoint": "MOUNTPOINT", "Labels": "LABELS", "Links": "LINKS",
	"Size": "SIZE", "Group": "GROUP", "Availability": "AVAILABILITY", "Status": "STATUS",
}

// row is a line of volume ls.
type row struct{ v volume.Volume }

func (row) IsRow() {}

func (r row) Name() string { return r.v.Name }

func (r row) Driver() string { return r.v.Driver }

func (r row) Scope() string { return r.v.Scope }

func (r row) Mountpoint() string { return r.v.Mountpoint }

func (r row) Labels() string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(r.v.Labels)) {
		list = append(list, k+"="+r.v.Labels[k])
	}
	return strings.Join(list, ",")
}

// Label returns the value of one label.
func (r row) Label(name string) string { return r.v.Labels[name] }

func (r row) Links() string {
	if r.v.UsageData == nil {
		return "N/A"
	}
	return fmt.Sprint(r.v.UsageData.RefCount)
}

func (r row) Size() string {
	if r.v.UsageData == nil {
		return "N/A"
	}
	return format.Size(r.v.UsageData.Size)
}

func (r row) Group() string { return "N/A" }

func (r row) Availability() string { return "N/A" }

func (r row) Status() string { return "N/A" }

// NewRemove returns the command volume rm.
func NewRemove(env *command.Env) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:               "rm [OPTIONS] VOLUME [VOLUME...]",
		Aliases:           []string{"remove"},
		Short:             "Remove one or more volumes",
		Long:              "Remove one or more volumes. You cannot remove a volume that is in use by a container.",
		Args:              command.AtLeast(1),
		ValidArgsFunction: env.CompleteVolumes(),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := env.Client()
			if err != nil {
				return err
			}
			return env.Each(args, func(name string) error { return c.RemoveVolume(cmd.Context(), name, force) })
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Force the removal of one or more volumes")
	return cmd
}

// NewPrune returns the command volume prune.
func NewPrune(env *command.Env) *cobra.Command {
	var all, force bool
	var flags []string
	cmd := &cobra.Command{
		Use:               "prune [OPTIONS]",
		Short:             "Remove unused local volumes",
		Args:              command.Exactly(0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			filters, err := command.Filters(flags)
			if err != nil {
				return err
			}
			what := "anonymous local volumes"
			if all {
				if len(filters["all"]) > 0 {
					return errdefs.New(errdefs.Invalid, "conflicting options: cannot specify both --all and --filter all=1")
				}
				filters["all"] = []string{"true"}
				what = "all local volumes"
			}
			if !force && !confirm(env, "WARNING! This will remove "+what+" not used by at least one container.\nAre you sure you want to continue?") {
				return errdefs.New(errdefs.Cancelled, "volume prune has been cancelled")
			}
			return prune(cmd.Context(), env, filters)
		},
	}
	fs := cmd.Flags()
	fs.BoolVarP(&all, "all", "a", false, "Remove all unused volumes, not just anonymous ones")
	fs.BoolVarP(&force, "force", "f", false, "Do not prompt for confirmation")
	fs.StringArrayVar(&flags, "filter", nil, `Provide filter values (e.g. "label=<label>")`)
	return cmd
}

func prune(ctx context.Context, env *command.Env, filters client.Filters) error {
	c, err := env.Client()
	if err != nil {
		return err
	}
	report, err := c.PruneVolumes(ctx, filters)
	if err != nil {
		return err
	}
	if len(report.VolumesDeleted) > 0 {
		fmt.Fprintf(env.Out, "Deleted Volumes:\n%s\n\n", strings.Join(report.VolumesDeleted, "\n"))
	}
	fmt.Fprintf(env.Out, "Total reclaimed space: %s\n", format.Size(int64(report.SpaceReclaimed)))
	return nil
}

// confirm asks a person. Anything but yes is no, and so is the end of the input.
func confirm(env *command.Env, question string) bool {
	fmt.Fprint(env.Out, question+" [y/N] ")
	line, _ := bufio.NewReader(env.In).ReadString('\n')
	if !terminal.Is(env.In) {
		fmt.Fprintln(env.Out)
	}
	return strings.EqualFold(strings.TrimSpace(line), "y") || strings.EqualFold(strings.TrimSpace(line), "yes")
}

// NewUpdate returns the command volume update, which is for volumes of a
// cluster.
func NewUpdate(env *command.Env) *cobra.Command {
	var availability string
	cmd := &cobra.Command{
		Use:               "update [OPTIONS] VOLUME",
		Short:             "Update a volume (cluster volumes only)",
		Args:              command.Exactly(1),
		ValidArgsFunction: env.CompleteVolumes(),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := env.Client()
			if err != nil {
				return err
			}
			return c.UpdateVolume(cmd.Context(), args[0], map[string]any{"Spec": map[string]any{"Availability": availability}})
		},
	}
	cmd.Flags().StringVar(&availability, "availability", "active", `Cluster Volume availability ("active", "pause", "drain")`)
	return cmd
}
