package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"lade/internal/errdefs"
	"lade/internal/metadata"
	"lade/internal/network/bridge"
	"lade/internal/network/ipam"
)

// netRecord is the record of a network that is up.
type netRecord struct {
	bridge.Network
	// Forwarding says that Lade turned ip_forward on, and turns it off again.
	Forwarding bool `json:"forwarding"`
}

// portRecord is the record of a container's endpoint. It is written before the
// link is made and struck off after it is gone.
type portRecord struct {
	Container string `json:"container"`
	bridge.Port
}

func networks() metadata.Collection[netRecord] {
	return metadata.Collection[netRecord]{Name: "network", Noun: "network"}
}

func endpoints() metadata.Collection[portRecord] {
	return metadata.Collection[portRecord]{Name: "endpoint", Noun: "endpoint"}
}

func (s *Service) putPort(r portRecord) error {
	return s.o.Records.Update(func(tx *metadata.Tx) error { return endpoints().Put(tx, r.Container+"/"+r.Link, r) })
}

func (s *Service) deletePorts(ports []*port) error {
	return s.o.Records.Update(func(tx *metadata.Tx) error {
		for _, p := range ports {
			if err := endpoints().Delete(tx, p.id+"/"+p.rec.Link); err != nil {
				return err
			}
		}
		return nil
	})
}

// bringUp makes the bridge if it is not up. s.mu is held.
func (s *Service) bringUp() error {
	if s.linger != nil {
		s.linger.Stop()
		s.linger = nil
	}
	if s.pool != nil {
		return nil
	}
	used, err := s.host.inUse()
	if err != nil {
		return err
	}
	subnet, err := ipam.Choose(s.o.Ranges, used)
	if err != nil {
		return err
	}
	pool, err := ipam.NewPool(subnet)
	if err != nil {
		return err
	}
	for attempt := 0; ; attempt++ {
		name, guard, err := s.host.bridgeName()
		if err != nil {
			return err
		}
		rec := netRecord{
			Network:    bridge.Network{Bridge: name, Subnet: subnet, Gateway: pool.Gateway(), MTU: s.host.mtu(), Owner: s.host.owner},
			Forwarding: guard,
		}
		err = s.o.Records.Update(func(tx *metadata.Tx) error { return networks().Put(tx, Default, rec) })
		if err != nil {
			return err
		}
		index, err := s.host.up(rec.Network, rec.Forwarding)
		if errors.Is(err, os.ErrExist) && attempt < 8 {
			continue // another engine was faster
		}
		s.net, s.pool, s.index = rec, pool, index
		if err != nil {
			err = errors.Join(err, s.tearDown())
			s.pool = nil // even where not all could be taken away: it is not up
		}
		return err
	}
}

// lingerIfIdle begins to wait for the next container if there is none. s.mu is
// held.
func (s *Service) lingerIfIdle() {
	if s.pool == nil || len(s.ports)+len(s.going) > 0 || s.linger != nil || s.closed {
		return
	}
	s.linger = time.AfterFunc(s.o.Linger, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.linger == nil || s.closed {
			return // a container came
		}
		s.linger = nil
		if err := s.tearDownIfIdle(); err != nil {
			s.log.Error("remove network", "error", err)
		}
	})
}

// tearDownIfIdle removes the bridge if no container is on it. s.mu is held.
func (s *Service) tearDownIfIdle() error {
	if s.pool == nil || len(s.ports)+len(s.going) > 0 {
		return nil
	}
	return s.tearDown()
}

// tearDown removes the bridge and what belongs to it. s.mu is held.
func (s *Service) tearDown() error {
	if err := s.host.down(s.net.Network, s.net.Forwarding); err != nil {
		return err
	}
	err := s.o.Records.Update(func(tx *metadata.Tx) error { return networks().Delete(tx, Default) })
	if err != nil {
		return err
	}
	s.pool, s.index, s.net = nil, 0, netRecord{}
	return nil
}

// Recover takes over what an engine before this one left. running holds the
// containers that run, with their process: they keep what they have. What
// others had is removed, links without a record too.
func (s *Service) Recover(_ context.Context, running map[string]int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var up *netRecord
	var left []portRecord
	err := s.o.Records.View(func(tx *metadata.Tx) error {
		n, err := networks().Get(tx, Default)
		switch {
		case err == nil:
			up = &n
		case !errdefs.Is(err, errdefs.NotFound):
			return err
		}
		return endpoints().Each(tx, func(_ string, r portRecord) error {
			left = append(left, r)
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("recover network: %w", err)
	}
	if up != nil {
		if err := s.adopt(*up, left, running); err != nil {
			return fmt.Errorf("recover network: %w", err)
		}
	}
	if err := s.removeStrays(); err != nil {
		return fmt.Errorf("recover network: %w", err)
	}
	s.lingerIfIdle()
	return nil
}

// adopt takes over a network that is up, or half up. s.mu is held.
func (s *Service) adopt(n netRecord, left []portRecord, running map[string]int) error {
	pool, err := ipam.NewPool(n.Subnet)
	if err != nil {
		return err
	}
	s.net, s.pool = n, pool
	var dead []*port
	for _, r := range left {
		p := &port{id: r.Container, rec: r, pid: running[r.Container]}
		pool.Take(r.Address)
		if p.pid == 0 {
			dead = append(dead, p)
			continue
		}
		s.ports[p.id] = p
	}
	if len(dead) > 0 {
		links := make([]bridge.Port, len(dead))
		for i, p := range dead {
			links[i] = p.rec.Port
		}
		if err := s.host.disconnect(links...); err != nil {
			return err
		}
		if err := s.deletePorts(dead); err != nil {
			return err
		}
		for _, p := range dead {
			pool.Put(p.rec.Address)
		}
	}
	if len(s.ports) == 0 {
		return s.tearDown()
	}
	// Rules or the bridge may be missing where the engine was killed, or a
	// firewall was flushed meanwhile.
	s.index, err = s.host.up(n.Network, n.Forwarding)
	return err
}

// removeStrays removes links with names of ours that no record tells of: those
// of an engine whose records are lost. s.mu is held.
func (s *Service) removeStrays() error {
	links, err := s.host.links.Links()
	if err != nil {
		return err
	}
	var strays []bridge.Port
	for _, l := range links {
		if l.Group == s.host.owner && l.Kind == "veth" && isLinkName(l.Name) && !s.linkTaken(l.Name) {
			strays = append(strays, bridge.Port{Link: l.Name})
		}
	}
	if len(strays) > 0 {
		if err := s.host.disconnect(strays...); err != nil {
			return err
		}
	}
	for _, l := range links {
		if l.Group == s.host.owner && isBridge(l) && l.Name != s.net.Bridge {
			if err := s.host.down(bridge.Network{Bridge: l.Name}, l.Alias == forwardingWasOff); err != nil {
				return err
			}
		}
	}
	return nil
}
