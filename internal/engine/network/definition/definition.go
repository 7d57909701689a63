// Package definition says what a network is, and which requests for one make
// sense. It is pure: it looks neither at the host nor at other networks.
package definition

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	api "github.com/moby/moby/api/types/network"

	"lade/internal/errdefs"
	"lade/internal/ident"
	"lade/internal/linux/rtnl"
)

// The drivers of networks.
const (
	Bridge  = "bridge"
	Macvlan = "macvlan"
	IPvlan  = "ipvlan"
	Host    = "host"
	Null    = "null"
)

// Network is what a network is: the record that create makes.
type Network struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Driver  string    `json:"driver"`
	Created time.Time `json:"created,omitzero"`
	IPv4    bool      `json:"ipv4"`
	IPv6    bool      `json:"ipv6"`
	Subnets []Subnet  `json:"subnets,omitempty"`
	// Internal networks lead nowhere.
	Internal bool              `json:"internal,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
	Options  map[string]string `json:"options,omitempty"`
	IPAM     map[string]string `json:"ipam,omitempty"` // options of the address management
	// Attachable has no effect, and is shown.
	Attachable bool `json:"attachable,omitempty"`
}

// Subnet is one of a network's subnets.
type Subnet struct {
	Subnet  netip.Prefix          `json:"subnet"`
	Range   netip.Prefix          `json:"range,omitzero"`
	Gateway netip.Addr            `json:"gateway,omitzero"`
	Aux     map[string]netip.Addr `json:"aux,omitempty"`
}

// Parse turns a request into a definition, or says what is wrong with it. The id
// and what is left to choose, such as subnets, is not filled in.
func Parse(r api.CreateRequest) (n Network, warnings []string, err error) {
	n = Network{
		Name: r.Name, Driver: r.Driver, IPv4: r.EnableIPv4 == nil || *r.EnableIPv4, IPv6: r.EnableIPv6 == nil || *r.EnableIPv6,
		Internal: r.Internal, Attachable: r.Attachable, Labels: maps.Clone(r.Labels), Options: maps.Clone(r.Options),
	}
	if n.Driver == "" || n.Driver == "default" {
		n.Driver = Bridge
	}
	if err := n.checkKind(r); err != nil {
		return n, nil, err
	}
	if r.Attachable {
		warnings = append(warnings, "Attachable has no effect: every container may be connected to every network")
	}
	if err := n.checkOptions(); err != nil {
		return n, nil, err
	}
	if r.IPAM != nil {
		n.IPAM = maps.Clone(r.IPAM.Options)
		if d := r.IPAM.Driver; d != "" && d != "default" && d != Null {
			return n, nil, errdefs.New(errdefs.NotFound, "could not find an available, non-overlapping address pool: no IPAM driver is named %q", d)
		}
		for _, c := range r.IPAM.Config {
			n.Subnets = append(n.Subnets, Subnet{Subnet: c.Subnet, Range: c.IPRange, Gateway: c.Gateway, Aux: c.AuxAddress})
		}
	}
	return n, warnings, n.checkSubnets(r)
}

func (n *Network) checkKind(r api.CreateRequest) error {
	switch {
	case !ident.IsName(n.Name):
		return errdefs.New(errdefs.Invalid, "invalid network name %q: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", n.Name)
	case slices.Contains([]string{"bridge", "host", "none", "default", "container"}, n.Name):
		return errdefs.New(errdefs.Denied, "operation is not permitted on predefined %s network", n.Name)
	case n.Driver == Host || n.Driver == Null || n.Driver == "none":
		return errdefs.New(errdefs.Denied, "only one instance of %q network is allowed", n.Driver)
	case !slices.Contains([]string{Bridge, Macvlan, IPvlan}, n.Driver):
		return errdefs.Hint(errdefs.New(errdefs.NotFound, "could not find a network driver named %q", n.Driver), "use bridge, macvlan or ipvlan")
	case r.Scope != "" && r.Scope != "local":
		return errdefs.New(errdefs.Denied, "networks of scope %q need a cluster, which Lade has not", r.Scope)
	case r.Ingress:
		return errdefs.New(errdefs.Denied, "an ingress network needs a cluster, which Lade has not")
	case r.ConfigOnly || r.ConfigFrom != nil && r.ConfigFrom.Network != "":
		return errdefs.New(errdefs.NotImplemented, "networks that are only a configuration (--config-only, --config-from) are not there")
	case !n.IPv4 && !n.IPv6:
		return errdefs.New(errdefs.Invalid, "IPv4 or IPv6 must be enabled")
	}
	return nil
}

// checkSubnets checks what was asked for. A network without a subnet of a version
// gets one, but with --ipv6 not given, one with only IPv4 subnets of a driver
// that knows no router stays without.
func (n *Network) checkSubnets(r api.CreateRequest) error {
	var six bool
	for i, s := range n.Subnets {
		if !s.Subnet.IsValid() {
			if s.Range.IsValid() || s.Gateway.IsValid() || len(s.Aux) > 0 {
				return errdefs.New(errdefs.Invalid, "invalid network config: a gateway, range or auxiliary address needs the subnet that it is in")
			}
			continue
		}
		if s.Subnet != s.Subnet.Masked() {
			return errdefs.New(errdefs.Invalid, "invalid network config: invalid subnet %s: it should be %s", s.Subnet, s.Subnet.Masked())
		}
		if s.Subnet.Addr().Is4In6() || s.Subnet.Addr().IsMulticast() || s.Subnet.Addr().IsLoopback() || s.Subnet.Addr().IsLinkLocalUnicast() && s.Subnet.Addr().Is6() {
			return errdefs.New(errdefs.Invalid, "invalid network config: %s is not for containers", s.Subnet)
		}
		for _, o := range n.Subnets[:i] {
			if o.Subnet.IsValid() && o.Subnet.Overlaps(s.Subnet) {
				return errdefs.New(errdefs.Invalid, "invalid network config: subnets %s and %s overlap", o.Subnet, s.Subnet)
			}
		}
		six = six || s.Subnet.Addr().Is6()
		switch {
		case s.Subnet.Addr().Is4() && !n.IPv4:
			return errdefs.New(errdefs.Invalid, "invalid network config: IPv4 is disabled, but the IPAM config includes subnet %s", s.Subnet)
		case s.Subnet.Addr().Is6() && !n.IPv6:
			return errdefs.New(errdefs.Invalid, "invalid network config: IPv6 is disabled, but the IPAM config includes subnet %s", s.Subnet)
		}
	}
	n.Subnets = slices.DeleteFunc(n.Subnets, func(s Subnet) bool { return !s.Subnet.IsValid() })
	if n.Driver != Bridge && !six && r.EnableIPv6 == nil {
		n.IPv6 = false // the wire's router, not the engine, says which addresses lead anywhere
	}
	return nil
}

// The options that have a meaning.
const (
	optName        = "com.docker.network.bridge.name"
	optICC         = "com.docker.network.bridge.enable_icc"
	optMasquerade  = "com.docker.network.bridge.enable_ip_masquerade"
	optHostBinding = "com.docker.network.bridge.host_binding_ipv4"
	optMTU         = "com.docker.network.driver.mtu"
	optPrefix      = "com.docker.network.container_iface_prefix"
	optMode4       = "com.docker.network.bridge.gateway_mode_ipv4"
	optMode6       = "com.docker.network.bridge.gateway_mode_ipv6"
	optInhibit     = "com.docker.network.bridge.inhibit_ipv4"
	optParent      = "parent"
)

func (n *Network) checkOptions() error {
	bad := func(key, want string) error {
		return errdefs.New(errdefs.Invalid, "invalid value %q for network option %s: want %s", n.Options[key], key, want)
	}
	for _, key := range []string{optICC, optMasquerade, optInhibit} {
		if v, ok := n.Options[key]; ok {
			if _, err := strconv.ParseBool(v); err != nil {
				return bad(key, "true or false")
			}
		}
	}
	if v := n.Options[optInhibit]; n.is(v, false) {
		return errdefs.New(errdefs.NotImplemented, "network option %s is not there", optInhibit)
	}
	for _, key := range []string{optName, optParent} {
		if v, ok := n.Options[key]; ok && !isInterface(v, 15) {
			return bad(key, "the name of a link: at most 15 letters, digits and - _ .")
		}
	}
	if v, ok := n.Options[optPrefix]; ok && !isInterface(v, 12) {
		return bad(optPrefix, "the beginning of a link's name: at most 12 letters, digits and - _ .")
	}
	if v, ok := n.Options[optMTU]; ok {
		if m, err := strconv.Atoi(v); err != nil || m != 0 && (m < 68 || m > 65535) {
			return bad(optMTU, "a number between 68 and 65535")
		}
	}
	if v, ok := n.Options[optHostBinding]; ok {
		if a, err := netip.ParseAddr(v); err != nil || !a.Is4() {
			return bad(optHostBinding, "an IPv4 address")
		}
	}
	for _, key := range []string{optMode4, optMode6} {
		if v := n.Options[key]; v != "" && v != "nat" {
			return errdefs.New(errdefs.NotImplemented, "network option %s=%s is not there: only nat is", key, v)
		}
	}
	if n.Driver != Bridge {
		if _, ok := rtnl.Modes(n.Driver)[n.Mode()]; !ok {
			return errdefs.New(errdefs.Invalid, "invalid mode %q for a %s network: want one of %s", n.Mode(), n.Driver, strings.Join(slices.Sorted(maps.Keys(rtnl.Modes(n.Driver))), ", "))
		}
		if n.Options[optParent] == "" && !n.Internal {
			return errdefs.Hint(errdefs.New(errdefs.Invalid, "a %s network needs the link whose wire its containers share", n.Driver), "name it with -o parent=LINK")
		}
	}
	return nil
}

// isInterface reports whether a text can be (the beginning of) a link's name.
func isInterface(s string, most int) bool {
	if s == "" || len(s) > most || s == "." || s == ".." {
		return false
	}
	return !strings.ContainsFunc(s, func(c rune) bool {
		return (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && !strings.ContainsRune("-_.", c)
	})
}

func (n *Network) is(v string, def bool) bool {
	b, err := strconv.ParseBool(v)
	if err != nil {
		return def
	}
	return b
}

// Apart reports whether containers of the network do not reach each other.
func (n *Network) Apart() bool { return !n.is(n.Options[optICC], true) }

// Unmasked reports whether containers go out under their own addresses.
func (n *Network) Unmasked() bool { return !n.is(n.Options[optMasquerade], true) }

// BridgeName returns the name that the bridge is to have, "" for the engine's
// choice.
func (n *Network) BridgeName() string { return n.Options[optName] }

// Parent returns the link whose wire is shared.
func (n *Network) Parent() string { return n.Options[optParent] }

// Mode returns how the wire is shared.
func (n *Network) Mode() string {
	for _, key := range []string{n.Driver + "_mode", "mode"} {
		if v := n.Options[key]; v != "" {
			return v
		}
	}
	if n.Driver == IPvlan {
		return "l2"
	}
	return "bridge"
}

// MTU returns the largest packet, 0 for the engine's choice.
func (n *Network) MTU() int {
	m, _ := strconv.Atoi(n.Options[optMTU])
	return m
}

// InterfacePrefix begins the names of containers' links.
func (n *Network) InterfacePrefix() string {
	if p := n.Options[optPrefix]; p != "" {
		return p
	}
	return "eth"
}

// HostBinding returns the address that ports are published on which name none;
// it is not valid where the network says nothing of it.
func (n *Network) HostBinding() netip.Addr {
	a, _ := netip.ParseAddr(n.Options[optHostBinding])
	return a
}

// Inspect returns the network as Docker shows it.
func (n *Network) Inspect() api.Network {
	out := api.Network{
		Name: n.Name, ID: n.ID, Created: n.Created, Scope: "local", Driver: n.Driver, EnableIPv4: n.IPv4, EnableIPv6: n.IPv6, Internal: n.Internal,
		Attachable: n.Attachable, Options: map[string]string{}, Labels: map[string]string{},
		IPAM: api.IPAM{Driver: "default", Options: n.IPAM, Config: []api.IPAMConfig{}},
	}
	maps.Copy(out.Options, n.Options)
	maps.Copy(out.Labels, n.Labels)
	for _, s := range n.Subnets {
		out.IPAM.Config = append(out.IPAM.Config, api.IPAMConfig{Subnet: s.Subnet, IPRange: s.Range, Gateway: s.Gateway, AuxAddress: s.Aux})
	}
	return out
}

// String names the network for messages.
func (n *Network) String() string { return fmt.Sprintf("network %s", n.Name) }
