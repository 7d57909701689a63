package image

import (
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/image"
	"github.com/spf13/cobra"

	"lade/internal/cli/command"
	"lade/internal/cli/format"
)

// NewHistory returns the command history.
func NewHistory(env *command.Env) *cobra.Command {
	var text, platform string
	var human, whole, quiet bool
	cmd := &cobra.Command{
		Use:               "history [OPTIONS] IMAGE",
		Short:             "Show the history of an image",
		Args:              command.Exactly(1),
		ValidArgsFunction: env.CompleteImages(),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := env.Client()
			if err != nil {
				return err
			}
			if err := env.HasPlatform(cmd.Context(), args[0], platform); err != nil {
				return err
			}
			list, err := c.ImageHistory(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			t := format.Table{Format: text, Quiet: quiet, Key: "ID", Default: `{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}`, Headers: historyHeaders}
			if !human {
				t.Default = `{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}`
			}
			rows := make([]historyRow, len(list))
			for i, item := range list {
				rows[i] = historyRow{item, human, whole}
			}
			return format.Write(env.Out, t, rows)
		},
	}
	fs := cmd.Flags()
	fs.BoolVarP(&human, "human", "H", true, "Print sizes and dates in human readable format")
	fs.BoolVar(&whole, "no-trunc", false, "Don't truncate output")
	fs.BoolVarP(&quiet, "quiet", "q", false, "Only show image IDs")
	fs.StringVar(&platform, "platform", "", "Show history for the given platform (os[/arch[/variant]])")
	fs.StringVar(&text, "format", "", command.FormatUsage)
	return cmd
}

var historyHeaders = map[string]string{
	"ID": "IMAGE", "CreatedSince": "CREATED", "CreatedAt": "CREATED AT", "CreatedBy": "CREATED BY", "Size": "SIZE", "Comment": "COMMENT",
}

// historyRow is a step that made an image.
type historyRow struct {
	item         image.HistoryResponseItem
	human, whole bool
}

func (historyRow) IsRow() {}

func (r historyRow) ID() string {
	id := r.item.ID
	if r.whole || !strings.HasPrefix(id, "sha256:") {
		return id
	}
	id = strings.TrimPrefix(id, "sha256:")
	return id[:min(len(id), 12)]
}

func (r historyRow) CreatedAt() string { return time.Unix(r.item.Created, 0).Format(time.RFC3339) }

func (r historyRow) CreatedSince() string {
	if !r.human {
		return r.CreatedAt()
	}
	return format.Ago(time.Unix(r.item.Created, 0), time.Now())
}

func (r historyRow) CreatedBy() string {
	by := strings.ReplaceAll(r.item.CreatedBy, "\t", " ")
	if r.whole {
		return by
	}
	return format.Ellipsis(by, 45)
}

func (r historyRow) Size() string {
	if r.human {
		return format.Size(r.item.Size)
	}
	return strconv.FormatInt(r.item.Size, 10)
}

func (r historyRow) Comment() string { return r.item.Comment }
