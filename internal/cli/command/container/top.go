package container

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"lade/internal/cli/command"
)

// NewTop returns the command top.
func NewTop(env *command.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:               "top CONTAINER [ps OPTIONS]",
		Short:             "Display the running processes of a container",
		Args:              command.AtLeast(1),
		ValidArgsFunction: env.CompleteContainers("running"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := env.Client()
			if err != nil {
				return err
			}
			r, err := c.Top(cmd.Context(), args[0], strings.Join(args[1:], " "))
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(env.Out, 20, 1, 3, ' ', 0)
			fmt.Fprintln(w, strings.Join(r.Titles, "\t"))
			for _, p := range r.Processes {
				fmt.Fprintln(w, strings.Join(p, "\t"))
			}
			return w.Flush()
		},
	}
	cmd.Flags().SetInterspersed(false) // what follows the name is for ps
	return cmd
}
