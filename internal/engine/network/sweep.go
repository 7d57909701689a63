package network

import (
	"errors"
	"slices"
	"time"

	"lade/internal/network/rules"
)

// release takes a container's rules and published ports away, and hands its ports
// to the sweeper.
func (s *Service) release(p *place) error {
	s.mu.Lock()
	ports := slices.Clone(p.ports)
	s.mu.Unlock()
	for _, gone := range retire(ports...) {
		s.changed("disconnect", gone.net, gone.rec.Container)
	}
	led, err := s.vacate(p)
	// Before the next one has the port. The container's addresses rest till then.
	return errors.Join(err, forget(led))
}

// vacate takes a retired place out of the rules, and returns the ports that it had
// published.
func (s *Service) vacate(p *place) ([]rules.Port, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.places[p.rec.Container] != p {
		return nil, nil
	}
	delete(s.places, p.rec.Container)
	had := s.wantedOf(p)
	err := s.edit(rules.Wanted{}, had)
	err = errors.Join(err, p.unlock())
	for _, port := range p.ports {
		s.leave(port)
	}
	p.ports = nil
	return had.Ports, err
}

// retire waits for what makes the ports' links, and lets nobody make them again.
// s.mu is not held: who makes a link asks for it. It returns those that had one.
func retire(ports ...*port) (linked []*port) {
	for _, p := range ports {
		p.mu.Lock()
		if p.pid != 0 && !p.gone {
			linked = append(linked, p)
		}
		p.gone = true
		p.mu.Unlock()
	}
	return linked
}

// leave hands a retired port to the sweeper. s.mu is held; the port's rules are
// gone.
func (s *Service) leave(p *port) {
	if p.net.ports[p.rec.Container] != p {
		return // it was handed over already
	}
	delete(p.net.ports, p.rec.Container)
	s.o.Names.Remove(p.net.def.Name, p.rec.Container)
	p.net.going++
	s.going = append(s.going, p)
	if s.closed {
		return // its record stays, and the next engine removes it
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// sweep lets go of ports, and removes the links of those that were let go of
// one round before, until the service closes.
func (s *Service) sweep() {
	for range s.wake {
		for again := true; again; {
			timer := time.NewTimer(s.o.Grace)
			select {
			case <-timer.C:
			case <-s.closing:
				timer.Stop()
				return
			}
			again = s.sweepRound(false)
		}
	}
}

// sweepRound reports whether there is something for another round. With all,
// it removes the links of every port that is to go, now.
func (s *Service) sweepRound(all bool) (more bool) {
	s.sweeping.Lock()
	defer s.sweeping.Unlock()
	s.mu.Lock()
	fresh := s.going[s.free:]
	old := s.going[:s.free]
	if all {
		old = s.going
	}
	s.mu.Unlock()
	for _, p := range fresh {
		p.letGo()
	}
	var err error
	if len(old) > 0 {
		err = s.host.DisconnectLeft(linksOf(old))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil && len(old) > 0 {
		err = s.deletePorts(old)
	}
	for _, p := range old {
		p.net.going--
		if err == nil {
			p.giveBack()
		}
	}
	if err != nil {
		// Their records stay: the next engine tries again. Their addresses are
		// not given out meanwhile.
		s.log.Error("disconnect containers", "error", err)
		s.stuck = append(s.stuck, old...)
	}
	s.going = slices.Clone(s.going[len(old):])
	s.free = len(fresh)
	if all {
		s.free = 0
	}
	s.lingerIfIdle()
	return len(s.going) > 0
}

// letGo closes the namespace of a port. p.mu is held, or the port is gone.
func (p *port) letGo() {
	if p.ns != nil {
		_ = p.ns.Close()
		p.ns = nil
	}
}

// giveBack gives a port's addresses back to their pools.
func (p *port) giveBack() {
	for _, a := range p.rec.Addresses {
		for _, pool := range p.net.pools {
			pool.Put(a.Addr())
		}
	}
}

// lingerIfIdle begins to wait for the next container if a network is up without
// one. s.mu is held.
func (s *Service) lingerIfIdle() {
	if s.linger != nil || s.closed || !slices.ContainsFunc(s.all(), (*network).idle) {
		return
	}
	s.linger = time.AfterFunc(s.o.Linger, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.linger == nil || s.closed {
			return // a container came
		}
		s.linger = nil
		if err := s.tearDownIdle(); err != nil {
			s.log.Error("remove networks without containers", "error", err)
		}
	})
}

func (n *network) idle() bool { return n.up != nil && len(n.ports)+n.going == 0 }

// tearDownIdle removes what there is of networks without containers. s.mu is
// held.
func (s *Service) tearDownIdle() error {
	var errs []error
	for _, n := range s.all() {
		if n.idle() {
			errs = append(errs, s.tearDown(n))
		}
	}
	return errors.Join(errs...)
}

// linkName returns the name of the host's end of a container's link: lade and
// eight digits of the endpoint's id, the first eight that no other has.
func (s *Service) linkName(id string) string {
	for i := 0; i+8 <= len(id); i += 8 {
		name := rules.Prefix + id[i:i+8]
		if !s.linkTaken(name) {
			return name
		}
	}
	return rules.Prefix + id[:min(8, len(id))]
}

func (s *Service) linkTaken(name string) bool {
	for _, p := range slices.Concat(s.going, s.stuck) {
		if p.rec.Link == name {
			return true
		}
	}
	for _, n := range s.nets {
		for _, p := range n.ports {
			if p.rec.Link == name {
				return true
			}
		}
	}
	return false
}

// isLinkName reports whether a link's name is one that linkName gives.
func isLinkName(name string) bool {
	if len(name) != 12 || name[:4] != rules.Prefix {
		return false
	}
	for _, c := range []byte(name[4:]) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
