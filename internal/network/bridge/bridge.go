// Package bridge makes a network of the kernel's parts: a bridge on the host,
// and for each container a link, one end of which is on the bridge and the other
// in the container's network namespace; or a link that shares the wire of one of
// the host's (macvlan, ipvlan).
//
// SetUp makes the bridge and gives it its addresses; Connect puts a container's
// network namespace on it; Disconnect and TearDown take away what those made.
// Each may be called again after it was cut short at any point, and then makes
// whole what is there.
//
// The package keeps no records, gives out no addresses (see package ipam) and
// makes no rules (see package rules); package engine/network puts them together.
package bridge

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"lade/internal/linux/netns"
	"lade/internal/linux/rtnl"
	"lade/internal/network/rules"
)

// Network is one bridge.
type Network struct {
	Bridge    string         `json:"bridge"`    // name of the link
	Addresses []netip.Prefix `json:"addresses"` // the host's on the bridge, each with its network
	MTU       int            `json:"mtu"`
	// Owner is an even number that all links of one engine carry (their group),
	// so that each engine on a host knows its own.
	Owner uint32 `json:"owner"`
	// Isolated containers do not reach each other on the bridge.
	Isolated bool `json:"isolated,omitempty"`
	// Shared networks have no bridge: their containers share the wire of a link.
	Shared *Shared `json:"shared,omitempty"`
}

// Shared says whose wire a network's containers share.
type Shared struct {
	Parent string `json:"parent"` // a link of the host's
	Kind   string `json:"kind"`   // macvlan or ipvlan
	Mode   string `json:"mode"`
}

// six reports whether a network has IPv6 addresses.
func six(addrs []netip.Prefix) bool {
	for _, a := range addrs {
		if a.Addr().Is6() {
			return true
		}
	}
	return false
}

// Port is a container's place in a network.
type Port struct {
	Link      string           `json:"link"`      // name of the host's end of the veth pair
	Interface string           `json:"interface"` // name of the container's end
	MAC       net.HardwareAddr `json:"mac"`
	Addresses []netip.Prefix   `json:"addresses"`
	// Gateways are where what has no better route goes; none: the port is not the
	// way out.
	Gateways []netip.Addr `json:"gateways,omitempty"`
	// Hairpin ports lead to containers that may ask for what they publish.
	Hairpin bool `json:"hairpin,omitempty"`
}

// MAC returns the hardware address of whoever has an address: they go together,
// so that what neighbours remember stays true when the address is used again.
func MAC(a netip.Addr) net.HardwareAddr {
	if a.Is4() {
		b := a.As4()
		return append(net.HardwareAddr{0x02, 0x42}, b[:]...)
	}
	b := a.As16()
	return append(net.HardwareAddr{0x02, 0x46}, b[12:]...)
}

// SetUp makes the bridge of a network, if it is not there, with its addresses,
// up, and returns its index. A link of that name that somebody else made is an
// error that wraps os.ErrExist.
func SetUp(c *rtnl.Conn, n Network) (index int, err error) {
	if n.Shared != nil {
		l, err := c.LinkByName(n.Shared.Parent)
		if err != nil {
			return 0, fmt.Errorf("set up %s network: %w", n.Shared.Kind, err)
		}
		return l.Index, nil
	}
	l, err := c.LinkByName(n.Bridge)
	if errors.Is(err, syscall.ENODEV) {
		b := rtnl.Bridge{Name: n.Bridge, MTU: n.MTU, Group: n.Owner}
		if len(n.Addresses) > 0 {
			b.MAC = MAC(n.Addresses[0].Addr())
		}
		if err = c.Do(rtnl.AddBridge(b)); err == nil {
			l, err = c.LinkByName(n.Bridge)
		}
	}
	if err != nil {
		return 0, fmt.Errorf("set up network %s: %w", n.Bridge, err)
	}
	if l.Kind != "bridge" || l.Group != n.Owner {
		return 0, fmt.Errorf("set up network %s: a link of that name is somebody else's: %w", n.Bridge, os.ErrExist)
	}
	// Before it is up: what a container sends must not give the host routes or
	// addresses.
	if err := noAdvertisements(n.Bridge, six(n.Addresses)); err != nil {
		return 0, fmt.Errorf("set up network %s: %w", n.Bridge, err)
	}
	if !l.Up {
		if err := c.Do(rtnl.SetUp(l.Index)); err != nil {
			return 0, fmt.Errorf("set up network %s: %w", n.Bridge, err)
		}
	}
	for _, a := range n.Own() {
		if err := c.Do(rtnl.AddAddr(l.Index, a)); err != nil && !errors.Is(err, syscall.EEXIST) {
			return 0, fmt.Errorf("set up network %s: %w", n.Bridge, err)
		}
	}
	return l.Index, nil
}

