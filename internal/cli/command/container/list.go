package container

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"

	"lade/client"
	"lade/internal/cli/command"
	"lade/internal/cli/format"
)

type listOptions struct {
	all, latest, noTrunc, quiet, size bool
	last                              int
	filters                           []string
	format                            string
}

// NewList returns the command ps, or ls in its group.
func NewList(env *command.Env, name string, aliases ...string) *cobra.Command {
	var o listOptions
	cmd := &cobra.Command{
		Use:               name + " [OPTIONS]",
		Aliases:           aliases,
		Short:             "List containers",
		Args:              command.Exactly(0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return o.run(cmd, env) },
	}
	fs := cmd.Flags()
	fs.BoolVarP(&o.all, "all", "a", false, "Show all containers (default shows just running)")
	fs.BoolVarP(&o.latest, "latest", "l", false, "Show the latest created container (includes all states)")
	fs.IntVarP(&o.last, "last", "n", -1, "Show n last created containers (includes all states)")
	fs.BoolVar(&o.noTrunc, "no-trunc", false, "Don't truncate output")
	fs.BoolVarP(&o.quiet, "quiet", "q", false, "Only display container IDs")
	fs.BoolVarP(&o.size, "size", "s", false, "Display total file sizes")
	fs.StringArrayVarP(&o.filters, "filter", "f", nil, "Filter output based on conditions provided")
	fs.StringVar(&o.format, "format", "", command.FormatUsage)
	return cmd
}

func (o *listOptions) run(cmd *cobra.Command, env *command.Env) error {
	filters, err := command.Filters(o.filters)
	if err != nil {
		return err
	}
	c, err := env.Client()
	if err != nil {
		return err
	}
	opts := client.ListOptions{All: o.all, Limit: o.last, Size: o.size || strings.Contains(o.format, ".Size"), Filters: filters}
	if o.latest {
		opts.Limit = 1
	}
	containers, err := c.ListContainers(cmd.Context(), opts)
	if err != nil {
		return err
	}
	t := format.Table{
		Format: o.format, Quiet: o.quiet, Key: "ID", Headers: listHeaders,
		Default: `{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}`,
	}
	if o.size {
		t.Default += `\t{{.Size}}`
	}
	rows := make([]containerRow, len(containers))
	now := time.Now()
	for i, s := range containers {
		rows[i] = containerRow{s: s, whole: o.noTrunc, now: now}
	}
	return format.Write(env.Out, t, rows)
}

// listHeaders are the headings of the columns.
var listHeaders = map[string]string{
	"ID": "CONTAINER ID", "Names": "NAMES", "Image": "IMAGE", "Command": "COMMAND", "CreatedAt": "CREATED AT",
	"RunningFor": "CREATED", "Ports": "PORTS", "State": "STATE", "Status": "STATUS", "Size": "SIZE", "Labels": "LABELS",
	"Mounts": "MOUNTS", "LocalVolumes": "LOCAL VOLUMES", "Networks": "NETWORKS", "Platform": "PLATFORM",
}

// containerRow is a line of ps.
type containerRow struct {
	s     container.Summary
	whole bool
	now   time.Time
}

func (containerRow) IsRow() {}

func (r containerRow) ID() string { return shortID(r.s.ID, r.whole) }

func (r containerRow) Names() string {
	var names []string
	for _, n := range r.s.Names {
		n = strings.TrimPrefix(n, "/")
		if r.whole || !strings.Contains(n, "/") { // the others are links
			names = append(names, n)
		}
	}
	return strings.Join(names, ",")
}

func (r containerRow) Image() string {
	switch {
	case r.s.Image == "":
		return "<no image>"
	case !r.whole && strings.HasPrefix(r.s.Image, "sha256:"):
		return shortID(strings.TrimPrefix(r.s.Image, "sha256:"), false)
	}
	return r.s.Image
}

func (r containerRow) Command() string {
	if r.whole {
		return strconv.Quote(r.s.Command)
	}
	return strconv.Quote(format.Ellipsis(r.s.Command, 20))
}

func (r containerRow) CreatedAt() string { return time.Unix(r.s.Created, 0).String() }

func (r containerRow) RunningFor() string { return format.Ago(time.Unix(r.s.Created, 0), r.now) }

func (r containerRow) Ports() string { return ports(r.s.Ports) }

func (r containerRow) State() string { return string(r.s.State) }

func (r containerRow) Status() string { return r.s.Status }

func (r containerRow) Size() string {
	s := format.Size(r.s.SizeRw)
	if r.s.SizeRootFs > 0 {
		s += fmt.Sprintf(" (virtual %s)", format.Size(r.s.SizeRootFs))
	}
	return s
}

func (r containerRow) Labels() string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(r.s.Labels)) {
		list = append(list, k+"="+r.s.Labels[k])
	}
	return strings.Join(list, ",")
}

// Label returns the value of one label.
func (r containerRow) Label(name string) string { return r.s.Labels[name] }

func (r containerRow) Mounts() string {
	var list []string
	for _, m := range r.s.Mounts {
		name := m.Name
		if name == "" {
			name = m.Source
		}
		if !r.whole {
			name = format.Ellipsis(name, 15)
		}
		list = append(list, name)
	}
	return strings.Join(list, ",")
}

func (r containerRow) LocalVolumes() string {
	n := 0
	for _, m := range r.s.Mounts {
		if m.Driver == "local" {
			n++
		}
	}
	return strconv.Itoa(n)
}

func (r containerRow) Networks() string {
	if r.s.NetworkSettings == nil {
		return ""
	}
	return strings.Join(slices.Sorted(maps.Keys(r.s.NetworkSettings.Networks)), ",")
}

// Platform returns the platform of the image, where the engine says it.
func (r containerRow) Platform() string {
	d := r.s.ImageManifestDescriptor
	if d == nil || d.Platform == nil {
		return ""
	}
	return d.Platform.OS + "/" + d.Platform.Architecture
}

// ports writes ports as Docker does: 0.0.0.0:8080->80/tcp, 443/tcp.
func ports(list []container.PortSummary) string {
	var out []string
	for _, p := range list {
		text := fmt.Sprintf("%d/%s", p.PrivatePort, p.Type)
		switch {
		case p.IP.IsValid() && p.IP.Is6():
			text = fmt.Sprintf("[%s]:%d->%s", p.IP, p.PublicPort, text)
		case p.IP.IsValid():
			text = fmt.Sprintf("%s:%d->%s", p.IP, p.PublicPort, text)
		}
		out = append(out, text)
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// shortID returns what is shown of an ID.
func shortID(id string, whole bool) string {
	if whole || len(id) <= 12 {
		return id
	}
	return id[:12]
}
