package network

import (
	"context"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	api "github.com/moby/moby/api/types/network"

	"lade/internal/errdefs"
	"lade/internal/ident"
)

// List returns the networks. filters are Docker's, by key.
func (s *Service) List(_ context.Context, filters map[string][]string) ([]api.Inspect, error) {
	if err := checkFilters(filters, "name", "id", "driver", "type", "scope", "dangling", "label"); err != nil {
		return nil, err
	}
	for _, v := range filters["type"] {
		if v != "builtin" && v != "custom" {
			return nil, errdefs.New(errdefs.Invalid, "invalid filter 'type=%s': want builtin or custom", v)
		}
	}
	for _, v := range filters["dangling"] {
		if _, err := strconv.ParseBool(v); err != nil {
			return nil, errdefs.New(errdefs.Invalid, "invalid filter 'dangling=%s': want true or false", v)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []api.Inspect{}
	for _, n := range s.all() {
		if s.matches(n, filters) {
			out = append(out, s.inspect(n))
		}
	}
	return out, nil
}

func checkFilters(filters map[string][]string, known ...string) error {
	for key := range filters {
		if !slices.Contains(known, key) {
			return errdefs.New(errdefs.Invalid, "invalid filter '%s'", key)
		}
	}
	return nil
}

// labelled reports whether labels go with all of label.
func labelled(labels map[string]string, filters map[string][]string) bool {
	has := func(want string) bool {
		key, value, given := strings.Cut(want, "=")
		v, ok := labels[key]
		return ok && (!given || v == value)
	}
	return !slices.ContainsFunc(filters["label"], func(want string) bool { return !has(want) })
}

// matches reports whether each filter has a value that n goes with.
func (s *Service) matches(n *network, filters map[string][]string) bool {
	for key, values := range filters {
		if key == "label" {
			if !labelled(n.def.Labels, filters) {
				return false
			}
			continue
		}
		ok := slices.ContainsFunc(values, func(v string) bool {
			switch key {
			case "name":
				return strings.Contains(n.def.Name, v)
			case "id":
				return strings.HasPrefix(n.def.ID, v)
			case "driver":
				return n.def.Driver == v
			case "scope":
				return v == "local"
			case "type":
				return n.builtin() == (v == "builtin")
			default: // dangling
				want, _ := strconv.ParseBool(v)
				return want == (!n.builtin() && len(n.ports) == 0)
			}
		})
		if !ok {
			return false
		}
	}
	return true
}

// Inspect returns a network by name, id or beginning of its id.
func (s *Service) Inspect(_ context.Context, ref string) (api.Inspect, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := s.find(ref)
	if err != nil {
		return api.Inspect{}, err
	}
	return s.inspect(n), nil
}

// inspect shows a network as Docker does. s.mu is held.
func (s *Service) inspect(n *network) api.Inspect {
	out := api.Inspect{Network: n.def.Inspect(), Containers: map[string]api.EndpointResource{}}
	if n.def.Name == Default {
		out.Options["com.docker.network.bridge.default_bridge"] = "true"
	}
	if n.up != nil && n.up.rec.Bridge != "" {
		out.Options["com.docker.network.bridge.name"] = n.up.rec.Bridge
	}
	for id, p := range n.ports {
		r := api.EndpointResource{Name: s.nameOf(id), EndpointID: p.rec.Endpoint, MacAddress: api.HardwareAddr(p.rec.MAC)}
		for _, a := range p.rec.Addresses {
			if a.Addr().Is4() {
				r.IPv4Address = a
			} else {
				r.IPv6Address = a
			}
		}
		out.Containers[id] = r
	}
	if len(n.pools) > 0 {
		out.Status = &api.Status{}
		out.Status.IPAM.Subnets = map[netip.Prefix]api.SubnetStatus{}
		for _, p := range n.pools {
			used, free := p.Usage()
			out.Status.IPAM.Subnets[p.Subnet()] = api.SubnetStatus{IPsInUse: used, DynamicIPsAvailable: free}
		}
	}
	return out
}

// Place returns the place of a container that runs; without one, it is empty.
func (s *Service) Place(id string) Place {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.places[id]
	if p == nil {
		return Place{}
	}
	return s.placeOf(p)
}

// placeOf shows a place as Docker does. s.mu is held.
func (s *Service) placeOf(p *place) Place {
	out := Place{Networks: map[string]*api.EndpointSettings{}, Ports: api.PortMap{}}
	for _, o := range p.ports {
		e := &api.EndpointSettings{
			NetworkID: o.rec.Network, EndpointID: o.rec.Endpoint, MacAddress: api.HardwareAddr(o.rec.MAC), Aliases: o.rec.Aliases, GwPriority: o.rec.GwPriority,
		}
		for _, a := range o.rec.Addresses {
			if a.Addr().Is4() {
				e.IPAddress, e.IPPrefixLen = a.Addr(), a.Bits()
			} else {
				e.GlobalIPv6Address, e.GlobalIPv6PrefixLen = a.Addr(), a.Bits()
			}
		}
		for _, g := range o.gateways() {
			if g.Is4() {
				e.Gateway = g
			} else {
				e.IPv6Gateway = g
			}
		}
		if !o.net.builtin() {
			e.DNSNames = append(append([]string{p.rec.Name}, o.rec.Aliases...), ident.Short(p.rec.Container))
		}
		out.Networks[o.net.def.Name] = e
		out.Named = out.Named || !o.net.builtin()
		out.Outside = out.Outside || !o.net.def.Internal
	}
	for _, pub := range p.rec.Published {
		port, ok := api.PortFrom(pub.Container, protocolName(pub.Protocol))
		if ok && pub.To.IsValid() {
			out.Ports[port] = append(out.Ports[port], api.PortBinding{HostIP: pub.Host.Addr(), HostPort: strconv.Itoa(int(pub.Host.Port()))})
		}
	}
	return out
}
