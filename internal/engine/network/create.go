package network

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	api "github.com/moby/moby/api/types/network"

	"lade/internal/engine/network/definition"
	"lade/internal/engine/network/host"
	"lade/internal/errdefs"
	"lade/internal/filter"
	"lade/internal/ident"
	"lade/internal/network/ipam"
)

// userBits is how large the subnets of networks are that name none: 256 addresses
// are enough for most, and the ranges hold hundreds of them.
const userBits = 24

// Create makes a network, which is recorded when it returns. What it needs on the
// host is made when a container comes.
func (s *Service) Create(_ context.Context, r api.CreateRequest) (api.CreateResponse, error) {
	d, warnings, err := definition.Parse(r)
	if err != nil {
		return api.CreateResponse{}, err
	}
	if r.EnableIPv6 == nil && !host.HaveIPv6() {
		d.IPv6 = false
	}
	d.ID, d.Created = ident.New(), time.Now().UTC()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return api.CreateResponse{}, errdefs.New(errdefs.Unavailable, "create network %s: the engine is stopping", d.Name)
	}
	for _, n := range s.nets {
		if n.def.Name == d.Name {
			return api.CreateResponse{}, errdefs.New(errdefs.Conflict, "network with name %s already exists: %s", d.Name, ident.Short(n.def.ID))
		}
	}
	if err := s.vacant(&d); err != nil {
		return api.CreateResponse{}, fmt.Errorf("create network %s: %w", d.Name, err)
	}
	pools, err := poolsOf(&d)
	if err != nil {
		return api.CreateResponse{}, fmt.Errorf("create network %s: %w", d.Name, err)
	}
	if err := s.store.PutDefinition(d); err != nil {
		return api.CreateResponse{}, fmt.Errorf("create network %s: %w", d.Name, err)
	}
	n := &network{def: d, pools: pools, ports: map[string]*port{}}
	s.nets[d.ID] = n
	s.changed("create", n, "")
	return api.CreateResponse{ID: d.ID, Warning: strings.Join(warnings, "; ")}, nil
}

// vacant refuses a definition that takes what others have, and fills in the
// subnets that it leaves open. s.mu is held.
func (s *Service) vacant(d *definition.Network) error {
	inUse, err := s.host.InUse()
	if err != nil {
		return err
	}
	if d.Driver != definition.Bridge {
		// They are on a wire that the host is on, too.
		inUse = nil
	}
	for _, n := range s.nets {
		for _, sub := range n.def.Subnets {
			inUse = append(inUse, host.Use{Prefix: sub.Subnet, By: "network " + n.def.Name})
		}
		if b := d.BridgeName(); b != "" && (n.def.BridgeName() == b || n.up != nil && n.up.rec.Bridge == b) {
			return errdefs.New(errdefs.Conflict, "bridge %s is that of network %s", b, n.def.Name)
		}
	}
	for _, sub := range d.Subnets {
		if u, taken := host.Overlapping(sub.Subnet, inUse); taken {
			err := errdefs.New(errdefs.Denied, "invalid pool request: Pool overlaps with other one on this address space: %s with %s (%s)", sub.Subnet, u.Prefix, u.By)
			return errdefs.Hint(err, "choose another --subnet, or none")
		}
	}
	if b := d.BridgeName(); b != "" {
		if l, err := s.host.Links.LinkByName(b); err == nil {
			return errdefs.New(errdefs.Conflict, "bridge name %s: the host has a link of that name (%s)", b, kindOf(l.Kind))
		}
	}
	if p := d.Parent(); p != "" && d.Driver != definition.Bridge {
		if _, err := s.host.Links.LinkByName(p); err != nil {
			return errdefs.New(errdefs.Invalid, "parent %s: the host has no such link", p)
		}
	}
	ranges := slices.Clone(s.o.Ranges)
	for i := range ranges {
		ranges[i].Bits = max(ranges[i].Bits, userBits)
	}
	return s.choose(d, ranges, inUse)
}

func kindOf(kind string) string {
	if kind == "" {
		return "a device"
	}
	return kind
}

// Remove removes a network that no container is connected to.
func (s *Service) Remove(_ context.Context, ref string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := s.find(ref)
	if err != nil {
		return err
	}
	if n.builtin() {
		return errdefs.New(errdefs.Denied, "%s is a pre-defined network and cannot be removed", n.def.Name)
	}
	return s.remove(n)
}

// remove removes a network. s.mu is held.
func (s *Service) remove(n *network) error {
	if len(n.ports) > 0 {
		var who []string
		for id := range n.ports {
			who = append(who, fmt.Sprintf("name:%q id:%q", s.nameOf(id), ident.Short(id)))
		}
		slices.Sort(who)
		err := errdefs.New(errdefs.Denied, "error while removing network: network %s has active endpoints (%s)", n.def.Name, strings.Join(who, ", "))
		return errdefs.Hint(err, "lade network disconnect %s CONTAINER", n.def.Name)
	}
	if n.up != nil {
		// Links that are going would hold nothing but the sweeper's attention.
		if err := s.tearDown(n); err != nil {
			return fmt.Errorf("remove network %s: %w", n.def.Name, err)
		}
	}
	if err := s.store.DeleteDefinition(n.def.ID); err != nil {
		return fmt.Errorf("remove network %s: %w", n.def.Name, err)
	}
	delete(s.nets, n.def.ID)
	s.changed("destroy", n, "")
	return nil
}

// Prune removes networks that no container is connected to, and that go with
// filters: Docker's, by key.
func (s *Service) Prune(_ context.Context, filters map[string][]string) (api.PruneReport, error) {
	report := api.PruneReport{NetworksDeleted: []string{}}
	old, err := filter.Prunes(filters, time.Now())
	if err != nil {
		return report, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.all() {
		if n.builtin() || len(n.ports) > 0 || !old.Match(n.def.Created, n.def.Labels) {
			continue
		}
		if err := s.remove(n); err != nil {
			return report, err
		}
		report.NetworksDeleted = append(report.NetworksDeleted, n.def.Name)
	}
	return report, nil
}

// Resolve returns a network's name by name, id or beginning of its id.
func (s *Service) Resolve(ref string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := s.find(ref)
	if err != nil {
		return "", err
	}
	return n.def.Name, nil
}

// Check refuses what a container asks for of networks that can never be.
func (s *Service) Check(wishes map[string]*api.EndpointSettings) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ref, w := range wishes {
		n, err := s.find(ref)
		if err != nil {
			return err
		}
		if w == nil || w.IPAMConfig == nil {
			continue
		}
		for _, a := range []netip.Addr{w.IPAMConfig.IPv4Address, w.IPAMConfig.IPv6Address} {
			switch {
			case !a.IsValid():
			case n.builtin():
				return errdefs.New(errdefs.Invalid, "invalid config for network %s: invalid endpoint settings: user specified IP address is supported on user defined networks only", n.def.Name)
			case !slices.ContainsFunc(n.pools, func(p *ipam.Pool) bool { return p.Subnet().Contains(a) }):
				return errdefs.New(errdefs.Invalid, "invalid config for network %s: invalid endpoint settings: no configured subnet contains IP address %s", n.def.Name, a)
			}
		}
	}
	return nil
}
