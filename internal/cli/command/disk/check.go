package disk

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"lade/api"
	"lade/internal/cli/command"
	"lade/internal/cli/format"
)

// NewCheck returns the command system check.
func NewCheck(env *command.Env) *cobra.Command {
	var repair bool
	var text string
	cmd := &cobra.Command{
		Use:   "check [OPTIONS]",
		Short: "Verify all that is on disk",
		Long: "Read every blob and layer and compare it with its digest, and look for what is missing or belongs to nobody.\n" +
			"Containers, pulls and removals may go on meanwhile. The exit status is 1 if something is wrong and stays so.",
		Args:              command.Exactly(0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return check(cmd.Context(), env, repair, text) },
	}
	cmd.Flags().BoolVar(&repair, "repair", false, "Fetch again or make again what is damaged, and remove what was left")
	cmd.Flags().StringVar(&text, "format", "", "Format output using a Go template, or 'json'")
	return cmd
}

func check(ctx context.Context, env *command.Env, repair bool, text string) error {
	c, err := env.Client()
	if err != nil {
		return err
	}
	r, err := c.Check(ctx, repair)
	if err != nil {
		return err
	}
	if text != "" {
		err = format.Value(env.Out, text, r)
	} else {
		writeCheck(env.Out, r, repair)
	}
	for _, p := range r.Problems {
		if !p.Repaired && err == nil {
			err = &command.ExitError{Status: command.StatusFailed}
		}
	}
	return err
}

func writeCheck(w io.Writer, r api.CheckReport, repair bool) {
	repaired := 0
	for _, p := range r.Problems {
		fmt.Fprintf(w, "%s: %s\n    %s\n", p.Kind, p.Object, p.Detail)
		if len(p.Users) > 0 {
			fmt.Fprintf(w, "    needed by %s\n", strings.Join(p.Users, ", "))
		}
		switch {
		case p.Repaired:
			repaired++
			fmt.Fprintf(w, "    repaired: %s\n", p.Repair)
		case repair:
			fmt.Fprintf(w, "    not repaired: %s\n", p.Repair)
		}
	}
	fmt.Fprintf(w, "Checked %d blobs and %d layers, %s: ", r.Blobs, r.Layers, format.Size(r.Bytes))
	switch n := len(r.Problems); {
	case n == 0:
		fmt.Fprintln(w, "nothing is wrong")
	case repair:
		fmt.Fprintf(w, "%d wrong, %d repaired\n", n, repaired)
	default:
		fmt.Fprintf(w, "%d wrong; 'lade system check --repair' mends what can be mended\n", n)
	}
}
