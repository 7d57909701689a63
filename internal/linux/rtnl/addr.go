package rtnl

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"lade/internal/linux/netlink"
)

// AddAddr gives a link an address and the network around it. An IPv6 address can
// be used at once: nobody is asked whether it is taken.
func AddAddr(index int, p netip.Prefix) Change {
	w := address(index, p)
	var flags uint16 = unix.NLM_F_CREATE | unix.NLM_F_EXCL
	return change(unix.RTM_NEWADDR, flags, w, "add address %s", p)
}

// DelAddr takes an address away.
func DelAddr(index int, p netip.Prefix) Change {
	return change(unix.RTM_DELADDR, 0, address(index, p), "remove address %s", p)
}

func address(index int, p netip.Prefix) netlink.Writer {
	var w netlink.Writer
	if p.Addr().Is6() {
		w.Raw(unix.AF_INET6, byte(p.Bits()), unix.IFA_F_NODAD, unix.RT_SCOPE_UNIVERSE)
		w.Raw(binary.NativeEndian.AppendUint32(nil, uint32(index))...)
		w.Put(unix.IFA_LOCAL, p.Addr().AsSlice())
		w.Put(unix.IFA_ADDRESS, p.Addr().AsSlice())
		return w
	}
	w.Raw(unix.AF_INET, byte(p.Bits()), 0, unix.RT_SCOPE_UNIVERSE)
	w.Raw(binary.NativeEndian.AppendUint32(nil, uint32(index))...)
	w.Put(unix.IFA_LOCAL, p.Addr().AsSlice())
	w.Put(unix.IFA_ADDRESS, p.Addr().AsSlice())
	w.Put(unix.IFA_BROADCAST, broadcast(p))
	return w
}

// broadcast returns the last address of an IPv4 network.
func broadcast(p netip.Prefix) []byte {
	a := p.Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		a[i/8] |= 1 << (7 - i%8)
	}
	return a[:]
}

// SetDefaultRoute sends what has no better route to a gateway, in place of the
// one that there is for the gateway's version of IP. A gateway that is not valid
// is one that needs none: all is on the link.
func SetDefaultRoute(index int, gateway netip.Addr, six bool) Change {
	return change(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, defaultRoute(index, gateway, six), "set the default route by %s", gateway)
}

// DelDefaultRoute removes a link's default route.
func DelDefaultRoute(index int, six bool) Change {
	return change(unix.RTM_DELROUTE, 0, defaultRoute(index, netip.Addr{}, six), "remove the default route by link %d", index)
}

func defaultRoute(index int, gateway netip.Addr, six bool) netlink.Writer {
	var w netlink.Writer
	family, scope := byte(unix.AF_INET), byte(unix.RT_SCOPE_UNIVERSE)
	if six {
		family = unix.AF_INET6
	}
	if !gateway.IsValid() && !six {
		scope = unix.RT_SCOPE_LINK
	}
	w.Raw(family, 0, 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_BOOT, scope, unix.RTN_UNICAST, 0, 0, 0, 0)
	if gateway.IsValid() {
		w.Put(unix.RTA_GATEWAY, gateway.AsSlice())
	}
	w.Uint32(unix.RTA_OIF, uint32(index))
	return w
}

// Route is a route to a network.
type Route struct {
	Dst  netip.Prefix // of 0 bits for the default route
	Link int          // index of the link it leads to, or 0
}

// Routes returns the IPv4 routes of all tables, without those of the kernel to
// its own addresses.
func (c *Conn) Routes() ([]Route, error) { return c.routes(unix.AF_INET) }

// Routes6 returns the IPv6 routes, without those of single links.
func (c *Conn) Routes6() ([]Route, error) { return c.routes(unix.AF_INET6) }

func (c *Conn) routes(family byte) ([]Route, error) {
	var w netlink.Writer
	w.Raw(family, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	var out []Route
	err := c.nl.Ask(change(unix.RTM_GETROUTE, unix.NLM_F_DUMP, w, "list routes").m, func(m netlink.Message) error {
		if r, ok := parseRoute(m.Data, family); ok && !r.Dst.Addr().IsLinkLocalUnicast() && !r.Dst.Addr().IsMulticast() {
			out = append(out, r)
		}
		return nil
	})
	return out, err
}

func parseRoute(b []byte, family byte) (Route, bool) {
	if len(b) < unix.SizeofRtMsg || b[0] != family || b[7] != unix.RTN_UNICAST {
		return Route{}, false
	}
	dst := netip.IPv4Unspecified()
	if family == unix.AF_INET6 {
		dst = netip.IPv6Unspecified()
	}
	var r Route
	for kind, v := range netlink.Attributes(b[unix.SizeofRtMsg:]) {
		switch {
		case kind == unix.RTA_DST:
			if a, ok := netip.AddrFromSlice(v); ok {
				dst = a
			}
		case kind == unix.RTA_OIF && len(v) == 4:
			r.Link = int(binary.NativeEndian.Uint32(v))
		}
	}
	r.Dst = netip.PrefixFrom(dst, int(b[1]))
	return r, r.Dst.IsValid()
}

// Addr is an address of a link.
type Addr struct {
	Link   int
	Prefix netip.Prefix
}

// Addrs returns the addresses of all links.
func (c *Conn) Addrs() ([]Addr, error) {
	var w netlink.Writer
	w.Raw(unix.AF_UNSPEC, 0, 0, 0, 0, 0, 0, 0)
	var out []Addr
	err := c.nl.Ask(change(unix.RTM_GETADDR, unix.NLM_F_DUMP, w, "list addresses").m, func(m netlink.Message) error {
		if a, ok := parseAddr(m.Data); ok {
			out = append(out, a)
		}
		return nil
	})
	return out, err
}

func parseAddr(b []byte) (Addr, bool) {
	if len(b) < unix.SizeofIfAddrmsg {
		return Addr{}, false
	}
	var local, other netip.Addr
	for kind, v := range netlink.Attributes(b[unix.SizeofIfAddrmsg:]) {
		switch kind {
		case unix.IFA_LOCAL:
			local, _ = netip.AddrFromSlice(v)
		case unix.IFA_ADDRESS:
			other, _ = netip.AddrFromSlice(v)
		}
	}
	if !local.IsValid() {
		local = other // IPv6 has only the one
	}
	a := Addr{Link: int(int32(binary.NativeEndian.Uint32(b[4:]))), Prefix: netip.PrefixFrom(local, int(b[1]))}
	return a, a.Prefix.IsValid()
}
