package daemon

import (
	"context"
	"maps"
	"net/netip"
	"slices"

	api "github.com/moby/moby/api/types/network"

	"lade/internal/engine/container"
	"lade/internal/engine/container/record"
	"lade/internal/engine/network"
	"lade/internal/server/dockerapi"
)

// endpoints gives package network the form that package container asks for.
type endpoints struct{ *network.Service }

func (e endpoints) Attach(ctx context.Context, d record.Definition, pid int) ([]netip.Addr, error) {
	p, err := e.Service.Attach(ctx, join(d), pid)
	if err != nil {
		return nil, err
	}
	var addrs []netip.Addr
	for _, name := range slices.Sorted(maps.Keys(p.Networks)) {
		for _, a := range []netip.Addr{p.Networks[name].IPAddress, p.Networks[name].GlobalIPv6Address} {
			if a.IsValid() {
				addrs = append(addrs, a)
			}
		}
	}
	return addrs, nil
}

// join is what a container asks for as it starts. Those of old have no list.
func join(d record.Definition) network.Join {
	j := network.Join{
		ID: d.ID, Name: d.Name, First: string(d.Host.NetworkMode), Ports: d.Host.PortBindings,
		Exposed: d.Config.ExposedPorts, All: d.Host.PublishAllPorts,
	}
	if d.Networks != nil {
		j.Networks = d.Networks.EndpointsConfig
	}
	if len(j.Networks) == 0 {
		j.Networks = map[string]*api.EndpointSettings{j.First: nil}
	}
	return j
}

func (e endpoints) Place(id string) (map[string]*api.EndpointSettings, api.PortMap) {
	p := e.Service.Place(id)
	return p.Networks, p.Ports
}

func (e endpoints) Connect(ctx context.Context, d record.Definition, name string, pid int) error {
	return e.Service.Connect(ctx, d.ID, d.Name, network.Wish{Network: name, Settings: d.Networks.EndpointsConfig[name]}, pid)
}

// networkAPI is the networks as the API knows them: which containers are in one is
// a matter of the containers.
type networkAPI struct {
	*network.Service
	containers *container.Service
}

var _ dockerapi.Networks = networkAPI{}

func (n networkAPI) Connect(ctx context.Context, ref string, r api.ConnectRequest) error {
	return n.containers.ConnectNetwork(ctx, r.Container, ref, r.EndpointConfig)
}

func (n networkAPI) Disconnect(ctx context.Context, ref string, r api.DisconnectRequest) error {
	return n.containers.DisconnectNetwork(ctx, r.Container, ref)
}
