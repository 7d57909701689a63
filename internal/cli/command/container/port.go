package container

import (
	"encoding/json"
	"fmt"
	"net"
	"slices"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/spf13/cobra"

	"lade/internal/cli/command"
	"lade/internal/errdefs"
)

// NewPort returns the command port.
func NewPort(env *command.Env) *cobra.Command {
	return &cobra.Command{
		Use:   "port CONTAINER [PRIVATE_PORT[/PROTO]]",
		Short: "List port mappings or a specific mapping for the container",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 2 {
				return command.AtMost(2)(cmd, args)
			}
			return command.AtLeast(1)(cmd, args)
		},
		ValidArgsFunction: env.CompleteContainers("running"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := env.Client()
			if err != nil {
				return err
			}
			raw, err := c.InspectContainerRaw(cmd.Context(), args[0], false)
			if err != nil {
				return err
			}
			var r container.InspectResponse
			if err := json.Unmarshal(raw, &r); err != nil {
				return fmt.Errorf("read the engine's answer: %w", err)
			}
			if len(args) == 2 {
				return onePort(env, r, args)
			}
			var lines []string
			for p, bindings := range r.NetworkSettings.Ports {
				for _, b := range bindings {
					lines = append(lines, fmt.Sprintf("%s -> %s", p, net.JoinHostPort(b.HostIP.String(), b.HostPort)))
				}
			}
			slices.Sort(lines)
			for _, l := range lines {
				fmt.Fprintln(env.Out, l)
			}
			return nil
		},
	}
}

func onePort(env *command.Env, r container.InspectResponse, args []string) error {
	p, err := network.ParsePort(args[1])
	if err != nil {
		return errdefs.New(errdefs.Invalid, "%w", err)
	}
	bindings := r.NetworkSettings.Ports[p]
	if len(bindings) == 0 {
		return errdefs.New(errdefs.NotFound, "no public port '%s' published for %s", args[1], args[0])
	}
	for _, b := range bindings {
		fmt.Fprintln(env.Out, net.JoinHostPort(b.HostIP.String(), b.HostPort))
	}
	return nil
}
