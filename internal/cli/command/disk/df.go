// Package disk holds the commands about what lies on disk: system df, the prune
// of everything, and system check.
package disk

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/system"
	"github.com/spf13/cobra"

	"lade/api"
	"lade/internal/cli/command"
	"lade/internal/cli/format"
	"lade/internal/errdefs"
)

// NewUsage returns the command system df.
func NewUsage(env *command.Env) *cobra.Command {
	var verbose bool
	var text string
	cmd := &cobra.Command{
		Use:   "df [OPTIONS]",
		Short: "Show disk usage",
		Long: "Show how much disk images, containers and volumes take: allocated blocks, what the file system would give back.\n" +
			"With --verbose also the ledger: whose every byte below the data root is.",
		Args:              command.Exactly(0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usage(cmd.Context(), env, verbose, text)
		},
	}
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "Show detailed information on disk usage")
	cmd.Flags().StringVar(&text, "format", "", command.FormatUsage)
	return cmd
}

func usage(ctx context.Context, env *command.Env, verbose bool, text string) error {
	c, err := env.Client()
	if err != nil {
		return err
	}
	u, err := c.DiskUsage(ctx)
	if err != nil {
		return err
	}
	if u.ImageUsage == nil || u.ContainerUsage == nil || u.VolumeUsage == nil || u.BuildCacheUsage == nil {
		return errdefs.New(errdefs.Internal, "disk usage: the engine's answer lacks a part")
	}
	if !verbose {
		t := format.Table{Format: text, Default: `{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}`, Headers: usageHeaders}
		return format.Write(env.Out, t, usageRows(u))
	}
	l, err := c.Ledger(ctx)
	if err != nil {
		return err
	}
	d := detailsOf(u, l)
	if text != "" && text != "table" {
		return format.Value(env.Out, text, d)
	}
	return d.write(env.Out)
}

var usageHeaders = map[string]string{
	"Type": "TYPE", "TotalCount": "TOTAL", "Active": "ACTIVE", "Size": "SIZE", "Reclaimable": "RECLAIMABLE",
}

// usageRow is a line of system df.
type usageRow struct {
	kind              string
	total, active     int64
	size, reclaimable int64
}

func (usageRow) IsRow() {}

func (r usageRow) Type() string { return r.kind }

func (r usageRow) TotalCount() string { return strconv.FormatInt(r.total, 10) }

func (r usageRow) Active() string { return strconv.FormatInt(r.active, 10) }

func (r usageRow) Size() string { return format.FineSize(r.size) }

func (r usageRow) Reclaimable() string {
	if r.size == 0 {
		return format.FineSize(r.reclaimable)
	}
	return fmt.Sprintf("%s (%d%%)", format.FineSize(r.reclaimable), r.reclaimable*100/r.size)
}

func usageRows(u system.DiskUsage) []usageRow {
	i, c, v, b := u.ImageUsage, u.ContainerUsage, u.VolumeUsage, u.BuildCacheUsage
	return []usageRow{
		{"Images", i.TotalCount, i.ActiveCount, i.TotalSize, i.Reclaimable},
		{"Containers", c.TotalCount, c.ActiveCount, c.TotalSize, c.Reclaimable},
		{"Local Volumes", v.TotalCount, v.ActiveCount, v.TotalSize, v.Reclaimable},
		{"Build Cache", b.TotalCount, b.ActiveCount, b.TotalSize, b.Reclaimable},
	}
}

// details is what system df --verbose shows. A template sees Docker's names,
// and Ledger.
type details struct {
	Images     []map[string]any
	Containers []map[string]any
	Volumes    []map[string]any
	BuildCache []map[string]any
	Ledger     api.Ledger

	images     []imageRow
	containers []containerRow
	volumes    []volumeRow
	cache      []cacheRow
}

func detailsOf(u system.DiskUsage, l api.Ledger) details {
	d := details{Ledger: l}
	for _, s := range u.ImageUsage.Items {
		d.images = append(d.images, imageRows(s)...)
	}
	for _, s := range u.ContainerUsage.Items {
		d.containers = append(d.containers, containerRow{s})
	}
	for _, v := range u.VolumeUsage.Items {
		d.volumes = append(d.volumes, volumeRow{v})
	}
	for _, r := range u.BuildCacheUsage.Items {
		d.cache = append(d.cache, cacheRow{r})
	}
	d.Images, d.Containers, d.Volumes, d.BuildCache = fields(d.images), fields(d.containers), fields(d.volumes), fields(d.cache)
	return d
}

func fields[R format.Row](rows []R) []map[string]any {
	all := []map[string]any{}
	for _, r := range rows {
		all = append(all, format.Fields(r))
	}
	return all
}

