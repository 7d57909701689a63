package place

import (
	"maps"
	"net/netip"
	"slices"

	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"lade/internal/engine/container/record"
	"lade/internal/errdefs"
)

// Changeable refuses to change the networks of containers that cannot be in any,
// and makes a definition one that can be changed: what it points to is its own.
func Changeable(d *record.Definition, name string) error {
	switch {
	case d.Host.NetworkMode.IsHost():
		return errdefs.New(errdefs.Denied, "container cannot be disconnected from host network or connected to host network")
	case d.Host.NetworkMode.IsContainer():
		return errdefs.New(errdefs.Denied, "container sharing network namespace with another container or host cannot be connected to any other network")
	case name == network.NetworkHost || name == network.NetworkNone:
		return errdefs.New(errdefs.Denied, "container cannot be connected to %s network together with others, or while it runs", name)
	}
	host := *d.Host
	d.Host = &host
	config := maps.Clone(Of(*d))
	if config == nil {
		config = map[string]*network.EndpointSettings{}
	}
	d.Networks = &network.NetworkingConfig{EndpointsConfig: config}
	return nil
}

// Enter puts a container in a network.
func Enter(n Networks, d *record.Definition, name string, e *network.EndpointSettings) error {
	if d.Networks.EndpointsConfig[name] != nil {
		return errdefs.New(errdefs.Denied, "endpoint with name %s already exists in network %s", d.Name, name)
	}
	if e = e.Copy(); e == nil {
		e = &network.EndpointSettings{}
	}
	d.Networks.EndpointsConfig[name] = e
	return n.Check(map[string]*network.EndpointSettings{name: e})
}

// Leave takes a container out of a network.
func Leave(d *record.Definition, name string) error {
	if d.Networks.EndpointsConfig[name] == nil {
		return errdefs.New(errdefs.Denied, "container %s is not connected to network %s", d.ID, name)
	}
	delete(d.Networks.EndpointsConfig, name)
	if string(d.Host.NetworkMode) != name {
		return nil
	}
	d.Host.NetworkMode = network.NetworkNone
	if left := slices.Sorted(maps.Keys(d.Networks.EndpointsConfig)); len(left) > 0 {
		d.Host.NetworkMode = api.NetworkMode(left[0])
	}
	return nil
}

// Addresses returns the addresses of a running container.
func Addresses(n Networks, id string) (addrs []netip.Addr) {
	now, _ := n.Place(id)
	for _, name := range slices.Sorted(maps.Keys(now)) {
		for _, a := range []netip.Addr{now[name].IPAddress, now[name].GlobalIPv6Address} {
			if a.IsValid() {
				addrs = append(addrs, a)
			}
		}
	}
	return addrs
}
