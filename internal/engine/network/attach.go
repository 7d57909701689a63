package network

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	api "github.com/moby/moby/api/types/network"

	"lade/internal/engine/network/definition"
	"lade/internal/engine/network/record"
	"lade/internal/errdefs"
	"lade/internal/ident"
	"lade/internal/linux/netns"
	"lade/internal/network/bridge"
	"lade/internal/network/dns"
	"lade/internal/network/rules"
)

// Attach connects the network namespace of process pid to networks, publishes
// ports, and returns the container's place. Called again for the same process, it
// changes nothing.
func (s *Service) Attach(_ context.Context, j Join, pid int) (Place, error) {
	for {
		p, err := s.take(j)
		if err != nil {
			return Place{}, err
		}
		gone, err := s.connectAll(p, pid)
		if errors.Is(err, os.ErrExist) {
			// The namespace has such a link: perhaps one that is to go.
			s.sweepRound(true)
			gone, err = s.connectAll(p, pid)
		}
		if gone {
			continue // a Detach came in between
		}
		if err != nil {
			return Place{}, errors.Join(err, s.release(p))
		}
		s.mu.Lock()
		got, ports := s.placeOf(p), s.wantedOf(p).Ports
		s.mu.Unlock()
		if err := forget(ports); err != nil {
			s.log.Warn("forget connections of before a port was published", "container", j.ID, "error", err)
		}
		return got, nil
	}
}

// take returns the place of a container, made and recorded if need be, in
// networks that are up. Its rules stand, its links are not there yet.
func (s *Service) take(j Join) (_ *place, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errdefs.New(errdefs.Unavailable, "connect container to networks: the engine is stopping")
	}
	if p := s.places[j.ID]; p != nil {
		return p, nil
	}
	p := &place{rec: record.Place{Container: j.ID, Name: j.Name}}
	defer func() {
		if err != nil {
			for _, port := range p.ports {
				delete(port.net.ports, j.ID)
				port.giveBack()
			}
			err = errors.Join(err, p.unlock())
			s.lingerIfIdle()
		}
	}()
	for i, ref := range j.order() {
		port, err := s.takePort(p, ref, j.Networks[ref])
		if err != nil {
			return nil, fmt.Errorf("connect container to network %s: %w", ref, err)
		}
		if port.rec.Interface == "" {
			port.rec.Interface = port.net.def.InterfacePrefix() + strconv.Itoa(i)
		}
	}
	p.chooseGateways()
	if err := s.publish(p, j); err != nil {
		return nil, err
	}
	if err := s.putPlace(p); err != nil {
		return nil, err
	}
	if err := s.edit(s.wantedOf(p), rules.Wanted{}); err != nil {
		return nil, errors.Join(err, s.deletePorts(p.ports), s.store.DeletePlace(p.rec.Container))
	}
	s.places[j.ID] = p
	for _, port := range p.ports {
		s.announce(p, port)
	}
	return p, nil
}

// order returns the networks in the order of their interfaces.
func (j Join) order() []string {
	refs := slices.Sorted(maps.Keys(j.Networks))
	if i := slices.Index(refs, j.First); i > 0 {
		refs = append([]string{j.First}, slices.Delete(refs, i, i+1)...)
	}
	return refs
}

// takePort makes an endpoint and gives it its addresses. s.mu is held.
func (s *Service) takePort(p *place, ref string, want *api.EndpointSettings) (*port, error) {
	n, err := s.find(ref)
	if err != nil {
		return nil, err
	}
	if want == nil {
		want = &api.EndpointSettings{}
	}
	switch {
	case n.def.Driver == definition.Host || n.def.Driver == definition.Null:
		return nil, errdefs.New(errdefs.Invalid, "container cannot be connected to %s network together with others, or while it runs", n.def.Name)
	case n.ports[p.rec.Container] != nil:
		return nil, errdefs.New(errdefs.Denied, "container %s is already connected to network %s", p.rec.Name, n.def.Name)
	}
	if err := s.bringUp(n); err != nil {
		return nil, err
	}
	id := ident.New()
	ep := &port{net: n, rec: record.Port{
		Container: p.rec.Container, Network: n.def.ID, Endpoint: id, Aliases: want.Aliases, GwPriority: want.GwPriority,
		Port: bridge.Port{Link: s.linkName(id)},
	}}
	if name := want.DriverOpts["com.docker.network.endpoint.ifname"]; name != "" {
		if !isInterfaceName(name) || slices.ContainsFunc(p.ports, func(o *port) bool { return o.rec.Interface == name }) {
			return nil, errdefs.New(errdefs.Invalid, "invalid name of an interface, or taken: %q", name)
		}
		ep.rec.Interface = name
	}
	if err := s.address(ep, want); err != nil {
		ep.giveBack()
		return nil, err
	}
	n.ports[p.rec.Container] = ep
	p.ports = append(p.ports, ep)
	return ep, nil
}

