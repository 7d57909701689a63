package context

import (
	"github.com/spf13/cobra"

	"lade/internal/cli/command"
	"lade/internal/cli/contexts"
	"lade/internal/cli/format"
)

func newList(env *command.Env) *cobra.Command {
	var quiet bool
	var text string
	cmd := &cobra.Command{
		Use: "ls [OPTIONS]", Aliases: []string{"list"}, Short: "List contexts", Args: command.Exactly(0), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			s, err := env.Contexts()
			if err != nil {
				return err
			}
			names, err := s.List()
			if err != nil {
				return err
			}
			current := env.ContextName(s)
			rows := make([]row, len(names))
			for i, name := range names {
				c, err := s.Get(name)
				c.Name = name
				rows[i] = row{c: c, err: err, current: name == current}
			}
			t := format.Table{
				Format: text, Quiet: quiet, Key: "Name", Headers: headers,
				Default: `{{.Name}}{{if .Current}} *{{end}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}`,
			}
			return format.Write(env.Out, t, rows)
		},
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "Only show context names")
	cmd.Flags().StringVar(&text, "format", "", command.FormatUsage)
	return cmd
}

// headers are those of the columns; the mark of the current one has none.
var headers = map[string]string{
	"Name": "NAME", "Current": "", "Description": "DESCRIPTION", "DockerEndpoint": "ENDPOINT", "Error": "ERROR",
}

// row is a line of context ls.
type row struct {
	c       contexts.Context
	err     error
	current bool
}

func (row) IsRow() {}

func (r row) Name() string { return r.c.Name }

func (r row) Current() bool { return r.current }

func (r row) Description() string { return r.c.Description }

func (r row) DockerEndpoint() string { return r.c.Host }

func (r row) Error() string {
	if r.err == nil {
		return ""
	}
	return r.err.Error()
}