func (d details) write(w io.Writer) error {
	fmt.Fprint(w, "Images space usage:\n\n")
	err := format.Write(w, format.Table{
		Default: `{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}`,
		Headers: detailHeaders("IMAGE ID"),
	}, d.images)
	if err != nil {
		return err
	}
	fmt.Fprint(w, "\nContainers space usage:\n\n")
	err = format.Write(w, format.Table{
		Default: `{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}`,
		Headers: detailHeaders("CONTAINER ID"),
	}, d.containers)
	if err != nil {
		return err
	}
	fmt.Fprint(w, "\nLocal Volumes space usage:\n\n")
	if err := format.Write(w, format.Table{Default: `{{.Name}}\t{{.Links}}\t{{.Size}}`, Headers: detailHeaders("")}, d.volumes); err != nil {
		return err
	}
	var cache int64
	for _, r := range d.cache {
		cache += r.r.Size
	}
	fmt.Fprintf(w, "\nBuild cache usage: %s\n\n", format.Size(cache))
	err = format.Write(w, format.Table{
		Default: `{{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}`,
		Headers: detailHeaders("CACHE ID"),
	}, d.cache)
	if err != nil {
		return err
	}
	return writeLedger(w, d.Ledger)
}

func detailHeaders(id string) map[string]string {
	return map[string]string{
		"ID": id, "Repository": "REPOSITORY", "Tag": "TAG", "CreatedSince": "CREATED", "Size": "SIZE", "SharedSize": "SHARED SIZE",
		"UniqueSize": "UNIQUE SIZE", "Containers": "CONTAINERS", "Image": "IMAGE", "Command": "COMMAND", "LocalVolumes": "LOCAL VOLUMES",
		"RunningFor": "CREATED", "Status": "STATUS", "Names": "NAMES", "Name": "VOLUME NAME", "Links": "LINKS",
		"CacheType": "CACHE TYPE", "LastUsedSince": "LAST USED", "UsageCount": "USAGE", "Shared": "SHARED",
	}
}

// ledgerRow is a line of the ledger: all that is of one kind.
type ledgerRow struct {
	kind         string
	files, bytes int64
}

func (ledgerRow) IsRow() {}

func (r ledgerRow) Kind() string { return r.kind }

func (r ledgerRow) Files() string { return strconv.FormatInt(r.files, 10) }

func (r ledgerRow) Bytes() string { return strconv.FormatInt(r.bytes, 10) }

func (r ledgerRow) Size() string { return format.Size(r.bytes) }

// kinds are the kinds of the ledger in the order in which they are shown, and
// in words.
func kinds() [][2]string {
	return [][2]string{
		{"blob", "images: blobs"},
		{"layer", "images: layers"},
		{"supplement", "images: supplements"},
		{"unused", "of no image, kept for a pull"},
		{"writable layer", "containers: writable layers"},
		{"log", "containers: logs"},
		{"container file", "containers: other files"},
		{"volume", "volumes"},
		{"build cache", "build cache"},
		{"temporary", "in the making or going"},
		{"record", "records"},
		{"directory", "directories of the store"},
		{"", "unowned"},
	}
}

// writeLedger shows the ledger by kind, and what is unowned by name.
func writeLedger(w io.Writer, l api.Ledger) error {
	sums := map[string]*ledgerRow{}
	for _, line := range l.Lines {
		s := sums[line.Kind]
		if s == nil {
			s = &ledgerRow{kind: line.Kind}
			sums[line.Kind] = s
		}
		s.files += line.Files
		s.bytes += line.Bytes
	}
	var rows []ledgerRow
	for _, k := range kinds() {
		s := sums[k[0]]
		delete(sums, k[0])
		if s == nil {
			s = &ledgerRow{}
		}
		rows = append(rows, ledgerRow{k[1], s.files, s.bytes})
	}
	for kind, s := range sums { // of a newer engine
		rows = append(rows, ledgerRow{kind, s.files, s.bytes})
	}
	rows = append(rows, ledgerRow{"all", l.Files, l.Bytes})
	fmt.Fprintf(w, "\nAll of %s:\n\n", l.Root)
	err := format.Write(w, format.Table{
		Default: `{{.Kind}}\t{{.Files}}\t{{.Bytes}}\t{{.Size}}`,
		Headers: map[string]string{"Kind": "OWNER", "Files": "FILES", "Bytes": "BYTES", "Size": "SIZE"},
	}, rows)
	if err != nil {
		return err
	}
	for _, line := range l.Lines {
		if line.Kind == "" {
			fmt.Fprintf(w, "unowned: %s\n", line.Path)
		}
	}
	return nil
}

// imageRows returns a line for each tag of an image.
func imageRows(s image.Summary) []imageRow {
	if len(s.RepoTags) == 0 {
		row := imageRow{s, "<none>", "<none>"}
		if len(s.RepoDigests) > 0 {
			row.repo, _, _ = strings.Cut(s.RepoDigests[0], "@")
		}
		return []imageRow{row}
	}
	var rows []imageRow
	for _, ref := range s.RepoTags {
		repo, tag, _ := command.SplitReference(ref)
		rows = append(rows, imageRow{s, repo, tag})
	}
	return rows
}
