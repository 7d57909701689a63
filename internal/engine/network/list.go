package network

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"

	api "github.com/moby/moby/api/types/network"

	"lade/internal/errdefs"
	"lade/internal/network/bridge"
)

// idOf returns the id of one of the networks that are always there.
func idOf(name string) string {
	sum := sha256.Sum256([]byte("network " + name))
	return hex.EncodeToString(sum[:])
}

// List returns the networks. filters are Docker's, by key.
func (s *Service) List(_ context.Context, filters map[string][]string) ([]api.Inspect, error) {
	for key := range filters {
		if !slices.Contains([]string{"name", "id", "driver", "type", "scope", "dangling", "label"}, key) {
			return nil, errdefs.New(errdefs.Invalid, "invalid filter %q for networks", key)
		}
	}
	var out []api.Inspect
	for _, n := range s.all() {
		if matches(n.Network, filters) {
			out = append(out, n)
		}
	}
	return out, nil
}

// matches reports whether each filter has a value that n goes with.
func matches(n api.Network, filters map[string][]string) bool {
	for key, values := range filters {
		ok := slices.ContainsFunc(values, func(v string) bool {
			switch key {
			case "name":
				return strings.Contains(n.Name, v)
			case "id":
				return strings.HasPrefix(n.ID, v)
			case "driver":
				return n.Driver == v
			case "scope":
				return n.Scope == v
			case "type":
				return v == "builtin"
			case "dangling":
				return v == "false" || v == "0"
			}
			return false // no network has a label yet
		})
		if !ok {
			return false
		}
	}
	return true
}

// Inspect returns a network by name, id or beginning of its id.
func (s *Service) Inspect(_ context.Context, ref string) (api.Inspect, error) {
	all := s.all()
	for _, n := range all {
		if n.Name == ref || n.ID == ref {
			return n, nil
		}
	}
	var found []api.Inspect
	for _, n := range all {
		if strings.HasPrefix(n.ID, ref) && ref != "" {
			found = append(found, n)
		}
	}
	if len(found) != 1 {
		return api.Inspect{}, errdefs.New(errdefs.NotFound, "network %s not found", ref)
	}
	return found[0], nil
}

// all returns what there is: bridge, host and none.
func (s *Service) all() []api.Inspect {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []api.Inspect
	for _, n := range [][2]string{{Default, "bridge"}, {"host", "host"}, {"none", "null"}} {
		out = append(out, api.Inspect{
			Network: api.Network{
				Name: n[0], ID: idOf(n[0]), Driver: n[1], Scope: "local", EnableIPv4: true, IPAM: api.IPAM{Driver: "default"},
				Options: map[string]string{}, Labels: map[string]string{},
			},
			Containers: map[string]api.EndpointResource{},
		})
	}
	if s.pool == nil {
		return out
	}
	b := &out[0]
	b.Options = map[string]string{"com.docker.network.bridge.name": s.net.Bridge, "com.docker.network.bridge.default_bridge": "true"}
	b.IPAM.Config = []api.IPAMConfig{{Subnet: s.net.Subnet, Gateway: s.net.Gateway}}
	for id, p := range s.ports {
		b.Containers[id] = api.EndpointResource{
			MacAddress:  api.HardwareAddr(bridge.MAC(p.rec.Address)),
			IPv4Address: netip.PrefixFrom(p.rec.Address, s.net.Subnet.Bits()),
		}
	}
	return out
}
