package system

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"lade/internal/cli/command"
)

// NewUpgrade returns the command upgrade, which replaces the engine that runs by
// the one beside this program.
func NewUpgrade(env *command.Env) *cobra.Command {
	return &cobra.Command{
		Use:   "upgrade",
		Short: "Replace the engine by the laded beside this program; containers and clients go on",
		Long: `Replace the engine that runs by the laded beside this program.

Containers are not touched. No connection is refused meanwhile; clients that follow a log or wait for an end
keep their connection. An engine that does not come up changes nothing: the one before it goes on.`,
		Args:              command.Exactly(0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			before := engineVersion(ctx, env)
			if err := env.ReplaceEngine(ctx); err != nil {
				return err
			}
			after := engineVersion(ctx, env)
			if before == "" {
				_, err := fmt.Fprintf(env.Out, "Started laded %s\n", after)
				return err
			}
			_, err := fmt.Fprintf(env.Out, "Replaced laded %s by %s\n", before, after)
			return err
		},
	}
}

// engineVersion returns the version of the engine that runs, or nothing.
func engineVersion(ctx context.Context, env *command.Env) string {
	c, err := env.IdleClient()
	if err != nil {
		return ""
	}
	v, err := c.Version(ctx)
	if err != nil {
		return ""
	}
	return v.Version
}
