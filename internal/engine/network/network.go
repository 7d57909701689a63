// Package network is the engine's noun "network": it connects containers to
// networks and disconnects them.
//
// There are three networks so far: bridge, whose containers have an address on
// a bridge of the host; host, the host's own; and none. Only on the
// first there is something to do.
//
// The bridge, its packet filter table and the forwarding of packets are there
// while a container uses them: the first Attach makes them, and some time after
// the last Detach they go, so that the host is as it was (see Options.Linger).
// What is there is recorded before it is made, and struck off after it is gone,
// in the records that live as long as the machine runs: Recover removes what a
// killed engine left, and takes over what running containers use.
//
// To take a link away, or a namespace with one in it, takes the kernel 5 to
// 20 ms, in which no other link can be made; to take many away together takes
// no longer. So Detach only gives a port to the sweeper, and the sweeper lets go
// of what has gathered now and then: it holds the containers' network
// namespaces till then, and the links go with them. What is still there after
// that, because something else holds the namespace, it removes by name.
package network

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"lade/internal/errdefs"
	"lade/internal/linux/netns"
	"lade/internal/metadata"
	"lade/internal/network/bridge"
	"lade/internal/network/ipam"
)

// Default is the name of the network that containers are in unless they say
// otherwise.
const Default = "bridge"

// Endpoint is a container's place in a network.
type Endpoint struct {
	Network    string
	IPAddress  netip.Addr
	PrefixLen  int
	Gateway    netip.Addr
	MacAddress string
}

// Options says how a Service behaves.
type Options struct {
	// Owner sets this engine apart from others on the same host, such as its
	// state directory. The same owner finds again what it made.
	Owner string
	// Records are those that end with the boot: what they tell of does too.
	Records *metadata.DB
	// Ranges are where subnets are taken from; none means ipam.DefaultRanges.
	Ranges []ipam.Range
	// Grace is how long the sweeper gathers what is to go, and how long it lets
	// a link go with its namespace. 0 means 250 ms.
	Grace time.Duration
	// Linger is how long the bridge stays without containers: the next one is
	// often not far. 0 means one second.
	Linger time.Duration
	// Log takes what fails where nobody waits; nil means slog's default.
	Log *slog.Logger
}

// Service connects containers to networks. Its methods may be called
// concurrently.
type Service struct {
	o    Options
	log  *slog.Logger
	host *host

	mu     sync.Mutex
	pool   *ipam.Pool       // nil while the bridge is not up; guarded by mu
	net    netRecord        // of the bridge, while pool is there; guarded by mu
	index  int              // of the bridge; guarded by mu
	ports  map[string]*port // by container; guarded by mu
	going  []*port          // detached, their links not removed yet; guarded by mu
	linger *time.Timer      // runs while there are no ports; guarded by mu
	free   int              // so many of going were let go of already; guarded by mu
	stuck  []*port          // going, but could not be removed; guarded by mu
	closed bool             // guarded by mu

	wake     chan struct{}  // tells the sweeper of going
	closing  chan struct{}  // closed by Close
	swept    sync.WaitGroup // the sweeper
	sweeping sync.Mutex     // held while links are removed; taken before mu
}

// port is a container's endpoint.
type port struct {
	id  string
	rec portRecord // does not change

	mu   sync.Mutex // held while the link is made or removed
	pid  int        // connected to its namespace; 0: not; guarded by mu
	ns   *os.File   // that namespace, held; nil after a restart; guarded by mu
	gone bool       // detached; guarded by mu
}

// New returns a service. Recover must be called before Attach.
func New(o Options) (*Service, error) {
	if len(o.Ranges) == 0 {
		o.Ranges = ipam.DefaultRanges()
	}
	if o.Grace == 0 {
		o.Grace = 250 * time.Millisecond
	}
	if o.Linger == 0 {
		o.Linger = time.Second
	}
	h, err := newHost(ownerOf(o.Owner))
	if err != nil {
		return nil, err
	}
	s := &Service{o: o, log: o.Log, host: h, ports: map[string]*port{}, wake: make(chan struct{}, 1), closing: make(chan struct{})}
	if s.log == nil {
		s.log = slog.Default()
	}
	s.swept.Add(1)
	go s.sweep()
	return s, nil
}

// ownerOf returns an owner as a number that links can carry: even and not 0.
func ownerOf(name string) uint32 {
	sum := sha256.Sum256([]byte(name))
	return binary.BigEndian.Uint32(sum[:])&^1 | 2
}

// Close lets go of the kernel. What containers use stays; without containers,
// the bridge is removed at once.
func (s *Service) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.closing)
	close(s.wake)
	s.mu.Unlock()
	s.swept.Wait()
	s.sweepRound(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.tearDownIfIdle()
	return errors.Join(err, s.host.close())
}