func isInterfaceName(s string) bool {
	return s != "" && len(s) < 16 && s != "." && s != ".." && s != "lo" && !strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c == '/' || c == ':' || c > '~' })
}

// address gives a port one address of each subnet's version, and a hardware
// address. s.mu is held. On error, those that it has are to be given back.
func (s *Service) address(p *port, want *api.EndpointSettings) error {
	var asked []netip.Addr
	if c := want.IPAMConfig; c != nil {
		for _, a := range []netip.Addr{c.IPv4Address, c.IPv6Address} {
			if a.IsValid() {
				asked = append(asked, a)
			}
		}
		if len(c.LinkLocalIPs) > 0 {
			return errdefs.New(errdefs.NotImplemented, "--link-local-ip is not there")
		}
	}
	done := map[bool]bool{} // by version
	for _, a := range asked {
		if p.net.builtin() {
			return errdefs.New(errdefs.Invalid, "user specified IP address is supported on user defined networks only")
		}
		if err := s.takeAddress(p, a); err != nil {
			return err
		}
		done[a.Is6()] = true
	}
	for _, pool := range p.net.pools {
		six := pool.Subnet().Addr().Is6()
		if done[six] {
			continue
		}
		a, err := pool.Get()
		if err != nil {
			return err
		}
		p.rec.Addresses = append(p.rec.Addresses, netip.PrefixFrom(a, pool.Subnet().Bits()))
		done[six] = true
	}
	slices.SortFunc(p.rec.Addresses, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	p.rec.MAC = net.HardwareAddr(want.MacAddress)
	if len(p.rec.MAC) == 0 {
		if len(p.rec.Addresses) > 0 {
			p.rec.MAC = bridge.MAC(p.rec.Addresses[0].Addr())
		}
		return nil
	}
	if len(p.rec.MAC) != 6 || p.rec.MAC[0]&1 != 0 {
		return errdefs.New(errdefs.Invalid, "invalid MAC address %s: it is not that of one link", p.rec.MAC)
	}
	for _, o := range p.net.ports {
		if o.rec.MAC.String() == p.rec.MAC.String() {
			return errdefs.New(errdefs.Conflict, "MAC address %s is already in use by container %s", p.rec.MAC, s.nameOf(o.rec.Container))
		}
	}
	return nil
}

// takeAddress takes an address that was asked for.
func (s *Service) takeAddress(p *port, a netip.Addr) error {
	for _, pool := range p.net.pools {
		if !pool.Subnet().Contains(a) {
			continue
		}
		if pool.Take(a) {
			p.rec.Addresses = append(p.rec.Addresses, netip.PrefixFrom(a, pool.Subnet().Bits()))
			return nil
		}
		return errdefs.New(errdefs.Denied, "Address already in use: %s is %s", a, s.holder(p.net, a))
	}
	var subnets []string
	for _, pool := range p.net.pools {
		subnets = append(subnets, pool.Subnet().String())
	}
	err := errdefs.New(errdefs.Invalid, "invalid endpoint settings: no configured subnet contains IP address %s", a)
	return errdefs.Hint(err, "network %s has %s", p.net.def.Name, strings.Join(subnets, " and "))
}

// holder says whose an address in a network is.
func (s *Service) holder(n *network, a netip.Addr) string {
	for _, o := range n.ports {
		for _, has := range o.rec.Addresses {
			if has.Addr() == a {
				return "that of container " + s.nameOf(o.rec.Container)
			}
		}
	}
	for i, sub := range n.def.Subnets {
		if n.pools[i].Gateway() == a {
			return "the network's gateway"
		}
		for name, aux := range sub.Aux {
			if aux == a {
				return "reserved for " + name
			}
		}
	}
	for _, p := range s.going {
		for _, has := range p.rec.Addresses {
			if p.net == n && has.Addr() == a {
				return "that of a container that just ended; try again"
			}
		}
	}
	return "reserved"
}

// nameOf returns the name of a container, or its short id.
func (s *Service) nameOf(id string) string {
	if p := s.places[id]; p != nil && p.rec.Name != "" {
		return p.rec.Name
	}
	return ident.Short(id)
}

// chooseGateways says which of a container's ports is the way out, for each
// version of IP: that of the highest priority, and of these the first by the
// name of its network.
func (p *place) chooseGateways() {
	best := map[bool]*port{}
	for _, o := range p.ports {
		o.rec.Gateways = nil
		for _, g := range o.gateways() {
			b := best[g.Is6()]
			if b == nil || o.rec.GwPriority > b.rec.GwPriority || o.rec.GwPriority == b.rec.GwPriority && o.net.def.Name < b.net.def.Name {
				best[g.Is6()] = o
			}
		}
	}
	for _, six := range []bool{false, true} {
		if b := best[six]; b != nil {
			for _, g := range b.gateways() {
				if g.Is6() == six {
					b.rec.Gateways = append(b.rec.Gateways, g)
				}
			}
		}
	}
}

// gateways returns the ways out that a port's network has.
func (p *port) gateways() (out []netip.Addr) {
	if p.net.def.Internal {
		return nil
	}
	for _, pool := range p.net.pools {
		if g := pool.Gateway(); g.IsValid() {
			out = append(out, g)
		}
	}
	return out
}

// connectAll makes the links of a place, unless they are there or the container
// is gone.
func (s *Service) connectAll(p *place, pid int) (gone bool, err error) {
	s.mu.Lock()
	ports := slices.Clone(p.ports)
	if s.places[p.rec.Container] != p {
		gone = true
	}
	s.mu.Unlock()
	for _, port := range ports {
		if gone || err != nil {
			return gone, err
		}
		if gone, err = s.connect(port, pid); err != nil {
			err = fmt.Errorf("connect container to network %s: %w", port.net.def.Name, err)
		}
	}
	return gone, err
}

// connect makes a port's link, unless it is there or the port is gone.
func (s *Service) connect(p *port, pid int) (gone bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone {
		return true, nil
	}
	if p.pid == pid {
		return false, nil
	}
	ns, err := netns.Open(pid)
	if err != nil {
		return false, err
	}
	p.letGo()
	s.mu.Lock()
	rec, up := p.rec, p.net.up
	s.mu.Unlock()
	if p.pid != 0 {
		// The container was started again without a Detach.
		if err := s.host.Disconnect(rec.Port); err != nil {
			return false, errors.Join(err, ns.Close())
		}
		p.pid = 0
	}
	if up == nil {
		return false, errors.Join(errdefs.New(errdefs.Unavailable, "network %s is not up any more", p.net.def.Name), ns.Close())
	}
	if err := bridge.Connect(s.host.Links, up.rec.Network, up.index, rec.Port, ns); err != nil {
		return false, errors.Join(err, ns.Close())
	}
	p.pid, p.ns = pid, ns
	s.changed("connect", p.net, rec.Container)
	return false, nil
}

// announce tells the resolver who a port is. On the default network containers
// have no names, as with Docker.
func (s *Service) announce(p *place, o *port) {
	if o.net.builtin() {
		return
	}
	h := dns.Host{Name: p.rec.Name, Aliases: append(slices.Clone(o.rec.Aliases), ident.Short(p.rec.Container))}
	for _, a := range o.rec.Addresses {
		h.Addrs = append(h.Addrs, a.Addr())
	}
	s.o.Names.Put(o.net.def.Name, p.rec.Container, h)
}

// Rename tells that a container has another name.
func (s *Service) Rename(_ context.Context, id, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.places[id]
	if p == nil {
		return nil
	}
	p.rec.Name = name
	for _, o := range p.ports {
		s.announce(p, o)
	}
	return s.putPlace(p)
}

// Connect connects a running container, whose process is pid, to one more
// network.
func (s *Service) Connect(_ context.Context, id, name string, want Wish, pid int) error {
	s.mu.Lock()
	p := s.places[id]
	if p == nil {
		p = &place{rec: record.Place{Container: id, Name: name}}
	}
	port, err := s.join(p, want, pid)
	if err == nil {
		s.places[id] = p
	}
	s.mu.Unlock()
	if err != nil {
		return fmt.Errorf("connect container to network %s: %w", want.Network, err)
	}
	if _, err := s.connect(port, pid); err != nil {
		return errors.Join(fmt.Errorf("connect container to network %s: %w", want.Network, err), s.part(p, port))
	}
	return s.reroute(p)
}

// Wish is a network, by name or id, and how a container wants to be in it.
type Wish struct {
	Network  string
	Settings *api.EndpointSettings
}

// join takes a port for a container that runs. s.mu is held.
func (s *Service) join(p *place, want Wish, pid int) (*port, error) {
	ns, err := netns.Open(pid)
	if err != nil {
		return nil, err
	}
	defer func() { _ = ns.Close() }()
	links, err := bridge.Interfaces(ns)
	if err != nil {
		return nil, err
	}
	o, err := s.takePort(p, want.Network, want.Settings)
	if err != nil {
		s.lingerIfIdle()
		return nil, err
	}
	for i := 0; o.rec.Interface == ""; i++ {
		if name := o.net.def.InterfacePrefix() + strconv.Itoa(i); !slices.Contains(links, name) {
			o.rec.Interface = name
		}
	}
	if err := s.putPlace(p); err != nil {
		return nil, errors.Join(err, s.dropPort(p, o))
	}
	if err := s.edit(rules.Wanted{Endpoints: o.endpoints()}, rules.Wanted{}); err != nil {
		return nil, errors.Join(err, s.dropPort(p, o))
	}
	s.announce(p, o)
	return o, nil
}

// dropPort takes back a port that has no link yet. s.mu is held.
func (s *Service) dropPort(p *place, o *port) error {
	p.ports = slices.DeleteFunc(p.ports, func(x *port) bool { return x == o })
	delete(o.net.ports, o.rec.Container)
	o.giveBack()
	s.lingerIfIdle()
	return s.deletePorts([]*port{o})
}

// Disconnect takes a running container out of a network.
func (s *Service) Disconnect(_ context.Context, id, ref string) error {
	s.mu.Lock()
	n, err := s.find(ref)
	var o *port
	p := s.places[id]
	if err == nil && p != nil {
		o = n.ports[id]
	}
	s.mu.Unlock()
	switch {
	case err != nil:
		return err
	case o == nil:
		return errdefs.New(errdefs.Invalid, "container %s is not connected to network %s", ident.Short(id), n.def.Name)
	}
	if err := s.part(p, o); err != nil {
		return fmt.Errorf("disconnect container from network %s: %w", n.def.Name, err)
	}
	return s.reroute(p)
}

// part cuts a link of a container that runs on.
func (s *Service) part(p *place, o *port) error {
	o.mu.Lock()
	ns, pid := o.ns, o.pid
	var err error
	if pid != 0 {
		if ns == nil {
			if ns, err = netns.Open(pid); err == nil {
				defer func() { _ = ns.Close() }()
			}
		}
		if err == nil {
			err = bridge.Cut(s.host.Links, o.net.network(), o.rec.Port, ns)
		}
	}
	o.gone = true
	o.mu.Unlock()
	if pid != 0 {
		s.changed("disconnect", o.net, o.rec.Container)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p.ports = slices.DeleteFunc(p.ports, func(x *port) bool { return x == o })
	err = errors.Join(err, s.edit(rules.Wanted{}, rules.Wanted{Endpoints: o.endpoints()}))
	s.leave(o)
	return err
}

func (n *network) network() bridge.Network {
	if n.up == nil {
		return bridge.Network{}
	}
	return n.up.rec.Network
}

// reroute chooses the way out anew, and with it where published ports lead.
func (s *Service) reroute(p *place) error {
	s.mu.Lock()
	before := s.wantedOf(p).Ports
	p.chooseGateways()
	s.retarget(p)
	err := errors.Join(s.edit(rules.Wanted{Ports: s.wantedOf(p).Ports}, rules.Wanted{Ports: before}), s.putPlace(p), s.allowLoopback(p))
	ports, links := slices.Clone(p.ports), linksOf(p.ports)
	after := s.wantedOf(p).Ports
	s.mu.Unlock()
	if !slices.Equal(before, after) {
		err = errors.Join(err, forget(before), forget(after))
	}
	routed := false
	var ns *os.File
	for i, o := range ports {
		o.mu.Lock()
		if o.pid != 0 && ns == nil {
			var e error
			if ns, e = netns.Open(o.pid); e == nil {
				defer func() { _ = ns.Close() }()
			}
			err = errors.Join(err, e)
		}
		if len(links[i].Gateways) > 0 && ns != nil {
			err = errors.Join(err, bridge.Route(links[i], ns))
			routed = true
		}
		o.mu.Unlock()
	}
	if !routed && ns != nil {
		err = errors.Join(err, bridge.NoRoute(ns))
	}
	return err
}