// Own returns the addresses of the host's on the bridge: those of the network, and
// the one that the kernel gives a link for IPv6, without which it finds no
// neighbours. Somebody may have taken that one away, too.
func (n Network) Own() []netip.Prefix {
	if !six(n.Addresses) {
		return n.Addresses
	}
	const bits = 64
	own := rules.LinkLocal(MAC(n.Addresses[0].Addr()))
	return append(slices.Clone(n.Addresses), netip.PrefixFrom(own, bits))
}

// TearDown removes a network's bridge. One that is not there is no error.
func TearDown(c *rtnl.Conn, n Network) error {
	if n.Shared != nil {
		return nil
	}
	return remove(c, n.Bridge)
}

// Connect makes a link between the network, whose index SetUp returned, and the
// network namespace ns, where it gets its addresses and the way out.
func Connect(c *rtnl.Conn, n Network, index int, p Port, ns *os.File) error {
	var change rtnl.Change
	if s := n.Shared; s != nil {
		change = rtnl.AddShared(rtnl.Shared{Parent: index, Kind: s.Kind, Mode: s.Mode, Name: p.Interface, MAC: macFor(s, p), MTU: n.MTU, NS: ns})
	} else {
		change = rtnl.AddVeth(rtnl.Veth{Name: p.Link, Master: index, MTU: n.MTU, Group: n.Owner, Peer: p.Interface, MAC: p.MAC, NS: ns})
	}
	if err := c.Do(change); err != nil {
		return fmt.Errorf("connect to network %s: %w", n.Bridge, err)
	}
	err := tune(c, n, p)
	if err == nil {
		err = netns.Do(ns, func() error { return furnish(p) })
	}
	if err != nil {
		return errors.Join(fmt.Errorf("connect to network %s: %w", n.Bridge, err), Cut(c, n, p, ns))
	}
	return nil
}

// Reattach puts the host's end of a port on the network's bridge again, whose index
// SetUp returned, as it was: what the bridge knew of the port went with its place
// there. Where containers are kept apart the link is made anew, so that at no moment
// it is up without that.
func Reattach(c *rtnl.Conn, n Network, index int, p Port, ns *os.File) error {
	if n.Isolated {
		if err := Cut(c, n, p, ns); err != nil {
			return err
		}
		return Connect(c, n, index, p, ns)
	}
	l, err := c.LinkByName(p.Link)
	if err != nil {
		return err
	}
	if err := c.Do(rtnl.SetMaster(l.Index, index)); err != nil {
		return err
	}
	return tune(c, n, p)
}

// macFor: links of an ipvlan have their parent's address.
func macFor(s *Shared, p Port) net.HardwareAddr {
	if s.Kind == "ipvlan" {
		return nil
	}
	return p.MAC
}

// tune says how the bridge treats a port, where that is not the usual way.
func tune(c *rtnl.Conn, n Network, p Port) error {
	if n.Shared != nil || !n.Isolated && !p.Hairpin {
		return nil
	}
	l, err := c.LinkByName(p.Link)
	if err != nil {
		return err
	}
	var changes []rtnl.Change
	if n.Isolated {
		changes = append(changes, rtnl.SetIsolated(l.Index))
	}
	if p.Hairpin {
		changes = append(changes, rtnl.SetHairpin(l.Index))
	}
	return c.Do(changes...)
}

