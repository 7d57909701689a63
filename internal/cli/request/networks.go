package request

import (
	"encoding/csv"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
)

// placeFlags say how a container is in its first network.
type placeFlags struct {
	ip4, ip6  netip.Addr
	linkLocal []netip.Addr
	mac       network.HardwareAddr
	aliases   []string
}

func (p *placeFlags) given() bool {
	return p.ip4.IsValid() || p.ip6.IsValid() || len(p.linkLocal)+len(p.mac)+len(p.aliases) > 0
}

func hardware(s string) (network.HardwareAddr, error) {
	mac, err := net.ParseMAC(strings.TrimSpace(s))
	if err != nil {
		return nil, invalid("%q is no MAC address", s)
	}
	return network.HardwareAddr(mac), nil
}

// addNetwork takes a network's name, or name=NAME,alias=ALIAS,… for more. The
// first one is the container's mode; all that are networks are endpoints.
func (f *Flags) addNetwork(s string) error {
	name, ep, err := parseNetwork(s)
	switch {
	case err != nil:
		return err
	case name == "":
		return invalid("the network has no name")
	case f.host.NetworkMode == "":
		f.host.NetworkMode = container.NetworkMode(name)
	case !isNetwork(f.host.NetworkMode) || !isNetwork(container.NetworkMode(name)):
		return invalid("conflicting options: cannot attach both user-defined and non-user-defined network-modes: %q and %q", f.host.NetworkMode, name)
	case f.networks[name] != nil:
		return invalid("network %q is specified multiple times", name)
	}
	if isNetwork(container.NetworkMode(name)) {
		f.networks[name] = ep
	}
	return nil
}

func isNetwork(m container.NetworkMode) bool { return m.IsUserDefined() || m.IsBridge() }

// parseNetwork reads NAME, or a list of options as in CSV.
func parseNetwork(s string) (name string, ep *network.EndpointSettings, err error) {
	ep = &network.EndpointSettings{}
	if !strings.Contains(s, "=") || strings.HasPrefix(s, "container:") {
		return s, ep, nil
	}
	fields, err := csv.NewReader(strings.NewReader(s)).Read()
	if err != nil {
		return "", nil, invalid("%w", err)
	}
	for _, field := range fields {
		k, v, given := strings.Cut(strings.TrimSpace(field), "=")
		if !given {
			return "", nil, invalid("invalid field %s: want key=value", field)
		}
		switch strings.ToLower(k) {
		case "name":
			name = v
		case "alias":
			ep.Aliases = append(ep.Aliases, v)
		case "ip", "ip6":
			a, err := address(v)
			if err != nil {
				return "", nil, err
			}
			if a.Is4() != (strings.ToLower(k) == "ip") {
				return "", nil, invalid("%s: %s is an address of the other version of IP", k, v)
			}
			setAddress(ep, a)
		case "mac-address":
			if ep.MacAddress, err = hardware(v); err != nil {
				return "", nil, err
			}
		case "link-local-ip":
			a, err := address(v)
			if err != nil {
				return "", nil, err
			}
			ipam(ep).LinkLocalIPs = append(ipam(ep).LinkLocalIPs, a)
		case "driver-opt":
			key, val, ok := strings.Cut(v, "=")
			if !ok || key == "" {
				return "", nil, invalid("invalid key value pair format in driver options: %q", v)
			}
			if ep.DriverOpts == nil {
				ep.DriverOpts = map[string]string{}
			}
			ep.DriverOpts[key] = val
		case "gw-priority":
			if ep.GwPriority, err = strconv.Atoi(v); err != nil {
				return "", nil, invalid("invalid gw-priority (%s): want a whole number", v)
			}
		default:
			return "", nil, invalid("invalid field key %s", k)
		}
	}
	return name, ep, nil
}

func ipam(ep *network.EndpointSettings) *network.EndpointIPAMConfig {
	if ep.IPAMConfig == nil {
		ep.IPAMConfig = &network.EndpointIPAMConfig{}
	}
	return ep.IPAMConfig
}

func setAddress(ep *network.EndpointSettings, a netip.Addr) {
	if a.Is4() {
		ipam(ep).IPv4Address = a
	} else {
		ipam(ep).IPv6Address = a
	}
}

// finishNetworks gives --ip and its like to the first network.
func (f *Flags) finishNetworks() error {
	p := &f.place
	if !p.given() {
		return nil
	}
	mode := f.host.NetworkMode
	if mode == "" || mode == network.NetworkDefault {
		mode = network.NetworkBridge
	}
	if !isNetwork(mode) {
		return invalid("conflicting options: addresses and aliases go with a network, not with %q", mode)
	}
	ep := f.networks[string(mode)]
	if ep == nil {
		ep = &network.EndpointSettings{}
		f.networks[string(mode)] = ep
	}
	if len(p.aliases) > 0 {
		if len(ep.Aliases) > 0 {
			return invalid("conflicting options: cannot specify both --network-alias and per-network alias")
		}
		ep.Aliases = p.aliases
	}
	for _, a := range []netip.Addr{p.ip4, p.ip6} {
		if !a.IsValid() {
			continue
		}
		if ep.IPAMConfig != nil && (a.Is4() && ep.IPAMConfig.IPv4Address.IsValid() || a.Is6() && ep.IPAMConfig.IPv6Address.IsValid()) {
			return invalid("conflicting options: cannot specify both --ip and per-network IP address")
		}
		setAddress(ep, a)
	}
	if len(p.linkLocal) > 0 {
		ipam(ep).LinkLocalIPs = p.linkLocal
	}
	if len(p.mac) > 0 {
		if len(ep.MacAddress) > 0 {
			return invalid("conflicting options: cannot specify both --mac-address and per-network MAC address")
		}
		ep.MacAddress = p.mac
	}
	return nil
}

