// Package resolver answers the name queries of containers, each at an address in
// its own network namespace.
//
// A container in a network that people made finds 127.0.0.11 in its resolv.conf,
// as with Docker. There the engine has two sockets, at a port that containers have
// no use for; a rule in the namespace leads from port 53 to it, so that the
// container may have a server of its own on port 53 of all addresses.
//
// While no engine runs, queries are not refused: the namespace drops what would say
// so, the client asks again some seconds later, and the next engine, which listens at
// the same port, answers.
package resolver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"lade/internal/linux/netns"
	"lade/internal/linux/nft"
	"lade/internal/network/dns"
)

// Address is where containers ask.
func Address() netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, 11}) }

// port is the one at which the sockets listen where they can. The next engine
// must find it again without a record.
const port = 27053

// table is the rules' name in a container's namespace.
const table = "lade-resolver"

// Config says what a Service answers with.
type Config struct {
	// Names of all networks.
	Names *dns.Table
	// Servers returns the host's name servers; nil means those of /etc/resolv.conf.
	Servers func() []netip.AddrPort
	Log     *slog.Logger
}

// View is what one container sees.
type View struct {
	// Networks that it is in; the first is asked first.
	Networks []string
	// Outside says that what no network knows may be asked elsewhere. A container
	// whose networks are all internal asks nobody.
	Outside bool
	// Servers are asked in place of the host's, from the container's namespace.
	Servers []netip.Addr
	// Links are further names that it has for others.
	Links map[string]string
}

// Service runs the resolvers of an engine's containers. Its methods may be called
// concurrently.
type Service struct {
	cfg Config

	mu      sync.Mutex
	closed  bool               // guarded by mu
	running map[string]*server // by container; guarded by mu
}

// server is the resolver of one container.
type server struct {
	pid    int
	view   atomic.Pointer[View]
	cancel context.CancelFunc
	done   chan struct{}
}

// New returns a service.
func New(cfg Config) *Service {
	if cfg.Servers == nil {
		cfg.Servers = new(dns.HostServers).Servers
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return &Service{cfg: cfg, running: map[string]*server{}}
}

// Serve answers the queries of a container, whose process is pid, from now on.
// Called again for the same process, it changes the view.
func (s *Service) Serve(ctx context.Context, id string, pid int, v View) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	if r := s.running[id]; r != nil {
		if r.pid == pid {
			r.view.Store(&v)
			return nil
		}
		s.stop(id, r)
	}
	ns, err := netns.Open(pid)
	if err != nil {
		return fmt.Errorf("resolve names for container: %w", err)
	}
	udp, tcp, err := open(ns)
	if err != nil {
		return errors.Join(fmt.Errorf("resolve names for container: %w", err), ns.Close())
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx)) // it outlives the request
	r := &server{pid: pid, cancel: cancel, done: make(chan struct{})}
	r.view.Store(&v)
	s.running[id] = r
	answers := dns.Resolver{Names: s.cfg.Names.View(func() dns.Scope {
		v := r.view.Load()
		return dns.Scope{Networks: v.Networks, Links: v.Links}
	}), Elsewhere: s.elsewhere(r, ns)}
	go func() {
		defer close(r.done)
		defer func() { _ = ns.Close() }()
		if err := answers.Serve(ctx, udp, tcp); err != nil {
			s.cfg.Log.Warn("resolve names", "container", id, "err", err)
		}
	}()
	return nil
}

// elsewhere asks the servers that a container's view says.
func (s *Service) elsewhere(r *server, ns *os.File) dns.Exchange {
	host := dns.Forwarder{Servers: s.cfg.Servers}
	own := dns.Forwarder{
		Servers: func() (out []netip.AddrPort) {
			for _, a := range r.view.Load().Servers {
				out = append(out, netip.AddrPortFrom(a, 53))
			}
			return out
		},
		Dial: func(ctx context.Context, network, address string) (conn net.Conn, err error) {
			err = netns.Do(ns, func() error {
				conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
				return err
			})
			return conn, err
		},
	}
	return func(ctx context.Context, network string, query []byte) ([]byte, error) {
		v := r.view.Load()
		switch {
		case !v.Outside:
			return nil, dns.ErrNoSuchName
		case len(v.Servers) > 0:
			return own.Exchange(ctx, network, query)
		}
		return host.Exchange(ctx, network, query)
	}
}

