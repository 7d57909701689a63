package rtnl

import (
	"encoding/binary"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"lade/internal/linux/netlink"
)

// Shared is a link with addresses of its own on the wire of another one, made in
// another namespace.
type Shared struct {
	Parent int    // index of the link whose wire it is
	Kind   string // "macvlan" or "ipvlan"
	Mode   string // "" for the usual one of its kind
	Name   string
	MAC    net.HardwareAddr // macvlan only
	MTU    int
	NS     *os.File
}

// Modes returns the modes of a kind of shared links, by name.
func Modes(kind string) map[string]uint32 {
	if kind == "ipvlan" {
		return map[string]uint32{"l2": 0, "l3": 1, "l3s": 2}
	}
	return map[string]uint32{"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}
}

// AddShared makes a link, which is down.
func AddShared(l Shared) Change {
	var w netlink.Writer
	w.Raw(linkHeader(0, 0, 0)...)
	w.String(unix.IFLA_IFNAME, l.Name)
	w.Uint32(unix.IFLA_LINK, uint32(l.Parent))
	w.Uint32(unix.IFLA_NET_NS_FD, uint32(l.NS.Fd()))
	if l.MTU > 0 {
		w.Uint32(unix.IFLA_MTU, uint32(l.MTU))
	}
	if len(l.MAC) > 0 {
		w.Put(unix.IFLA_ADDRESS, l.MAC)
	}
	w.Nest(unix.IFLA_LINKINFO, func() {
		w.String(unix.IFLA_INFO_KIND, l.Kind)
		w.Nest(unix.IFLA_INFO_DATA, func() {
			const mode = 1 // IFLA_MACVLAN_MODE, IFLA_IPVLAN_MODE
			m := Modes(l.Kind)[l.Mode]
			if l.Kind == "ipvlan" {
				w.Put(mode, binary.NativeEndian.AppendUint16(nil, uint16(m)))
			} else {
				w.Uint32(mode, m)
			}
		})
	})
	return change(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, w, "make %s link %s", l.Kind, l.Name)
}

// SetIsolated keeps a bridge's port from others that are isolated, too.
func SetIsolated(index int) Change {
	const isolated = 33 // IFLA_BRPORT_ISOLATED
	header := linkHeader(index, 0, 0)
	header[0] = unix.AF_BRIDGE
	var w netlink.Writer
	w.Raw(header...)
	w.Nest(unix.IFLA_PROTINFO, func() { w.Uint8(isolated, 1) })
	return change(unix.RTM_SETLINK, 0, w, "isolate port %d", index)
}

// SetHairpin lets a bridge's port have back what came from it: with br_netfilter,
// what a container sends to its own published port never leaves the bridge.
func SetHairpin(index int) Change {
	const mode = 4 // IFLA_BRPORT_MODE
	header := linkHeader(index, 0, 0)
	header[0] = unix.AF_BRIDGE
	var w netlink.Writer
	w.Raw(header...)
	w.Nest(unix.IFLA_PROTINFO, func() { w.Uint8(mode, 1) })
	return change(unix.RTM_SETLINK, 0, w, "turn port %d back on itself", index)
}

// SetMaster makes a link a port of a bridge, and sets it up.
func SetMaster(index, bridge int) Change {
	var w netlink.Writer
	w.Raw(linkHeader(index, unix.IFF_UP, unix.IFF_UP)...)
	w.Uint32(unix.IFLA_MASTER, uint32(bridge))
	return change(unix.RTM_NEWLINK, 0, w, "put link %d on bridge %d", index, bridge)
}
