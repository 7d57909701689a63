package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"lade/internal/engine/network/definition"
	"lade/internal/engine/network/host"
	"lade/internal/engine/network/record"
	"lade/internal/linux/netns"
	"lade/internal/linux/portlock"
	"lade/internal/linux/rtnl"
	"lade/internal/network/bridge"
)

// Recover takes over what an engine before this one left. running holds the
// containers that run, with their process: they keep what they have. What
// others had is removed, links without a record too.
func (s *Service) Recover(_ context.Context, running map[string]int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.recover(running); err != nil {
		return fmt.Errorf("recover networks: %w", err)
	}
	s.lingerIfIdle()
	return s.guard()
}

func (s *Service) recover(running map[string]int) error {
	left, err := s.store.Left()
	if err != nil {
		return err
	}
	for _, r := range left.Networks {
		if n := s.nets[r.ID]; n != nil {
			if err := n.adopt(r); err != nil {
				return err
			}
		} else if err := s.forget(r); err != nil { // removed, and the engine was killed
			return err
		}
	}
	dead := s.takeOver(left, running)
	if err := s.removeDead(dead); err != nil {
		return err
	}
	if err := s.restore(left.Table); err != nil {
		return err
	}
	return errors.Join(s.tearDownIdle(), s.removeStrays())
}

// adopt takes a network for up. The default one has its subnets from there, where
// the record of its definition is lost.
func (n *network) adopt(r record.Network) (err error) {
	n.up = &up{rec: r}
	if len(n.def.Subnets) > 0 {
		return nil
	}
	for _, a := range r.Addresses {
		n.def.Subnets = append(n.def.Subnets, definition.Subnet{Subnet: a.Masked(), Gateway: a.Addr()})
	}
	n.pools, err = poolsOf(&n.def)
	return err
}

func (s *Service) forget(r record.Network) error {
	return errors.Join(bridge.TearDown(s.host.Links, r.Network), s.store.DeleteNetwork(r))
}

// takeOver makes places of records, and returns the ports of containers that do
// not run.
func (s *Service) takeOver(left record.Left, running map[string]int) (dead []*port) {
	for _, r := range left.Ports {
		n := s.nets[r.Network]
		if n == nil || n.up == nil {
			n = &network{def: definition.Network{ID: r.Network, Name: r.Network}, ports: map[string]*port{}}
		}
		o := &port{net: n, rec: r, pid: running[r.Container]}
		if o.pid == 0 || n.up == nil {
			dead = append(dead, o)
			continue
		}
		for _, a := range r.Addresses {
			for _, pool := range n.pools {
				pool.Take(a.Addr())
			}
		}
		if ns, err := netns.Open(o.pid); err == nil {
			o.ns = ns // while the process is this one
		}
		n.ports[r.Container] = o
		p := s.places[r.Container]
		if p == nil {
			p = &place{rec: left.Places[r.Container]}
			p.rec.Container = r.Container
			s.places[r.Container] = p
		}
		p.ports = append(p.ports, o)
	}
	for _, p := range s.places {
		slices.SortFunc(p.ports, func(a, b *port) int { return strings.Compare(a.rec.Interface, b.rec.Interface) })
		for _, o := range p.ports {
			s.announce(p, o)
		}
		for _, pub := range p.rec.Published {
			// Somebody may have taken it meanwhile. The rules go first.
			if l, err := portlock.Hold(pub.Protocol, pub.Host); err != nil {
				s.log.Warn("hold a published port", "container", p.rec.Container, "port", pub.Host, "error", err)
			} else {
				p.locks = append(p.locks, l)
			}
		}
	}
	return dead
}

// removeDead removes the links of containers that ended while no engine ran.
func (s *Service) removeDead(dead []*port) error {
	if len(dead) == 0 {
		return nil
	}
	if err := s.host.Disconnect(linksOf(dead)...); err != nil {
		return err
	}
	return s.deletePorts(dead)
}

// restore makes whole what there is of networks that are up: where the engine was
// killed, or somebody took things away meanwhile. s.mu is held.
func (s *Service) restore(guard host.Table) error {
	if err := s.findTable(guard); err != nil {
		return err
	}
	for _, n := range s.all() {
		if n.up == nil {
			continue
		}
		if n.def.Driver == definition.Bridge && s.table.Name == "" {
			if err := s.claim(); err != nil {
				return err
			}
			s.table.Guard4, s.table.Guard6 = s.table.Guard4 || guard.Guard4, s.table.Guard6 || guard.Guard6
		}
	}
	if s.table.Name != "" {
		if err := s.putBack(s.wanted()); err != nil {
			return err
		}
	}
	for _, n := range s.all() {
		if n.up == nil {
			continue
		}
		if err := s.make(n); err != nil {
			if !errors.Is(err, os.ErrExist) && n.def.Driver == definition.Bridge {
				return err
			}
			s.log.Error("restore a network", "network", n.def.Name, "error", err)
		}
	}
	for _, p := range s.places {
		if err := s.allowLoopback(p); err != nil {
			return err
		}
	}
	return nil
}

// findTable finds the table that the engine before this one had.
func (s *Service) findTable(before host.Table) error {
	there, err := s.host.Rules.Tables()
	if err != nil {
		return err
	}
	for _, t := range there {
		if t.Comment == s.host.Comment && s.table.Name == "" {
			s.table = host.Table{Name: t.Name}
			s.table.Guard4, s.table.Guard6, err = s.host.Guards()
		}
	}
	if err != nil {
		return err
	}
	// By now the host forwards, so only the record knows that it did not.
	s.table.Guard4, s.table.Guard6 = s.table.Guard4 || before.Guard4, s.table.Guard6 || before.Guard6
	return nil
}

// removeStrays removes what carries this engine's mark and no record tells of:
// what is left where records are lost. s.mu is held.
func (s *Service) removeStrays() error {
	links, err := s.host.Links.Links()
	if err != nil {
		return err
	}
	var strays []bridge.Port
	var mine []rtnl.Link
	for _, l := range links {
		switch {
		case l.Group != s.host.Owner:
		case l.Kind == "veth" && isLinkName(l.Name) && !s.linkTaken(l.Name):
			strays = append(strays, bridge.Port{Link: l.Name})
		case host.IsBridge(l) && !slices.ContainsFunc(s.all(), func(n *network) bool { return n.up != nil && n.up.rec.Bridge == l.Name }):
			mine = append(mine, l)
		}
	}
	if len(strays) > 0 {
		if err := s.host.Disconnect(strays...); err != nil {
			return err
		}
	}
	t := s.table
	for _, l := range mine {
		t.Learn(l.Alias)
		if err := bridge.TearDown(s.host.Links, bridge.Network{Bridge: l.Name}); err != nil {
			return err
		}
	}
	if len(mine) > 0 {
		if err := s.host.StopForwarding(t); err != nil {
			return err
		}
	}
	return s.removeTables()
}

// removeTables removes tables of this engine that it does not use.
func (s *Service) removeTables() error {
	tables, err := s.host.Rules.Tables()
	if err != nil {
		return err
	}
	for _, t := range tables {
		if t.Comment == s.host.Comment && t.Name != s.table.Name {
			err = errors.Join(err, s.host.Rules.Delete(t))
		}
	}
	if s.table.Name != "" && !slices.ContainsFunc(s.all(), func(n *network) bool { return n.up != nil }) {
		err = errors.Join(err, s.unclaim())
	}
	return err
}
