package image

import (
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/image"
	"github.com/spf13/cobra"

	"lade/client"
	"lade/internal/cli/command"
	"lade/internal/cli/format"
)

type listOptions struct {
	all, digests, noTrunc, quiet bool
	filters                      []string
	format                       string
}

// NewList returns the command images, or ls in its group.
func NewList(env *command.Env, name string, aliases ...string) *cobra.Command {
	var o listOptions
	cmd := &cobra.Command{
		Use:               name + " [OPTIONS] [REPOSITORY[:TAG]]",
		Aliases:           aliases,
		Short:             "List images",
		Args:              command.AtMost(1),
		ValidArgsFunction: env.CompleteImages(),
		RunE:              func(cmd *cobra.Command, args []string) error { return o.run(cmd, env, args) },
	}
	fs := cmd.Flags()
	fs.BoolVarP(&o.all, "all", "a", false, "Show all images (default hides intermediate images)")
	fs.BoolVar(&o.digests, "digests", false, "Show digests")
	fs.BoolVar(&o.noTrunc, "no-trunc", false, "Don't truncate output")
	fs.BoolVarP(&o.quiet, "quiet", "q", false, "Only show image IDs")
	fs.StringArrayVarP(&o.filters, "filter", "f", nil, "Filter output based on conditions provided")
	fs.StringVar(&o.format, "format", "", command.FormatUsage)
	return cmd
}

func (o *listOptions) run(cmd *cobra.Command, env *command.Env, args []string) error {
	filters, err := command.Filters(o.filters)
	if err != nil {
		return err
	}
	if len(args) > 0 {
		filters["reference"] = append(filters["reference"], args[0])
	}
	c, err := env.Client()
	if err != nil {
		return err
	}
	images, err := c.ListImages(cmd.Context(), client.ListImagesOptions{All: o.all, Filters: filters})
	if err != nil {
		return err
	}
	t := format.Table{Format: o.format, Quiet: o.quiet, Key: "ID", Headers: listHeaders}
	t.Default = `{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}`
	if o.digests {
		t.Default = `{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}`
	}
	return format.Write(env.Out, t, o.rows(images))
}

// rows returns a line for each name of each image.
func (o *listOptions) rows(images []image.Summary) []imageRow {
	now := time.Now()
	var rows []imageRow
	for _, s := range images {
		digests := map[string]string{} // repository -> digest
		for _, d := range s.RepoDigests {
			if repo, digest, ok := strings.Cut(d, "@"); ok {
				digests[repo] = digest
			}
		}
		row := imageRow{s: s, repo: "<none>", tag: "<none>", digest: "<none>", whole: o.noTrunc, now: now}
		if o.quiet || len(s.RepoTags) == 0 {
			for repo, digest := range digests {
				row.repo, row.digest = repo, digest
			}
			rows = append(rows, row)
			continue
		}
		for _, ref := range s.RepoTags {
			r := row
			r.repo, r.tag, _ = command.SplitReference(ref)
			if d := digests[r.repo]; d != "" {
				r.digest = d
			}
			rows = append(rows, r)
		}
	}
	return rows
}

// listHeaders are the headings of the columns.
var listHeaders = map[string]string{
	"Repository": "REPOSITORY", "Tag": "TAG", "Digest": "DIGEST", "ID": "IMAGE ID", "CreatedSince": "CREATED",
	"CreatedAt": "CREATED AT", "Size": "SIZE", "Containers": "CONTAINERS", "SharedSize": "SHARED SIZE", "UniqueSize": "UNIQUE SIZE",
}

// imageRow is a line of images.
type imageRow struct {
	s                 image.Summary
	repo, tag, digest string
	whole             bool
	now               time.Time
}

func (imageRow) IsRow() {}

func (r imageRow) Repository() string { return r.repo }

func (r imageRow) Tag() string { return r.tag }

func (r imageRow) Digest() string { return r.digest }

func (r imageRow) ID() string {
	if r.whole {
		return r.s.ID
	}
	id := strings.TrimPrefix(r.s.ID, "sha256:")
	return id[:min(len(id), 12)]
}

func (r imageRow) CreatedSince() string { return format.Ago(time.Unix(r.s.Created, 0), r.now) }

func (r imageRow) CreatedAt() string { return time.Unix(r.s.Created, 0).String() }

func (r imageRow) Size() string { return format.Size(r.s.Size) }

func (r imageRow) Containers() string {
	if r.s.Containers < 0 {
		return "N/A"
	}
	return strconv.FormatInt(r.s.Containers, 10)
}

func (r imageRow) SharedSize() string {
	if r.s.SharedSize < 0 {
		return "N/A"
	}
	return format.Size(r.s.SharedSize)
}

func (r imageRow) UniqueSize() string {
	if r.s.SharedSize < 0 {
		return "N/A"
	}
	return format.Size(r.s.Size - r.s.SharedSize)
}