// addExposed parses PORT[-PORT][/PROTOCOL].
func (f *Flags) addExposed(s string) error {
	r, err := network.ParsePortRange(s)
	if err != nil {
		return invalid("%w", err)
	}
	if err := checkProtocol(r.Proto()); err != nil {
		return err
	}
	for p := range r.All() {
		f.expose(p)
	}
	return nil
}

func (f *Flags) expose(p network.Port) {
	if f.config.ExposedPorts == nil {
		f.config.ExposedPorts = network.PortSet{}
	}
	f.config.ExposedPorts[p] = struct{}{}
}

func checkProtocol(p network.IPProtocol) error {
	switch p {
	case network.TCP, network.UDP, network.SCTP:
		return nil
	}
	return invalid("invalid proto: %s", p)
}

// addPublished parses -p: [[ADDRESS:][PORT[-PORT]]:]PORT[-PORT][/PROTOCOL], or
// published=PORT,target=PORT[,protocol=PROTOCOL].
func (f *Flags) addPublished(s string) error {
	all, err := ParsePublished(s)
	if err != nil {
		return err
	}
	if f.host.PortBindings == nil {
		f.host.PortBindings = network.PortMap{}
	}
	for _, b := range all {
		f.expose(b.Container)
		f.host.PortBindings[b.Container] = append(f.host.PortBindings[b.Container], b.Host)
	}
	return nil
}

// Published is a port of a container, and where it is on the host.
type Published struct {
	Container network.Port
	Host      network.PortBinding
}

// ParsePublished reads what -p is given.
func ParsePublished(s string) ([]Published, error) {
	if strings.Contains(s, "=") {
		var err error
		if s, err = standardNotation(s); err != nil {
			return nil, err
		}
	}
	rest, proto, _ := strings.Cut(s, "/")
	host, target, addr := "", rest, ""
	if i := strings.LastIndexByte(rest, ':'); i >= 0 {
		host, target = rest[:i], rest[i+1:]
		if j := strings.LastIndexByte(host, ':'); j >= 0 {
			addr, host = host[:j], host[j+1:]
		}
	}
	if target == "" {
		return nil, invalid("no port specified: %s<empty>", s)
	}
	if proto != "" {
		target += "/" + proto
	}
	to, err := network.ParsePortRange(target)
	if err != nil {
		return nil, invalid("invalid containerPort: %s: %w", target, err)
	}
	if err := checkProtocol(to.Proto()); err != nil {
		return nil, err
	}
	var at netip.Addr
	if addr != "" {
		if at, err = netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(addr, "["), "]")); err != nil || at.Zone() != "" {
			return nil, invalid("invalid IP address: %s", addr)
		}
	}
	return bindings(to, at, host)
}

func bindings(to network.PortRange, at netip.Addr, host string) ([]Published, error) {
	var out []Published
	add := func(p network.Port, port string) {
		out = append(out, Published{p, network.PortBinding{HostIP: at, HostPort: port}})
	}
	if host == "" {
		for p := range to.All() {
			add(p, "")
		}
		return out, nil
	}
	from, err := network.ParsePortRange(host)
	if err != nil || strings.Contains(host, "/") {
		return nil, invalid("invalid hostPort: %s", host)
	}
	if to.Start() == to.End() && from.Start() != from.End() {
		for p := range to.All() { // the first of them that is free
			add(p, fmt.Sprintf("%d-%d", from.Start(), from.End()))
		}
		return out, nil
	}
	if to.End()-to.Start() != from.End()-from.Start() {
		return nil, invalid("invalid ranges specified for container and host Ports: %s and %d-%d", host, to.Start(), to.End())
	}
	n := int(from.Start())
	for p := range to.All() {
		add(p, strconv.Itoa(n))
		n++
	}
	return out, nil
}

// standardNotation turns the long form into the short one.
func standardNotation(s string) (string, error) {
	values := map[string]string{"protocol": "tcp"}
	for part := range strings.SplitSeq(s, ",") {
		k, v, ok := strings.Cut(part, "=")
		if !ok || v == "" {
			return "", invalid("invalid publish opts format (should be name=value but got '%s')", part)
		}
		values[k] = v
	}
	return fmt.Sprintf("%s:%s/%s", values["published"], values["target"], values["protocol"]), nil
}
