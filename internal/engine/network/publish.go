package network

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"

	api "github.com/moby/moby/api/types/network"

	"lade/internal/engine/network/definition"
	"lade/internal/engine/network/record"
	"lade/internal/errdefs"
	"lade/internal/linux/conntrack"
	"lade/internal/linux/portlock"
	"lade/internal/network/bridge"
	"lade/internal/network/rules"
)

const udp = 17

// protocols are those whose ports can be published, by name.
func protocols(p api.IPProtocol) (number uint8, ok bool) {
	switch p {
	case api.TCP:
		return 6, true
	case api.UDP:
		return udp, true
	case api.SCTP:
		return 132, true
	}
	return 0, false
}

func protocolName(number uint8) api.IPProtocol {
	switch number {
	case udp:
		return api.UDP
	case 132:
		return api.SCTP
	}
	return api.TCP
}

// publish takes the ports of the host that a container asks for, and says where
// they lead. s.mu is held; on error the place is to be unlocked.
func (s *Service) publish(p *place, j Join) error {
	to4, to6 := p.wayIn(false), p.wayIn(true)
	if to4 == nil && to6 == nil {
		return nil // no way in: as Docker, without a word
	}
	for _, port := range sortedPorts(j) {
		number, ok := protocols(port.Proto())
		if !ok {
			return errdefs.New(errdefs.Invalid, "publish port %s: the protocol is none of tcp, udp and sctp", port)
		}
		bindings := j.Ports[port]
		if len(bindings) == 0 && j.All {
			bindings = []api.PortBinding{{}}
		}
		for _, b := range bindings {
			if err := s.publishOne(p, record.Published{Protocol: number, Container: port.Num()}, b); err != nil {
				return fmt.Errorf("publish port %s: %w", port, err)
			}
		}
	}
	s.retarget(p)
	for _, o := range p.ports {
		o.rec.Hairpin = len(p.rec.Published) > 0
	}
	return s.allowLoopback(p)
}

// sortedPorts returns the ports that may be published, lowest first, so that
// ranges of the host's ports are given out in order.
func sortedPorts(j Join) []api.Port {
	var all []api.Port
	for port := range j.Ports {
		all = append(all, port)
	}
	if j.All {
		for port := range j.Exposed {
			if _, ok := j.Ports[port]; !ok {
				all = append(all, port)
			}
		}
	}
	slices.SortFunc(all, func(a, b api.Port) int {
		if a.Num() != b.Num() {
			return int(a.Num()) - int(b.Num())
		}
		return strings.Compare(string(a.Proto()), string(b.Proto()))
	})
	return all
}

// wayIn returns the port by which packets of a version of IP come in, or nil.
func (p *place) wayIn(six bool) *port {
	for _, o := range p.ports {
		for _, g := range o.rec.Gateways {
			if g.Is6() == six && o.net.def.Driver == definition.Bridge {
				return o
			}
		}
	}
	return nil
}

// publishOne takes one port of the host, on each address that is asked for.
func (s *Service) publishOne(p *place, pub record.Published, b api.PortBinding) error {
	addrs := []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	switch in := p.wayIn(false); {
	case b.HostIP.IsValid():
		addrs = []netip.Addr{b.HostIP.Unmap()}
	case in != nil && in.net.def.HostBinding().IsValid() && !in.net.def.HostBinding().IsUnspecified():
		addrs = []netip.Addr{in.net.def.HostBinding()}
	case s.o.Publish.IsValid():
		addrs = []netip.Addr{s.o.Publish}
	}
	if a := addrs[0]; a.Is6() && a.IsLoopback() {
		err := errdefs.New(errdefs.NotImplemented, "cannot publish on [%s]: the kernel takes no packets from the host's IPv6 loopback to another link", a)
		return errdefs.Hint(err, "publish on 127.0.0.1, or on an IPv6 address of the host's")
	}
	either := len(addrs) > 1
	addrs = slices.DeleteFunc(addrs, func(a netip.Addr) bool { return p.wayIn(a.Is6()) == nil })
	if len(addrs) == 0 {
		version := 4
		if b.HostIP.Is6() {
			version = 6
		}
		return errdefs.New(errdefs.Invalid, "the container is in no network with IPv%d", version)
	}
	first, last, err := hostPorts(b.HostPort)
	if err != nil {
		return err
	}
	for n := first; ; n++ {
		locks, err := s.hold(pub.Protocol, addrs, n)
		if err == nil {
			p.locks = append(p.locks, locks...)
			for i, a := range addrs {
				pub.Host = netip.AddrPortFrom(a, locks[i].Port())
				p.rec.Published = append(p.rec.Published, pub)
			}
			return nil
		}
		if either && errors.Is(err, syscall.EAFNOSUPPORT) && len(addrs) > 1 {
			addrs = addrs[:1] // a kernel without IPv6
			n--
			continue
		}
		if n >= last || !errors.Is(err, syscall.EADDRINUSE) {
			return err
		}
	}
}

