package container

import (
	"fmt"

	"github.com/spf13/cobra"

	"lade/client"
	"lade/internal/cli/command"
	"lade/internal/errdefs"
)

// NewCommit returns the command commit.
func NewCommit(env *command.Env) *cobra.Command {
	var o client.CommitOptions
	var pause, noPause bool
	cmd := &cobra.Command{
		Use:               "commit [OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
		Short:             "Create a new image from a container's changes",
		Args:              cobra.MatchAll(command.AtLeast(1), command.AtMost(2)),
		ValidArgsFunction: env.CompleteContainers(),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("pause") && cmd.Flags().Changed("no-pause") {
				return errdefs.New(errdefs.Invalid, "conflicting options: --no-pause and --pause cannot be used together")
			}
			o.Container, o.Running = args[0], noPause || !pause
			if len(args) > 1 {
				o.Name = args[1]
			}
			c, err := env.Client()
			if err != nil {
				return err
			}
			id, err := c.Commit(cmd.Context(), o)
			if err != nil {
				return err
			}
			fmt.Fprintln(env.Out, id)
			return nil
		},
	}
	fs := cmd.Flags()
	fs.StringVarP(&o.Author, "author", "a", "", `Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")`)
	fs.StringArrayVarP(&o.Changes, "change", "c", nil, "Apply Dockerfile instruction to the created image")
	fs.StringVarP(&o.Comment, "message", "m", "", "Commit message")
	fs.BoolVarP(&pause, "pause", "p", true, "Pause container during commit")
	fs.BoolVar(&noPause, "no-pause", false, "Disable pausing container during commit")
	return cmd
}
