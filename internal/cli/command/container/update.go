package container

import (
	"fmt"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"

	"lade/internal/cli/command"
	"lade/internal/cli/request"
	"lade/internal/errdefs"
)

// NewUpdate returns the command update.
func NewUpdate(env *command.Env) *cobra.Command {
	var u container.UpdateConfig
	cmd := &cobra.Command{
		Use:               "update [OPTIONS] CONTAINER [CONTAINER...]",
		Short:             "Update configuration of one or more containers",
		Args:              command.AtLeast(1),
		ValidArgsFunction: env.CompleteContainers(),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().NFlag() == 0 {
				return errdefs.New(errdefs.Invalid, "you must provide one or more flags when using this command")
			}
			c, err := env.Client()
			if err != nil {
				return err
			}
			return env.Each(args, func(id string) error {
				answer, err := c.UpdateContainer(cmd.Context(), id, u)
				for _, w := range answer.Warnings {
					fmt.Fprintln(cmd.ErrOrStderr(), "WARNING:", w)
				}
				return err
			})
		},
	}
	request.RegisterUpdate(cmd.Flags(), &u)
	return cmd
}
