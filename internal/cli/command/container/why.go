package container

import (
	"errors"
	"io"

	"github.com/spf13/cobra"

	"lade/internal/cli/command"
)

// NewWhy returns the command why.
func NewWhy(env *command.Env) *cobra.Command {
	return &cobra.Command{
		Use:               "why CONTAINER",
		Short:             "Say in words how a container is, and what ended it",
		Args:              command.Exactly(1),
		ValidArgsFunction: env.CompleteContainers(),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := env.Client()
			if err != nil {
				return err
			}
			text, err := c.Why(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			_, err = io.Copy(env.Out, text)
			return errors.Join(err, text.Close())
		},
	}
}
