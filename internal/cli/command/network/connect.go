package network

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/moby/moby/api/types/network"
	"github.com/spf13/cobra"

	"lade/client"
	"lade/internal/cli/command"
	"lade/internal/errdefs"
)

type connectOptions struct {
	ip, ip6, mac                          string
	aliases, links, linkLocal, driverOpts []string
	priority                              int
}

// NewConnect returns the command network connect.
func NewConnect(env *command.Env) *cobra.Command {
	var o connectOptions
	cmd := &cobra.Command{
		Use:   "connect [OPTIONS] NETWORK CONTAINER",
		Short: "Connect a container to a network",
		Args:  command.Exactly(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			settings, err := o.settings()
			if err != nil {
				return err
			}
			c, err := env.Client()
			if err != nil {
				return err
			}
			return c.ConnectNetwork(cmd.Context(), args[0], network.ConnectRequest{Container: args[1], EndpointConfig: settings})
		},
		ValidArgsFunction: complete(env),
	}
	fs := cmd.Flags()
	fs.StringVar(&o.ip, "ip", "", `IPv4 address (e.g., "172.30.100.104")`)
	fs.StringVar(&o.ip6, "ip6", "", `IPv6 address (e.g., "2001:db8::33")`)
	fs.StringVar(&o.mac, "mac-address", "", `MAC address (e.g., "92:d0:c6:0a:29:33")`)
	fs.StringArrayVar(&o.aliases, "alias", nil, "Add network-scoped alias for the container")
	fs.StringArrayVar(&o.links, "link", nil, "Add link to another container")
	fs.StringArrayVar(&o.linkLocal, "link-local-ip", nil, "Add a link-local address for the container")
	fs.StringArrayVar(&o.driverOpts, "driver-opt", nil, "driver options for the network")
	fs.IntVar(&o.priority, "gw-priority", 0, "Highest gw-priority provides the default gateway. Accepts positive and negative values")
	return cmd
}

func (o *connectOptions) settings() (*network.EndpointSettings, error) {
	e := &network.EndpointSettings{Aliases: o.aliases, Links: o.links, GwPriority: o.priority}
	ipam := &network.EndpointIPAMConfig{}
	for _, a := range []struct {
		text string
		to   *netip.Addr
	}{{o.ip, &ipam.IPv4Address}, {o.ip6, &ipam.IPv6Address}} {
		if a.text == "" {
			continue
		}
		var err error
		if *a.to, err = netip.ParseAddr(a.text); err != nil || a.to.Is6() != (a.to == &ipam.IPv6Address) {
			return nil, errdefs.New(errdefs.Invalid, "%q is no IP address, or one of the other version", a.text)
		}
		e.IPAMConfig = ipam
	}
	for _, s := range o.linkLocal {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return nil, errdefs.New(errdefs.Invalid, "%q is no IP address", s)
		}
		ipam.LinkLocalIPs = append(ipam.LinkLocalIPs, a)
		e.IPAMConfig = ipam
	}
	if o.mac != "" {
		mac, err := net.ParseMAC(o.mac)
		if err != nil {
			return nil, errdefs.New(errdefs.Invalid, "%q is no MAC address", o.mac)
		}
		e.MacAddress = network.HardwareAddr(mac)
	}
	for _, s := range o.driverOpts {
		k, v, ok := strings.Cut(s, "=")
		if !ok || k == "" {
			return nil, errdefs.New(errdefs.Invalid, "invalid key/value pair format in driver options: %q", s)
		}
		if e.DriverOpts == nil {
			e.DriverOpts = map[string]string{}
		}
		e.DriverOpts[k] = v
	}
	return e, nil
}

// NewDisconnect returns the command network disconnect.
func NewDisconnect(env *command.Env) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "disconnect [OPTIONS] NETWORK CONTAINER",
		Short: "Disconnect a container from a network",
		Args:  command.Exactly(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := env.Client()
			if err != nil {
				return err
			}
			return c.DisconnectNetwork(cmd.Context(), args[0], network.DisconnectRequest{Container: args[1], Force: force})
		},
		ValidArgsFunction: complete(env),
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Force the container to disconnect from a network")
	return cmd
}

// NewRemove returns the command network rm.
func NewRemove(env *command.Env) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:     "rm NETWORK [NETWORK...]",
		Aliases: []string{"remove"},
		Short:   "Remove one or more networks",
		Args:    command.AtLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := env.Client()
			if err != nil {
				return err
			}
			return env.Each(args, func(ref string) error {
				err := c.RemoveNetwork(cmd.Context(), ref)
				if force && errdefs.Is(err, errdefs.NotFound) {
					return &command.ExitError{Err: err}
				}
				return err
			})
		},
		ValidArgsFunction: complete(env),
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Do not error if the network does not exist")
	return cmd
}

// NewPrune returns the command network prune.
func NewPrune(env *command.Env) *cobra.Command {
	var force bool
	var flags []string
	cmd := &cobra.Command{
		Use:               "prune [OPTIONS]",
		Short:             "Remove all unused networks",
		Args:              command.Exactly(0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			filters, err := command.Filters(flags)
			if err != nil {
				return err
			}
			if !force && !env.Confirm("WARNING! This will remove all custom networks not used by at least one container.") {
				return nil
			}
			c, err := env.Client()
			if err != nil {
				return err
			}
			p, err := c.Prune(cmd.Context(), client.Networks, filters)
			if err != nil || len(p.NetworksDeleted) == 0 {
				return err
			}
			fmt.Fprintf(env.Out, "Deleted Networks:\n%s\n\n", strings.Join(p.NetworksDeleted, "\n"))
			return nil
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Do not prompt for confirmation")
	cmd.Flags().StringArrayVar(&flags, "filter", nil, `Provide filter values (e.g. "until=<timestamp>")`)
	return cmd
}

// complete completes names of networks, then of containers.
func complete(env *command.Env) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		if len(args) == 1 && strings.HasSuffix(cmd.Use, "CONTAINER") {
			return env.CompleteContainers()(cmd, args, word)
		}
		return env.CompleteNames(func(ctx context.Context, c *client.Client) ([]string, error) {
			list, err := c.ListNetworks(ctx, nil)
			var names []string
			for _, n := range list {
				names = append(names, n.Name)
			}
			return names, err
		})(cmd, args, word)
	}
}