// Attach connects the network namespace of process pid to the bridge and
// returns the container's place there. Called again for the same process, it
// changes nothing.
func (s *Service) Attach(_ context.Context, id string, pid int) (Endpoint, error) {
	for {
		p, n, index, err := s.take(id)
		if err != nil {
			return Endpoint{}, fmt.Errorf("connect container to network %s: %w", Default, err)
		}
		gone, err := s.connect(p, n, index, pid)
		if errors.Is(err, os.ErrExist) {
			// The namespace has an eth0: perhaps one that is to go.
			s.sweepRound(true)
			gone, err = s.connect(p, n, index, pid)
		}
		if gone {
			continue // a Detach came in between
		}
		if err != nil {
			s.release(p)
			return Endpoint{}, fmt.Errorf("connect container to network %s: %w", Default, err)
		}
		return endpoint(n.Network, p.rec), nil
	}
}

func endpoint(n bridge.Network, r portRecord) Endpoint {
	return Endpoint{
		Network: Default, IPAddress: r.Address, PrefixLen: n.Subnet.Bits(), Gateway: n.Gateway,
		MacAddress: bridge.MAC(r.Address).String(),
	}
}

// take returns the port of a container, made and recorded if need be, on a
// bridge that is up.
func (s *Service) take(id string) (*port, netRecord, int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, netRecord{}, 0, errdefs.New(errdefs.Unavailable, "the engine is stopping")
	}
	if err := s.bringUp(); err != nil {
		return nil, netRecord{}, 0, err
	}
	if p := s.ports[id]; p != nil {
		return p, s.net, s.index, nil
	}
	addr, err := s.pool.Get()
	if err != nil {
		s.lingerIfIdle()
		return nil, netRecord{}, 0, err
	}
	p := &port{id: id, rec: portRecord{Container: id, Port: bridge.Port{Link: s.linkName(id), Address: addr}}}
	if err := s.putPort(p.rec); err != nil {
		s.pool.Put(addr)
		s.lingerIfIdle()
		return nil, netRecord{}, 0, err
	}
	s.ports[id] = p
	return p, s.net, s.index, nil
}

// connect makes a port's link, unless it is there or the port is gone.
func (s *Service) connect(p *port, n netRecord, index, pid int) (gone bool, err error) {
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
	if p.pid != 0 {
		// The container was started again without a Detach.
		if err := s.host.disconnect(p.rec.Port); err != nil {
			return false, errors.Join(err, ns.Close())
		}
		p.pid = 0
	}
	if err := s.host.connect(n.Network, index, p.rec.Port, ns); err != nil {
		return false, errors.Join(err, ns.Close())
	}
	p.pid, p.ns = pid, ns
	return false, nil
}

// letGo closes the namespace of a port. p.mu is held, or the port is gone.
func (p *port) letGo() {
	if p.ns != nil {
		_ = p.ns.Close()
		p.ns = nil
	}
}

// Detach releases what Attach took. A container that is not attached is no
// error. The container's link is cut soon, its address is free after that.
func (s *Service) Detach(_ context.Context, id string) error {
	s.mu.Lock()
	p := s.ports[id]
	s.mu.Unlock()
	if p != nil {
		s.release(p)
	}
	return nil
}

// release hands a port to the sweeper.
func (s *Service) release(p *port) {
	p.mu.Lock()
	was := p.gone
	p.gone = true
	p.mu.Unlock()
	if was {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.ports, p.id)
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
	defer s.swept.Done()
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
		err = s.host.disconnectLeft(old)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil && len(old) > 0 {
		err = s.deletePorts(old)
	}
	if err == nil {
		for _, p := range old {
			s.pool.Put(p.rec.Address)
		}
	} else {
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

// linkName returns the name of the host's end of a container's link: lade and
// eight digits of its id, the first eight that no other has.
func (s *Service) linkName(id string) string {
	for i := 0; i+8 <= len(id); i += 8 {
		name := "lade" + id[i:i+8]
		if !s.linkTaken(name) {
			return name
		}
	}
	return "lade" + id[:min(8, len(id))]
}

func (s *Service) linkTaken(name string) bool {
	for _, p := range slices.Concat(s.going, s.stuck) {
		if p.rec.Link == name {
			return true
		}
	}
	for _, p := range s.ports {
		if p.rec.Link == name {
			return true
		}
	}
	return false
}

// isLinkName reports whether a link's name is one that linkName gives.
func isLinkName(name string) bool {
	if len(name) != 12 || name[:4] != "lade" {
		return false
	}
	for _, c := range []byte(name[4:]) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
