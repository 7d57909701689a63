// Package network is the engine's noun "network": it makes networks, connects
// containers to them and publishes their ports.
//
// Three networks are always there: bridge, whose containers have an address on a
// bridge of the host; host, the host's own; and none. Others are made by
// Create, and defined by a record that lasts (package definition).
//
// A network is up while a container uses it: the first Attach makes its bridge
// and its rules, and some time after the last Detach they go, so that the host is
// as it was (see Options.Linger). What is there is recorded before it is made,
// and struck off after it is gone, in the records that live as long as the
// machine runs: Recover removes what a killed engine left, and takes over what
// running containers use.
//
// All that should be in the packet filter is a value that wanted derives from
// what the Service holds. A container, a network or a port more is an edit of
// some elements; where an edit does not go through, because somebody has taken the
// rules away, all of the value is put back.
//
// To take a link away, or a namespace with one in it, takes the kernel 5 to
// 20 ms, in which no other link can be made; to take many away together takes
// no longer. So Detach only gives ports to the sweeper, and the sweeper lets go
// of what has gathered now and then: it holds the containers' network
// namespaces till then, and the links go with them. What is still there after
// that, because something else holds the namespace, it removes by name. Rules
// and published ports go at once.
package network

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"time"

	api "github.com/moby/moby/api/types/network"

	"lade/internal/engine/network/definition"
	"lade/internal/engine/network/host"
	"lade/internal/engine/network/record"
	"lade/internal/linux/portlock"
	"lade/internal/metadata"
	"lade/internal/network/dns"
	"lade/internal/network/ipam"
)

// Default is the name of the network that containers are in unless they say
// otherwise.
const Default = "bridge"

// Options says how a Service behaves.
type Options struct {
	// Owner sets this engine apart from others on the same host: its state
	// directory. The same owner finds again what it made.
	Owner string
	// Records are those that end with the boot: what they tell of does too.
	Records *metadata.DB
	// Durable are those that do not: the networks' definitions.
	Durable *metadata.DB
	// Names is told which containers are where; nil: nobody is.
	Names *dns.Table
	// Ranges are where subnets are taken from; none means ipam.DefaultRanges.
	Ranges []ipam.Range
	// Publish is the address that ports are published on which name none; not
	// valid means all of the host's.
	Publish netip.Addr
	// Grace is how long the sweeper gathers what is to go, and how long it lets
	// a link go with its namespace. 0 means 250 ms.
	Grace time.Duration
	// Linger is how long a network stays without containers: the next one is
	// often not far. 0 means one second.
	Linger time.Duration
	// Changed, if set, is told of what becomes of a network: create, connect,
	// disconnect and destroy. container is "" where none is involved.
	Changed func(action, id, name, driver, container string)
	// Log takes what fails where nobody waits; nil means slog's default.
	Log *slog.Logger
}

// Service connects containers to networks. Its methods may be called
// concurrently.
type Service struct {
	o     Options
	log   *slog.Logger
	host  *host.Host
	store record.Store

	mu     sync.Mutex
	nets   map[string]*network // by id; guarded by mu
	places map[string]*place   // by container; guarded by mu
	table  host.Table          // guarded by mu
	linger *time.Timer         // runs while a network is up without containers; guarded by mu
	going  []*port             // detached, their links not removed yet; guarded by mu
	free   int                 // so many of going were let go of already; guarded by mu
	stuck  []*port             // going, but could not be removed; guarded by mu
	closed bool                // guarded by mu

	wake     chan struct{}  // tells the sweeper of going
	closing  chan struct{}  // closed by Close
	sick     chan struct{}  // tells the healer that somebody took something away
	watchers []io.Closer    // what ends the watching; set by Recover
	behind   sync.WaitGroup // the sweeper and the healer
	sweeping sync.Mutex     // held while links are removed; taken before mu
}

// network is a network and what there is of it. All of it is guarded by
// Service.mu.
type network struct {
	def   definition.Network
	pools []*ipam.Pool // of def.Subnets
	up    *up          // nil: not up
	ports map[string]*port
	going int // ports that are going
}

// up is a network that is up.
type up struct {
	rec   record.Network
	index int // of the bridge
}

func (n *network) builtin() bool {
	return n.def.Name == Default || n.def.Driver == definition.Host || n.def.Driver == definition.Null
}

// changed tells what has become of a network.
func (s *Service) changed(action string, n *network, container string) {
	if s.o.Changed != nil {
		s.o.Changed(action, n.def.ID, n.def.Name, n.def.Driver, container)
	}
}

// place is a container's place in networks.
type place struct {
	rec   record.Place
	ports []*port // in the order of their interfaces
	locks []*portlock.Lock
}

// port is a container's endpoint.
type port struct {
	net *network
	rec record.Port // guarded by Service.mu; link and addresses do not change

	mu   sync.Mutex // held while the link is made or removed
	pid  int        // connected to its namespace; 0: not; guarded by mu
	ns   *os.File   // that namespace, held; nil after a restart; guarded by mu
	gone bool       // detached; guarded by mu
}

// Join is what a container that starts asks for.
type Join struct {
	ID, Name string // of the container
	// Networks are the networks to be in, by name or id, and how. The one in
	// First gets the first interface.
	Networks map[string]*api.EndpointSettings
	First    string
	// Ports are to be published; Exposed ones, too, with All.
	Ports   api.PortMap
	Exposed api.PortSet
	All     bool
}

// Place is what a container got.
type Place struct {
	Networks map[string]*api.EndpointSettings // by name
	Ports    api.PortMap
	// Named says that one of the networks at least has names, Outside that one at
	// least leads out.
	Named, Outside bool
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
	if o.Names == nil {
		o.Names = new(dns.Table)
	}
	h, err := host.New(o.Owner)
	if err != nil {
		return nil, err
	}
	s := &Service{
		o: o, log: o.Log, host: h, store: record.Store{Boot: o.Records, Durable: o.Durable}, nets: map[string]*network{}, places: map[string]*place{},
		wake: make(chan struct{}, 1), sick: make(chan struct{}, 1), closing: make(chan struct{}),
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	if err := s.load(); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	s.behind.Go(s.sweep)
	return s, nil
}

// Close lets go of the kernel. What containers use stays; networks without
// containers are removed at once.
func (s *Service) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.closing)
	close(s.wake)
	for _, w := range s.watchers {
		_ = w.Close()
	}
	s.mu.Unlock()
	s.behind.Wait()
	s.sweepRound(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	errs := []error{s.tearDownIdle()}
	for _, p := range s.places {
		errs = append(errs, p.unlock())
	}
	return errors.Join(append(errs, s.host.Close())...)
}

// Detach releases what Attach took. A container that is not attached is no
// error. The container's links are cut soon, its addresses are free after that.
func (s *Service) Detach(_ context.Context, id string) error {
	s.mu.Lock()
	p := s.places[id]
	s.mu.Unlock()
	if p == nil {
		return nil
	}
	return s.release(p)
}
