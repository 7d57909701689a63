package rtnl

import (
	"encoding/binary"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"lade/internal/linux/netlink"
)

// SetDown sets a link down.
func SetDown(index int) Change {
	var w netlink.Writer
	w.Raw(linkHeader(index, 0, unix.IFF_UP)...)
	return change(unix.RTM_NEWLINK, 0, w, "set link %d down", index)
}

// Move moves a link to another network namespace and gives it a name there, in
// one step: neither name need be free where the other is. The name may hold
// "%d", for a number that is free. The link loses its addresses.
func Move(index int, name string, ns *os.File) Change {
	var w netlink.Writer
	w.Raw(linkHeader(index, 0, 0)...)
	w.String(unix.IFLA_IFNAME, name)
	w.Uint32(unix.IFLA_NET_NS_FD, uint32(ns.Fd()))
	return change(unix.RTM_NEWLINK, 0, w, "move link %d to another network namespace as %s", index, name)
}

// Addr is an address of a link.
type Addr struct {
	Prefix    netip.Prefix
	Peer      netip.Addr // of a link between two
	Permanent bool       // it has no end
	Global    bool       // it has a meaning beyond this host and link
}

// Addrs returns the addresses of a link.
func (c *Conn) Addrs(index int) ([]Addr, error) {
	var w netlink.Writer
	w.Raw(make([]byte, unix.SizeofIfAddrmsg)...)
	var out []Addr
	err := c.nl.Ask(change(unix.RTM_GETADDR, unix.NLM_F_DUMP, w, "list addresses of link %d", index).m, func(m netlink.Message) error {
		a, of, err := parseAddr(m.Data)
		if err == nil && of == index && a.Prefix.IsValid() {
			out = append(out, a)
		}
		return err
	})
	return out, err
}

// parseAddr reads a struct ifaddrmsg and its attributes.
func parseAddr(b []byte) (a Addr, index int, err error) {
	if len(b) < unix.SizeofIfAddrmsg {
		return a, 0, errShort
	}
	flags := uint32(b[2])
	var local, address netip.Addr
	for kind, v := range netlink.Attributes(b[unix.SizeofIfAddrmsg:]) {
		ip, ok := netip.AddrFromSlice(v)
		switch {
		case kind == unix.IFA_FLAGS && len(v) == 4:
			flags = binary.NativeEndian.Uint32(v)
		case kind == unix.IFA_LOCAL && ok:
			local = ip
		case kind == unix.IFA_ADDRESS && ok:
			address = ip
		}
	}
	if !local.IsValid() {
		local = address // IPv6 has no more than one
	} else if address != local {
		a.Peer = address
	}
	a.Prefix = netip.PrefixFrom(local, int(b[1]))
	a.Permanent = flags&unix.IFA_F_PERMANENT != 0
	a.Global = b[3] == unix.RT_SCOPE_UNIVERSE
	return a, int(int32(binary.NativeEndian.Uint32(b[4:]))), nil
}

// PutAddr gives a link an address that another had.
func PutAddr(index int, a Addr) Change {
	family := byte(unix.AF_INET)
	if a.Prefix.Addr().Is6() {
		family = unix.AF_INET6
	}
	var w netlink.Writer
	w.Raw(family, byte(a.Prefix.Bits()), 0, unix.RT_SCOPE_UNIVERSE)
	w.Raw(binary.NativeEndian.AppendUint32(nil, uint32(index))...)
	w.Put(unix.IFA_LOCAL, a.Prefix.Addr().AsSlice())
	peer := a.Prefix.Addr()
	if a.Peer.IsValid() {
		peer = a.Peer
	}
	w.Put(unix.IFA_ADDRESS, peer.AsSlice())
	return change(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, w, "add address %s", a.Prefix)
}