// hostPorts reads a port of the host, a range of them, or nothing for any.
func hostPorts(s string) (first, last uint16, err error) {
	if s == "" {
		return 0, 0, nil
	}
	from, to, ranged := strings.Cut(s, "-")
	if !ranged {
		to = from
	}
	a, err1 := strconv.ParseUint(from, 10, 16)
	b, err2 := strconv.ParseUint(to, 10, 16)
	if err1 != nil || err2 != nil || a > b || a == 0 && ranged {
		return 0, 0, errdefs.New(errdefs.Invalid, "invalid port specification: %q: want a port of the host or a range of them", s)
	}
	return uint16(a), uint16(b), nil
}

// hold holds the same port on several addresses; 0 is any.
func (s *Service) hold(protocol uint8, addrs []netip.Addr, n uint16) (locks []*portlock.Lock, err error) {
	const tries = 64
	for attempt := 0; ; attempt++ {
		locks = nil
		want := n
		for _, a := range addrs {
			var l *portlock.Lock
			if l, err = portlock.Hold(protocol, netip.AddrPortFrom(a, want)); err != nil {
				err = s.refused(protocol, netip.AddrPortFrom(a, want), err)
				break
			}
			locks, want = append(locks, l), l.Port()
		}
		if err == nil {
			return locks, nil
		}
		for _, l := range locks {
			_ = l.Close()
		}
		if n != 0 || attempt == tries {
			return nil, err
		}
	}
}

// refused says who has a port, or what else is wrong with it.
func (s *Service) refused(protocol uint8, at netip.AddrPort, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return errdefs.New(errdefs.Invalid, "cannot bind to %s: the host has no such address: %w", at, err)
	case !errors.Is(err, syscall.EADDRINUSE):
		return errdefs.New(errdefs.Unavailable, "bind for %s failed: %w", at, err)
	}
	by := "a program of the host"
	for _, p := range s.places {
		for _, pub := range p.rec.Published {
			same := pub.Host.Addr() == at.Addr() || pub.Host.Addr().Is4() == at.Addr().Is4() && (pub.Host.Addr().IsUnspecified() || at.Addr().IsUnspecified())
			if pub.Protocol == protocol && pub.Host.Port() == at.Port() && same {
				by = "container " + s.nameOf(p.rec.Container)
			}
		}
	}
	err = errdefs.New(errdefs.Conflict, "Bind for %s failed: port is already allocated, to %s: %w", at, by, err)
	return errdefs.Hint(err, "publish another port, or stop what has this one (ss -lnp)")
}

// retarget says anew where a container's published ports lead. s.mu is held.
func (s *Service) retarget(p *place) {
	for i := range p.rec.Published {
		pub := &p.rec.Published[i]
		pub.To = netip.AddrPort{}
		if in := p.wayIn(pub.Host.Addr().Is6()); in != nil {
			for _, a := range in.rec.Addresses {
				if a.Addr().Is6() == pub.Host.Addr().Is6() {
					pub.To = netip.AddrPortFrom(a.Addr(), pub.Container)
				}
			}
		}
	}
}

// allowLoopback lets the host reach a container by a loopback address of its own,
// where a port is published on one. The rules keep containers from using the same
// way the other way round.
func (s *Service) allowLoopback(p *place) error {
	in := p.wayIn(false)
	for _, pub := range p.rec.Published {
		if in != nil && pub.Host.Addr().Is4() && (pub.Host.Addr().IsUnspecified() || pub.Host.Addr().IsLoopback()) {
			return bridge.SetSysctl("ipv4/conf/"+in.net.up.rec.Bridge+"/route_localnet", "1")
		}
	}
	return nil
}

// unlock gives a container's ports of the host back.
func (p *place) unlock() error {
	var errs []error
	for _, l := range p.locks {
		errs = append(errs, l.Close())
	}
	p.locks = nil
	return errors.Join(errs...)
}

// forget has the kernel forget the connections that the first packet of which met
// other rules: with UDP these go on for as long as somebody sends, to where the port
// led before. Those of TCP end by themselves, or are meant to go on.
func forget(ports []rules.Port) error {
	if !slices.ContainsFunc(ports, func(p rules.Port) bool { return p.Protocol == udp }) {
		return nil
	}
	_, err := conntrack.Forget(func(f conntrack.Flow) bool {
		return f.Protocol == udp && slices.ContainsFunc(ports, func(p rules.Port) bool {
			same := p.Host.Addr() == f.To.Addr() || p.Host.Addr().IsUnspecified() && p.Host.Addr().Is4() == f.To.Addr().Is4()
			return p.Protocol == udp && same && p.Host.Port() == f.To.Port()
		})
	})
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.EOPNOTSUPP) {
		return nil // a kernel that does not tell of connections
	}
	return err
}