// furnish gives the container's end its addresses and routes, in the container's
// network namespace.
func furnish(p Port) error {
	c, err := rtnl.Dial()
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	l, err := c.LinkByName(p.Interface)
	if err != nil {
		return err
	}
	if err := noAdvertisements(p.Interface, six(p.Addresses)); err != nil {
		return err
	}
	// IPv6 addresses of a link that is down would be asked for when it comes up.
	changes := []rtnl.Change{rtnl.SetUp(l.Index)}
	for _, a := range p.Addresses {
		changes = append(changes, rtnl.AddAddr(l.Index, a))
	}
	for _, g := range p.Gateways {
		changes = append(changes, rtnl.SetDefaultRoute(l.Index, g, g.Is6()))
	}
	return c.Do(changes...)
}

// Route makes a port the way out of its namespace, for the versions of IP that
// it has gateways for.
func Route(p Port, ns *os.File) error {
	return netns.Do(ns, func() error {
		c, err := rtnl.Dial()
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		l, err := c.LinkByName(p.Interface)
		if err != nil {
			return err
		}
		for _, g := range p.Gateways {
			if err := c.Do(rtnl.SetDefaultRoute(l.Index, g, g.Is6())); err != nil {
				return err
			}
		}
		return nil
	})
}

// NoRoute takes the default routes out of a namespace.
func NoRoute(ns *os.File) error {
	return netns.Do(ns, func() error {
		c, err := rtnl.Dial()
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		routes, err := c.Routes()
		routes6, err6 := c.Routes6()
		for _, r := range append(routes, routes6...) {
			if r.Dst.Bits() == 0 {
				if e := c.Do(rtnl.DelDefaultRoute(r.Link, r.Dst.Addr().Is6())); e != nil && !errors.Is(e, syscall.ESRCH) {
					err = errors.Join(err, e)
				}
			}
		}
		return errors.Join(err, err6)
	})
}

// Interfaces returns the names of the links in a namespace.
func Interfaces(ns *os.File) (names []string, err error) {
	err = netns.Do(ns, func() error {
		c, err := rtnl.Dial()
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		all, err := c.Links()
		for _, l := range all {
			names = append(names, l.Name)
		}
		return err
	})
	return names, err
}

// Cut takes a port out of a namespace that goes on.
func Cut(c *rtnl.Conn, n Network, p Port, ns *os.File) error {
	if n.Shared == nil {
		return remove(c, p.Link)
	}
	return netns.Do(ns, func() error {
		c, err := rtnl.Dial()
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		return remove(c, p.Interface)
	})
}

// Disconnect removes veth pairs of an owner's ports, all in one go. One that is
// not there is no error: it goes with the container's network namespace.
func Disconnect(c *rtnl.Conn, owner uint32, ports ...Port) error {
	goners := owner | 1
	if len(ports) == 1 {
		return remove(c, ports[0].Link)
	}
	for _, p := range ports {
		if err := c.Do(rtnl.SetGroup(p.Link, goners)); err != nil && !errors.Is(err, syscall.ENODEV) {
			return err
		}
	}
	err := c.Do(rtnl.DelGroup(goners))
	if errors.Is(err, syscall.ENODEV) {
		return nil
	}
	return err
}

func remove(c *rtnl.Conn, link string) error {
	err := c.Do(rtnl.DelLink(link))
	if errors.Is(err, syscall.ENODEV) {
		return nil
	}
	return err
}

// noAdvertisements sets how a link in the network namespace of the calling thread
// deals with IPv6: router advertisements are never taken, and without six
// there is no IPv6 at all. Nobody is asked whether an address is free: it was given
// out here, and for as long as the kernel asks it finds no neighbours for others.
func noAdvertisements(link string, six bool) error {
	off := "1"
	if six {
		off = "0"
	}
	for _, s := range []struct{ name, value string }{{"accept_ra", "0"}, {"accept_dad", "0"}, {"disable_ipv6", off}} {
		err := SetSysctl(filepath.Join("ipv6/conf", link, s.name), s.value)
		if errors.Is(err, os.ErrNotExist) {
			return nil // a kernel without IPv6
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// SetSysctl writes a value below /proc/sys/net of the calling thread's network
// namespace.
func SetSysctl(name, value string) error {
	f, err := os.OpenFile(filepath.Join("/proc/sys/net", name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}
