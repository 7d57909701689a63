package daemon

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"slices"

	containerapi "github.com/moby/moby/api/types/container"
	api "github.com/moby/moby/api/types/network"

	"lade/internal/engine/container"
	"lade/internal/engine/container/record"
	"lade/internal/engine/network"
	"lade/internal/engine/resolver"
	"lade/internal/network/dns"
	"lade/internal/server/dockerapi"
)

// endpoints gives packages network and resolver the form that package container
// asks for.
type endpoints struct {
	*network.Service
	resolver *resolver.Service
}

// newEndpoints returns the networks, and who answers for their names.
func newEndpoints(o Options, g ground, t teller, log *slog.Logger, open *closers) (*endpoints, error) {
	names := new(dns.Table)
	bridge, err := network.New(network.Options{
		Owner: o.StateDir, Records: g.boot, Durable: g.durable, Names: names, Ranges: o.Pools, Publish: o.Publish, Log: log,
		Changed: networkChanged(t),
	})
	if err != nil {
		return nil, err
	}
	open.add(bridge)
	e := &endpoints{bridge, resolver.New(resolver.Config{Names: names, Log: log})}
	open.add(e.resolver)
	return e, nil
}

// recover takes over the places that running containers have. One that ends
// meanwhile has left a network that did not know it yet, and leaves again.
func (e *endpoints) recover(ctx context.Context, containers *container.Service, log *slog.Logger) {
	running := containers.Running()
	err := e.Recover(ctx, running)
	for id, pid := range running {
		// What answered its queries is gone with the engine before this one.
		if c, e2 := containers.Inspect(ctx, id, false); e2 == nil {
			err = errors.Join(err, e.resolve(ctx, id, c.HostConfig, pid))
		}
	}
	still := containers.Running()
	for id := range running {
		if still[id] == 0 {
			err = errors.Join(err, e.Detach(ctx, id))
		}
	}
	if err != nil {
		log.Error("take over the networks", "err", err)
	}
}

func (e *endpoints) Attach(ctx context.Context, d record.Definition, pid int) ([]netip.Addr, error) {
	p, err := e.Service.Attach(ctx, join(d), pid)
	if err != nil {
		return nil, err
	}
	if err := e.resolve(ctx, d.ID, d.Host, pid); err != nil {
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

// resolve answers the name queries of a container, whose process is pid, if one of
// its networks has names.
func (e *endpoints) resolve(ctx context.Context, id string, h *containerapi.HostConfig, pid int) error {
	p := e.Service.Place(id)
	if !p.Named {
		return nil
	}
	v := resolver.View{Outside: p.Outside, Servers: h.DNS, Networks: slices.Sorted(maps.Keys(p.Networks))}
	if first := slices.Index(v.Networks, string(h.NetworkMode)); first > 0 {
		name := v.Networks[first]
		v.Networks = slices.Insert(slices.Delete(v.Networks, first, first+1), 0, name)
	}
	return e.resolver.Serve(ctx, id, pid, v)
}

func (e *endpoints) Detach(ctx context.Context, id string) error {
	e.resolver.Stop(id)
	return e.Service.Detach(ctx, id)
}

func (e *endpoints) Disconnect(ctx context.Context, id, ref string) error {
	err := e.Service.Disconnect(ctx, id, ref)
	p := e.Service.Place(id)
	e.resolver.Change(id, func(v *resolver.View) {
		v.Outside = p.Outside
		v.Networks = slices.DeleteFunc(v.Networks, func(n string) bool { return p.Networks[n] == nil })
	})
	return err
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

func (e *endpoints) Place(id string) (map[string]*api.EndpointSettings, api.PortMap) {
	p := e.Service.Place(id)
	return p.Networks, p.Ports
}

func (e *endpoints) Connect(ctx context.Context, d record.Definition, name string, pid int) error {
	err := e.Service.Connect(ctx, d.ID, d.Name, network.Wish{Network: name, Settings: d.Networks.EndpointsConfig[name]}, pid)
	if err != nil {
		return err
	}
	return e.resolve(ctx, d.ID, d.Host, pid)
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