// Change gives a container another view, if it has a resolver.
func (s *Service) Change(id string, change func(*View)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.running[id]; r != nil {
		v := *r.view.Load()
		v.Networks = slices.Clone(v.Networks)
		change(&v)
		r.view.Store(&v)
	}
}

// Stop ends the resolver of a container, if it has one. The namespace is let go of
// when Stop returns.
func (s *Service) Stop(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.running[id]; r != nil {
		s.stop(id, r)
	}
}

// stop ends r. s.mu is held.
func (s *Service) stop(id string, r *server) {
	delete(s.running, id)
	r.cancel()
	<-r.done
}

// Close ends all. What the namespaces have stays for the next engine.
func (s *Service) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, r := range s.running {
		r.cancel()
	}
	for id, r := range s.running {
		s.stop(id, r)
	}
	return nil
}

// open makes the sockets and rules of a namespace.
func open(ns *os.File) (udp *net.UDPConn, tcp net.Listener, err error) {
	err = netns.Do(ns, func() error {
		at := net.UDPAddrFromAddrPort(netip.AddrPortFrom(Address(), port))
		if udp, err = net.ListenUDP("udp4", at); err != nil {
			at.Port = 0 // a program of the container has it
			udp, err = net.ListenUDP("udp4", at)
		}
		if err != nil {
			return err
		}
		stream := &net.TCPAddr{IP: at.IP, Port: port}
		l, err := net.ListenTCP("tcp4", stream)
		if err != nil {
			stream.Port = 0
			l, err = net.ListenTCP("tcp4", stream)
		}
		if err == nil {
			tcp = l
			err = redirect(udp.LocalAddr().(*net.UDPAddr).AddrPort(), l.Addr().(*net.TCPAddr).AddrPort())
		}
		return err
	})
	if err != nil {
		if udp != nil {
			_ = udp.Close()
		}
		if tcp != nil {
			_ = tcp.Close()
		}
		return nil, nil, err
	}
	return udp, tcp, nil
}

// redirect leads queries in the present namespace to two sockets.
func redirect(udp, tcp netip.AddrPort) error {
	const icmp, tcpNumber, udpNumber = 1, 6, 17
	c, err := nft.Dial()
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	to := func(protocol uint8, a netip.AddrPort) nft.Element {
		return nft.Key(nft.Protocol(protocol), nft.Port(53)).To(nft.Address(a.Addr()), nft.Port(a.Port()))
	}
	here := nft.Address(Address())
	return c.Replace(nft.Table{
		Family: nft.Inet, Name: table,
		Sets: []nft.Set{{
			Name: "sockets", Key: []nft.Type{nft.InetProto, nft.InetService}, Value: []nft.Type{nft.IPv4Addr, nft.InetService},
			Elements: []nft.Element{to(udpNumber, udp), to(tcpNumber, tcp)},
		}},
		Chains: []nft.Chain{
			{Name: "output", Type: "nat", Hook: nft.Output, Priority: nft.Localnat(), Rules: []nft.Rule{{
				Comment: "queries",
				Stmts:   []nft.Stmt{nft.Implied(nft.OnlyIPv4()), nft.Is(nft.Dest(), here), nft.Redirect(nft.IPv4Addr, "sockets", nft.L4Proto(), nft.DestPort())},
			}}},
			{Name: "refusals", Type: "filter", Hook: nft.Output, Priority: nft.Filter(), Rules: []nft.Rule{{
				Comment: "while no engine answers, clients ask again",
				Stmts:   []nft.Stmt{nft.Implied(nft.OnlyIPv4()), nft.Is(nft.Source(), here), nft.Is(nft.L4Proto(), nft.Protocol(icmp)), nft.Drop()},
			}}},
		},
	})
}
