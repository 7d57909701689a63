package network

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"

	"lade/internal/engine/network/definition"
	"lade/internal/linux/nft"
	"lade/internal/linux/rtnl"
	"lade/internal/network/bridge"
	"lade/internal/network/rules"
)

// guard begins to watch for what others take away. s.mu is held.
func (s *Service) guard() error {
	filter, err := nft.Watch()
	if err != nil {
		return err
	}
	links, err := rtnl.Watch()
	if err != nil {
		return errors.Join(err, filter.Close())
	}
	s.watchers = []io.Closer{filter, links}
	s.behind.Go(func() {
		s.watch(func() (bool, error) { return filter.Next(s.host.Rules, s.tableName()) })
	})
	s.behind.Go(func() {
		s.watch(func() (bool, error) { return links.Next(s.host.Links, s.mine) })
	})
	s.behind.Go(s.healer)
	return nil
}

func (s *Service) tableName() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.table.Name
}

// watch tells the healer of changes that others made, until the service closes.
func (s *Service) watch(next func() (bool, error)) {
	for {
		touched, err := next()
		switch {
		case errors.Is(err, os.ErrClosed):
			return
		case err != nil:
			s.log.Error("watch the host's networks", "error", err)
			return
		case touched:
			select {
			case s.sick <- struct{}{}:
			default: // it will look anyway
			}
		}
	}
}

// mine reports whether a change of a link, or of the addresses of one, is one to
// look at: something is gone, or down, that should be there.
func (s *Service) mine(e rtnl.Event) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.nets {
		if n.up == nil {
			continue
		}
		if e.Link == n.up.rec.Bridge && e.Link != "" || e.Index == n.up.index {
			return e.Gone || !e.Up
		}
		for _, p := range n.ports {
			if p.rec.Link == e.Link {
				return e.Gone || !e.Up || e.Master != n.up.index
			}
		}
	}
	return false
}

// healer puts things back until the service closes.
func (s *Service) healer() {
	const again = 50 * time.Millisecond
	var retry <-chan time.Time // after a failure: perhaps somebody was at it still
	for {
		select {
		case <-s.closing:
			return
		case <-s.sick:
		case <-retry:
		}
		retry = nil
		began := time.Now()
		done, err := s.heal()
		if err != nil {
			s.log.Error("put back what somebody took away", "error", err)
			retry = time.After(again)
		}
		if len(done) > 0 {
			s.log.Warn("somebody took away what is the engine's; it is there again", "what", done, "took", time.Since(began))
		}
	}
}

// heal puts back what is missing, rules first, and says what that was.
func (s *Service) heal() (done []string, err error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, nil
	}
	done, err = s.healRules()
	links, e := s.host.Links.Links()
	err = errors.Join(err, e)
	addrs, e := s.host.Links.Addrs()
	err = errors.Join(err, e)
	var ports []*port
	for _, n := range s.all() {
		if n.up == nil || n.def.Driver != definition.Bridge || err != nil {
			continue
		}
		if !sound(n, links, addrs) {
			done = append(done, "bridge "+n.up.rec.Bridge)
			err = s.make(n)
		}
		for _, p := range n.ports {
			if i := slices.IndexFunc(links, func(l rtnl.Link) bool { return l.Name == p.rec.Link }); i < 0 || links[i].Master != n.up.index || !links[i].Up {
				ports = append(ports, p)
			}
		}
	}
	for _, p := range s.places {
		if len(done) > 0 && err == nil {
			err = s.allowLoopback(p)
		}
	}
	s.mu.Unlock()
	for _, p := range ports {
		again, e := s.reconnect(p)
		if err = errors.Join(err, e); again {
			done = append(done, "link "+p.rec.Link)
		}
	}
	return done, err
}

// healRules compares the rules with what they should be. s.mu is held.
func (s *Service) healRules() ([]string, error) {
	if s.table.Name == "" {
		return nil, nil
	}
	w := s.wanted()
	for _, t := range rules.Tables(s.table.Name, s.host.Comment, w) {
		diff, err := s.host.Rules.Diff(t)
		if err != nil {
			return nil, err
		}
		if len(diff) > 0 {
			return []string{fmt.Sprintf("rules (%d differences, first %s)", len(diff), diff[0])}, s.putBack(w)
		}
	}
	return nil, nil
}

// sound reports whether a network's bridge is as it should be.
func sound(n *network, links []rtnl.Link, addrs []rtnl.Addr) bool {
	i := slices.IndexFunc(links, func(l rtnl.Link) bool { return l.Name == n.up.rec.Bridge })
	if i < 0 || !links[i].Up || links[i].Index != n.up.index {
		return false
	}
	return !slices.ContainsFunc(n.up.rec.Own(), func(want netip.Prefix) bool {
		return !slices.ContainsFunc(addrs, func(a rtnl.Addr) bool { return a.Link == n.up.index && a.Prefix == want })
	})
}

// reconnect makes a port's link whole, if the container still has the namespace
// that it led to.
func (s *Service) reconnect(p *port) (again bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone || p.pid == 0 || p.ns == nil {
		return false, nil
	}
	s.mu.Lock()
	rec, up := p.rec, p.net.up
	s.mu.Unlock()
	if up == nil {
		return false, nil
	}
	l, err := s.host.Links.LinkByName(rec.Link)
	if err == nil {
		if l.Master == up.index && l.Up {
			return false, nil
		}
		return true, bridge.Reattach(s.host.Links, up.rec.Network, up.index, rec.Port, p.ns)
	}
	if !errors.Is(err, syscall.ENODEV) {
		return false, err
	}
	return true, bridge.Connect(s.host.Links, up.rec.Network, up.index, rec.Port, p.ns)
}
