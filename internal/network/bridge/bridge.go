// Package bridge makes a network of the kernel's parts: a bridge on the host,
// a veth pair for each container, and the packet filter rules around them.
//
// Set up makes the bridge and gives it its address; Connect puts a container's
// network namespace on it; Disconnect and TearDown take away what those made.
// Each may be called again after it was cut short at any point, and then makes
// whole what is there. Rules is a pure function of the networks there are: the
// number of rules does not depend on how many containers they have.
//
// The package keeps no records and gives out no addresses (see package ipam);
// package engine/network puts the three together.
package bridge

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"

	"lade/internal/linux/netns"
	"lade/internal/linux/rtnl"
)

// Network is one bridge with a subnet.
type Network struct {
	Bridge  string       `json:"bridge"` // name of the link
	Subnet  netip.Prefix `json:"subnet"`
	Gateway netip.Addr   `json:"gateway"` // the host's address on the bridge
	MTU     int          `json:"mtu"`
	// Owner is an even number that all links of one engine carry (their group),
	// so that each engine on a host knows its own.
	Owner uint32 `json:"owner"`
}

// Port is a container's place on a bridge.
type Port struct {
	Link    string     `json:"link"` // name of the host's end of the veth pair
	Address netip.Addr `json:"address"`
}

// Interface is the name of a container's end of the veth pair.
const Interface = "eth0"

// MAC returns the hardware address of whoever has an IPv4 address: they go
// together, so that what neighbours remember stays true when the address is
// used again.
func MAC(a netip.Addr) net.HardwareAddr {
	b := a.As4()
	return append(net.HardwareAddr{0x02, 0x42}, b[:]...)
}

// SetUp makes the bridge of a network, if it is not there, with its address,
// up, and returns its index. A link of that name that somebody else made is an
// error that wraps os.ErrExist.
func SetUp(c *rtnl.Conn, n Network) (index int, err error) {
	l, err := c.LinkByName(n.Bridge)
	if errors.Is(err, syscall.ENODEV) {
		err = c.Do(rtnl.AddBridge(rtnl.Bridge{Name: n.Bridge, MAC: MAC(n.Gateway), MTU: n.MTU, Group: n.Owner}))
		if err == nil {
			l, err = c.LinkByName(n.Bridge)
		}
	}
	if err != nil {
		return 0, fmt.Errorf("set up network %s: %w", n.Bridge, err)
	}
	if l.Kind != "bridge" || l.Group != n.Owner {
		return 0, fmt.Errorf("set up network %s: a link of that name is somebody else's: %w", n.Bridge, os.ErrExist)
	}
	// Before it is up: what a container sends must not give the host routes
	// or addresses (router advertisements), and IPv6 has no place here yet.
	if err := ipv4Only(n.Bridge); err != nil {
		return 0, fmt.Errorf("set up network %s: %w", n.Bridge, err)
	}
	if err := c.Do(rtnl.AddAddr(l.Index, netip.PrefixFrom(n.Gateway, n.Subnet.Bits()))); err != nil && !errors.Is(err, syscall.EEXIST) {
		return 0, fmt.Errorf("set up network %s: %w", n.Bridge, err)
	}
	if !l.Up {
		if err := c.Do(rtnl.SetUp(l.Index)); err != nil {
			return 0, fmt.Errorf("set up network %s: %w", n.Bridge, err)
		}
	}
	return l.Index, nil
}

// TearDown removes a network's bridge. One that is not there is no error.
func TearDown(c *rtnl.Conn, n Network) error { return remove(c, n.Bridge) }

// Connect makes a veth pair between the bridge with index and the network
// namespace ns, where it gets its address and the way out.
func Connect(c *rtnl.Conn, n Network, index int, p Port, ns *os.File) error {
	veth := rtnl.Veth{Name: p.Link, Master: index, MTU: n.MTU, Group: n.Owner, Peer: Interface, MAC: MAC(p.Address), NS: ns}
	if err := c.Do(rtnl.AddVeth(veth)); err != nil {
		return fmt.Errorf("connect to network %s: %w", n.Bridge, err)
	}
	err := netns.Do(ns, func() error {
		inside, err := rtnl.Dial()
		if err != nil {
			return err
		}
		defer func() { _ = inside.Close() }()
		l, err := inside.LinkByName(Interface)
		if err != nil {
			return err
		}
		if err := ipv4Only(Interface); err != nil {
			return err
		}
		return inside.Do(
			rtnl.AddAddr(l.Index, netip.PrefixFrom(p.Address, n.Subnet.Bits())),
			rtnl.SetUp(l.Index),
			rtnl.AddDefaultRoute(l.Index, n.Gateway),
		)
	})
	if err != nil {
		return errors.Join(fmt.Errorf("connect to network %s: %w", n.Bridge, err), remove(c, p.Link))
	}
	return nil
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

// ipv4Only turns IPv6 off on a link in the network namespace of the calling
// thread, router advertisements first.
func ipv4Only(link string) error {
	for _, s := range []struct{ name, value string }{{"accept_ra", "0"}, {"disable_ipv6", "1"}} {
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
