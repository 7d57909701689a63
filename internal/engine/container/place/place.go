// Package place says in which networks a container is: as it was asked for, as it
// is at each start, and as Docker shows it.
package place

import (
	"context"
	"fmt"
	"maps"
	"slices"

	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"lade/internal/engine/container/record"
	"lade/internal/errdefs"
)

// Networks is what is asked of networks, besides what a start does.
type Networks interface {
	// Resolve returns the name of a network that somebody names in some way.
	Resolve(ref string) (string, error)
	// Check refuses wishes, by network, that can never be fulfilled.
	Check(wishes map[string]*network.EndpointSettings) error
	// Place returns where a running container is.
	Place(id string) (map[string]*network.EndpointSettings, network.PortMap)
	// Connect and Disconnect change that, by a network's name.
	Connect(ctx context.Context, d record.Definition, name string, pid int) error
	Disconnect(ctx context.Context, id, name string) error
	// Rename tells that a container has another name.
	Rename(ctx context.Context, id, name string) error
}

// Join completes which networks a new container is in, by their names. n is nil
// where there are none.
func Join(n Networks, d *record.Definition) error {
	asked := map[string]*network.EndpointSettings{}
	if d.Networks != nil {
		maps.Copy(asked, d.Networks.EndpointsConfig)
	}
	d.Networks = &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{}}
	mode := string(d.Host.NetworkMode)
	if !ownNamespace(d.Host.NetworkMode) {
		for name := range asked {
			if name != mode && !d.Host.NetworkMode.IsContainer() {
				return errdefs.New(errdefs.Invalid, "conflicting options: cannot attach both user-defined and non-user-defined network-modes: %s and %s", mode, name)
			}
		}
		return nil
	}
	if n == nil {
		return nil
	}
	first := ""
	for ref, e := range asked {
		if ref == network.NetworkDefault {
			ref = network.NetworkBridge
		}
		name, err := n.Resolve(ref)
		if err != nil {
			return err
		}
		if e = e.Copy(); e == nil {
			e = &network.EndpointSettings{}
		}
		d.Networks.EndpointsConfig[name] = e
		first = min(name, cmpOr(first, name))
	}
	name, err := n.Resolve(mode)
	if err != nil {
		return err
	}
	switch {
	case d.Networks.EndpointsConfig[name] != nil:
	case len(asked) == 0 || d.Host.NetworkMode.IsUserDefined():
		d.Networks.EndpointsConfig[name] = &network.EndpointSettings{}
	default: // only those that are asked for
		name = first
	}
	d.Host.NetworkMode = api.NetworkMode(name)
	return n.Check(d.Networks.EndpointsConfig)
}

func cmpOr(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

// Of is where a container is at each start.
func Of(d record.Definition) map[string]*network.EndpointSettings {
	if d.Networks == nil {
		return nil
	}
	return d.Networks.EndpointsConfig
}

// Settings shows a container's networks and ports as Docker does.
func Settings(of Networks, d record.Definition, st record.State) *api.NetworkSettings {
	n := &api.NetworkSettings{Ports: network.PortMap{}}
	var published network.PortMap
	n.Networks, published = endpoints(of, d, st)
	if !st.Alive() {
		return n
	}
	n.SandboxID = d.ID
	n.SandboxKey = fmt.Sprintf("/proc/%d/ns/net", st.PID)
	for p := range d.Config.ExposedPorts {
		n.Ports[p] = nil
	}
	maps.Copy(n.Ports, published)
	return n
}

// endpoints is the container's places in networks, as Docker shows them: also
// of one that does not run, and of those without a network of their own; and its
// published ports.
func endpoints(of Networks, d record.Definition, st record.State) (map[string]*network.EndpointSettings, network.PortMap) {
	out := map[string]*network.EndpointSettings{}
	for name, e := range Of(d) {
		if out[name] = e.Copy(); e == nil {
			out[name] = &network.EndpointSettings{}
		}
	}
	if mode := d.Host.NetworkMode; len(out) == 0 && !mode.IsContainer() {
		out[mode.NetworkName()] = &network.EndpointSettings{}
	}
	if of == nil || !st.Alive() {
		return out, nil
	}
	now, ports := of.Place(d.ID)
	for name, e := range now {
		if asked := out[name]; asked != nil {
			e.IPAMConfig, e.Links, e.DriverOpts = asked.IPAMConfig, asked.Links, asked.DriverOpts
		}
		out[name] = e
	}
	return out, ports
}

// Ports lists ports as ps does: those that are published, then the others
// that the container exposes.
func Ports(n *api.NetworkSettings) []api.PortSummary {
	out := []api.PortSummary{}
	for p, bindings := range n.Ports {
		if len(bindings) == 0 {
			out = append(out, api.PortSummary{PrivatePort: p.Num(), Type: string(p.Proto())})
		}
		for _, b := range bindings {
			var public uint16
			_, _ = fmt.Sscan(b.HostPort, &public)
			out = append(out, api.PortSummary{IP: b.HostIP, PrivatePort: p.Num(), PublicPort: public, Type: string(p.Proto())})
		}
	}
	slices.SortFunc(out, func(a, b api.PortSummary) int {
		if a.PrivatePort != b.PrivatePort {
			return int(a.PrivatePort) - int(b.PrivatePort)
		}
		if a.Type != b.Type {
			return len(b.Type) - len(a.Type)
		}
		return a.IP.Compare(b.IP)
	})
	return out
}

// ownNamespace reports whether a container has a network namespace that can be
// connected to networks.
func ownNamespace(m api.NetworkMode) bool { return !m.IsNone() && !m.IsHost() && !m.IsContainer() }
