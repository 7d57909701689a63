package network

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"lade/api"
	"lade/internal/cli/command"
	"lade/internal/errdefs"
)

// NewVerify returns the command network verify.
func NewVerify(env *command.Env) *cobra.Command {
	var wanted bool
	cmd := &cobra.Command{
		Use:   "verify [OPTIONS]",
		Short: "Compare the packet filter's rules with what they should be",
		Long: `Compare the packet filter's rules with what they should be.

Each line says what is missing (-) or there without need (+). The exit code is 1 if
there is a difference. The engine puts back what differs; what is shown here is
what it could not, or not yet.`,
		Args:              command.Exactly(0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := env.Client()
			if err != nil {
				return err
			}
			v, err := c.VerifyNetworks(cmd.Context())
			if err != nil {
				return err
			}
			if wanted {
				_, err := io.WriteString(env.Out, v.Wanted)
				return err
			}
			if len(v.Differences) > 0 {
				fmt.Fprintln(env.Out, strings.Join(v.Differences, "\n"))
				return &command.ExitError{Status: 1}
			}
			fmt.Fprintln(env.Out, verified(v))
			return nil
		},
	}
	cmd.Flags().BoolVar(&wanted, "wanted", false, "Show the rules as they should be, as nft prints them")
	return cmd
}

func verified(v api.NetworkVerify) string {
	switch {
	case v.Wanted == "":
		return "No container needs rules, and there are none."
	case v.Owned:
		return "The rules are as they should be. They are the engine's own: nobody else can change or flush them."
	}
	return "The rules are as they should be. This kernel (before 6.9) lets others flush them; they are put back then."
}

// NewExplain returns the command network explain.
func NewExplain(env *command.Env) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:               "explain [OPTIONS] PORT[/PROTOCOL]",
		Short:             "Say who can reach a published port, and by which rule",
		Args:              command.Exactly(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			number, protocol, _ := strings.Cut(args[0], "/")
			port, err := strconv.ParseUint(number, 10, 16)
			if err != nil || port == 0 {
				return errdefs.New(errdefs.Invalid, "invalid port %q: want a port of the host, as 8080 or 8080/tcp", args[0])
			}
			if format != "" && format != "json" {
				return errdefs.New(errdefs.Invalid, "invalid format %q: want json, or none", format)
			}
			c, err := env.Client()
			if err != nil {
				return err
			}
			list, err := c.ExplainPort(cmd.Context(), uint16(port), strings.ToLower(protocol))
			if err != nil {
				return err
			}
			if format == "json" {
				e := json.NewEncoder(env.Out)
				e.SetIndent("", "    ")
				return e.Encode(list)
			}
			return explain(env.Out, list)
		},
	}
	cmd.Flags().StringVar(&format, "format", "", "json: all of it, for programs")
	return cmd
}

// explain writes for people who reaches each address of a port.
func explain(w io.Writer, list []api.PortReach) error {
	for i, p := range list {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "%s/%s leads to %s of container %s, in network %s\n", p.Host, p.Protocol, p.To, p.Container, p.Network)
		t := tabwriter.NewWriter(w, 0, 4, 3, ' ', 0)
		for _, f := range p.From {
			reached := "yes"
			if !f.Reached {
				reached = "no"
			}
			fmt.Fprintf(t, "  %s\t%s\t%s\n", f.From, reached, f.By)
		}
		if err := t.Flush(); err != nil {
			return err
		}
		for _, b := range p.Barriers {
			fmt.Fprintf(w, "  but table %s, chain %s drops what it does not accept (%s)\n", b.Table, b.Chain, b.Why)
		}
	}
	return nil
}
