package network

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/moby/moby/api/types/network"
	"github.com/spf13/cobra"

	"lade/internal/cli/command"
	"lade/internal/errdefs"
)

type createOptions struct {
	driver, scope, ipamDriver, configFrom         string
	internal, attachable, ingress, configOnly     bool
	ipv4, ipv6                                    bool
	options, ipamOptions, labels                  []string
	subnets, ranges, gateways, auxiliaryAddresses []string
}

// NewCreate returns the command network create.
func NewCreate(env *command.Env) *cobra.Command {
	var o createOptions
	cmd := &cobra.Command{
		Use:               "create [OPTIONS] NETWORK",
		Short:             "Create a network",
		Args:              command.Exactly(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, args []string) error { return o.run(cmd, env, args[0]) },
	}
	fs := cmd.Flags()
	fs.StringVarP(&o.driver, "driver", "d", "bridge", "Driver to manage the Network (bridge|macvlan|ipvlan)")
	fs.StringArrayVarP(&o.options, "opt", "o", nil, "Set driver specific options")
	fs.StringArrayVar(&o.labels, "label", nil, "Set metadata on a network")
	fs.BoolVar(&o.internal, "internal", false, "Restrict external access to the network")
	fs.BoolVar(&o.ipv4, "ipv4", true, "Enable or disable IPv4 address assignment")
	fs.BoolVar(&o.ipv6, "ipv6", true, "Enable or disable IPv6 address assignment")
	fs.BoolVar(&o.attachable, "attachable", false, "Has no effect: every network is")
	fs.BoolVar(&o.ingress, "ingress", false, "Needs a cluster, which Lade has not")
	fs.StringVar(&o.scope, "scope", "", "Control the network's scope (local)")
	fs.BoolVar(&o.configOnly, "config-only", false, "Create a configuration only network")
	fs.StringVar(&o.configFrom, "config-from", "", "The network from which to copy the configuration")
	fs.StringVar(&o.ipamDriver, "ipam-driver", "default", "IP Address Management Driver")
	fs.StringArrayVar(&o.ipamOptions, "ipam-opt", nil, "Set IPAM driver specific options")
	fs.StringSliceVar(&o.subnets, "subnet", nil, "Subnet in CIDR format that represents a network segment")
	fs.StringSliceVar(&o.ranges, "ip-range", nil, "Allocate container ip from a sub-range")
	fs.StringSliceVar(&o.gateways, "gateway", nil, "IPv4 or IPv6 Gateway for the master subnet")
	fs.StringArrayVar(&o.auxiliaryAddresses, "aux-address", nil, "Auxiliary IPv4 or IPv6 addresses used by Network driver")
	return cmd
}

func (o *createOptions) run(cmd *cobra.Command, env *command.Env, name string) error {
	r := network.CreateRequest{
		Name: name, Driver: o.driver, Scope: o.scope, Internal: o.internal, Attachable: o.attachable, Ingress: o.ingress, ConfigOnly: o.configOnly,
		Options: map[string]string{}, Labels: map[string]string{}, IPAM: &network.IPAM{Driver: o.ipamDriver, Options: map[string]string{}},
	}
	if o.configFrom != "" {
		r.ConfigFrom = &network.ConfigReference{Network: o.configFrom}
	}
	if cmd.Flags().Changed("ipv4") {
		r.EnableIPv4 = &o.ipv4
	}
	if cmd.Flags().Changed("ipv6") {
		r.EnableIPv6 = &o.ipv6
	}
	for to, from := range map[*map[string]string][]string{&r.Options: o.options, &r.Labels: o.labels, &r.IPAM.Options: o.ipamOptions} {
		for _, kv := range from {
			k, v, _ := strings.Cut(kv, "=")
			if k == "" {
				return errdefs.New(errdefs.Invalid, "option or label %q has no name", kv)
			}
			(*to)[k] = v
		}
	}
	var err error
	if r.IPAM.Config, err = o.subnetConfigs(); err != nil {
		return err
	}
	c, err := env.Client()
	if err != nil {
		return err
	}
	made, err := c.CreateNetwork(cmd.Context(), r)
	if err != nil {
		return err
	}
	if made.Warning != "" {
		fmt.Fprintf(env.Err, "WARNING: %s\n", made.Warning)
	}
	fmt.Fprintln(env.Out, made.ID)
	return nil
}

// subnetConfigs gives each range, gateway and auxiliary address to the subnet that
// it is in.
func (o *createOptions) subnetConfigs() ([]network.IPAMConfig, error) {
	var out []network.IPAMConfig
	for _, s := range o.subnets {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, errdefs.New(errdefs.Invalid, "invalid subnet %q: want an address and its bits, such as 10.1.2.0/24", s)
		}
		for _, c := range out {
			if c.Subnet.Overlaps(p) {
				return nil, errdefs.New(errdefs.Invalid, "multiple overlapping subnet configuration is not supported: %s and %s", c.Subnet, p)
			}
		}
		out = append(out, network.IPAMConfig{Subnet: p})
	}
	find := func(what string, a netip.Addr) (*network.IPAMConfig, error) {
		for i := range out {
			if out[i].Subnet.Contains(a) {
				return &out[i], nil
			}
		}
		return nil, errdefs.New(errdefs.Invalid, "no matching subnet for %s %s", what, a)
	}
	for _, s := range o.ranges {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, errdefs.New(errdefs.Invalid, "invalid ip-range %q: want an address and its bits, such as 10.1.2.128/25", s)
		}
		c, err := find("range", p.Addr())
		if err != nil {
			return nil, err
		}
		if c.IPRange.IsValid() {
			return nil, errdefs.New(errdefs.Invalid, "cannot configure multiple ranges (%s, %s) on the same subnet (%s)", p, c.IPRange, c.Subnet)
		}
		c.IPRange = p
	}
	for _, s := range o.gateways {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return nil, errdefs.New(errdefs.Invalid, "invalid gateway %q: want an IP address", s)
		}
		c, err := find("gateway", a)
		if err != nil {
			return nil, err
		}
		if c.Gateway.IsValid() {
			return nil, errdefs.New(errdefs.Invalid, "cannot configure multiple gateways (%s, %s) for the same subnet (%s)", a, c.Gateway, c.Subnet)
		}
		c.Gateway = a
	}
	for _, s := range o.auxiliaryAddresses {
		name, text, _ := strings.Cut(s, "=")
		a, err := netip.ParseAddr(text)
		if err != nil || name == "" {
			return nil, errdefs.New(errdefs.Invalid, "invalid aux-address %q: want NAME=ADDRESS", s)
		}
		c, err := find("aux-address", a)
		if err != nil {
			return nil, err
		}
		if c.AuxAddress == nil {
			c.AuxAddress = map[string]netip.Addr{}
		}
		c.AuxAddress[name] = a
	}
	return out, nil
}
