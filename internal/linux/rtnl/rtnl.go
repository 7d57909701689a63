// Package rtnl changes and reads the kernel's links, addresses and routes
// (rtnetlink).
//
// A change is a value; Conn.Do carries out several in one system call. It
// knows what Lade's networks need: bridges, veth pairs, links that share another
// one, addresses and routes. A Monitor tells what others change.
package rtnl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"lade/internal/linux/netlink"
)

// Conn is a socket in one network namespace. Its methods may be called
// concurrently.
type Conn struct {
	nl *netlink.Conn
}

// Dial opens a socket in the network namespace of the calling thread.
func Dial() (*Conn, error) {
	nl, err := netlink.Dial(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	return &Conn{nl}, nil
}

// Close closes the socket.
func (c *Conn) Close() error { return c.nl.Close() }

// Change is something to be done. It is made by the functions of this package.
type Change struct{ m netlink.Message }

// Do carries out changes in their order and returns the first error. Those
// after it may have been carried out.
func (c *Conn) Do(changes ...Change) error {
	ms := make([]netlink.Message, len(changes))
	for i, ch := range changes {
		ms[i] = ch.m
		ms[i].Flags |= unix.NLM_F_ACK
	}
	return c.nl.Do(ms...)
}

// Link is a network interface.
type Link struct {
	Index  int
	Name   string
	Up     bool
	Master int // the bridge it is a port of, or 0
	MTU    int
	MAC    net.HardwareAddr
	Kind   string // "bridge", "veth", …; "" for a device
	Group  uint32 // a number that its maker gave it; 0 means none
	Alias  string // a text that somebody gave it
}

// Bridge is a bridge to be made.
type Bridge struct {
	Name  string
	MAC   net.HardwareAddr // none: a random one
	MTU   int              // 0: as the kernel likes
	Group uint32
}

// AddBridge makes a bridge that is down. It forwards at once when it is up: a
// port does not learn first.
func AddBridge(b Bridge) Change {
	var w netlink.Writer
	w.Raw(linkHeader(0, 0, 0)...)
	w.String(unix.IFLA_IFNAME, b.Name)
	w.Uint32(unix.IFLA_GROUP, b.Group)
	if len(b.MAC) > 0 {
		w.Put(unix.IFLA_ADDRESS, b.MAC)
	}
	if b.MTU > 0 {
		w.Uint32(unix.IFLA_MTU, uint32(b.MTU))
	}
	w.Nest(unix.IFLA_LINKINFO, func() {
		w.String(unix.IFLA_INFO_KIND, "bridge")
		w.Nest(unix.IFLA_INFO_DATA, func() {
			w.Uint32(unix.IFLA_BR_FORWARD_DELAY, 0)
			w.Uint32(unix.IFLA_BR_STP_STATE, 0)
		})
	})
	return change(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, w, "make bridge %s", b.Name)
}

// Veth is a pair of interfaces, one end here and one in another namespace.
type Veth struct {
	Name   string // of the end here, which is up
	Master int    // the bridge that the end here is a port of
	MTU    int
	Group  uint32 // of the end here
	Peer   string // name of the other end, which is down
	MAC    net.HardwareAddr
	NS     *os.File // where the other end is
}

// AddVeth makes a pair, each end in its place from the beginning.
func AddVeth(v Veth) Change {
	var w netlink.Writer
	w.Raw(linkHeader(0, unix.IFF_UP, unix.IFF_UP)...)
	w.String(unix.IFLA_IFNAME, v.Name)
	w.Uint32(unix.IFLA_MASTER, uint32(v.Master))
	w.Uint32(unix.IFLA_GROUP, v.Group)
	if v.MTU > 0 {
		w.Uint32(unix.IFLA_MTU, uint32(v.MTU))
	}
	w.Nest(unix.IFLA_LINKINFO, func() {
		w.String(unix.IFLA_INFO_KIND, "veth")
		w.Nest(unix.IFLA_INFO_DATA, func() {
			const peer = 1 // VETH_INFO_PEER
			w.Nest(peer, func() {
				w.Raw(linkHeader(0, 0, 0)...)
				w.String(unix.IFLA_IFNAME, v.Peer)
				w.Put(unix.IFLA_ADDRESS, v.MAC)
				if v.MTU > 0 {
					w.Uint32(unix.IFLA_MTU, uint32(v.MTU))
				}
				w.Uint32(unix.IFLA_NET_NS_FD, uint32(v.NS.Fd()))
			})
		})
	})
	return change(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, w, "make veth pair %s", v.Name)
}

// SetUp sets a link up.
func SetUp(index int) Change {
	var w netlink.Writer
	w.Raw(linkHeader(index, unix.IFF_UP, unix.IFF_UP)...)
	return change(unix.RTM_NEWLINK, 0, w, "set link %d up", index)
}

// DelLink removes a link; a veth's other end goes with it.
func DelLink(name string) Change {
	var w netlink.Writer
	w.Raw(linkHeader(0, 0, 0)...)
	w.String(unix.IFLA_IFNAME, name)
	return change(unix.RTM_DELLINK, 0, w, "remove link %s", name)
}

// SetAlias gives a link a text for people and programs, of up to 255 bytes.
func SetAlias(index int, alias string) Change {
	var w netlink.Writer
	w.Raw(linkHeader(index, 0, 0)...)
	w.String(unix.IFLA_IFALIAS, alias)
	return change(unix.RTM_NEWLINK, 0, w, "describe link %d", index)
}

// SetGroup marks a link, for DelGroup.
func SetGroup(name string, group uint32) Change {
	var w netlink.Writer
	w.Raw(linkHeader(0, 0, 0)...)
	w.String(unix.IFLA_IFNAME, name)
	w.Uint32(unix.IFLA_GROUP, group)
	return change(unix.RTM_NEWLINK, 0, w, "mark link %s", name)
}

// DelGroup removes all links with a mark. To remove one takes the kernel
// 15 ms of waiting, to remove many together takes it no longer. The error
// wraps unix.ENODEV if there is none.
func DelGroup(group uint32) Change {
	var w netlink.Writer
	w.Raw(linkHeader(0, 0, 0)...)
	w.Uint32(unix.IFLA_GROUP, group)
	return change(unix.RTM_DELLINK, 0, w, "remove links of group %d", group)
}

// LinkByName returns a link. The error wraps unix.ENODEV if there is none.
func (c *Conn) LinkByName(name string) (Link, error) {
	var w netlink.Writer
	w.Raw(linkHeader(0, 0, 0)...)
	w.String(unix.IFLA_IFNAME, name)
	var l Link
	err := c.nl.Ask(change(unix.RTM_GETLINK, 0, w, "find link %s", name).m, func(m netlink.Message) (err error) {
		l, err = parseLink(m.Data)
		return err
	})
	return l, err
}

// Links returns all links.
func (c *Conn) Links() ([]Link, error) {
	var w netlink.Writer
	w.Raw(linkHeader(0, 0, 0)...)
	var out []Link
	err := c.nl.Ask(change(unix.RTM_GETLINK, unix.NLM_F_DUMP, w, "list links").m, func(m netlink.Message) error {
		l, err := parseLink(m.Data)
		out = append(out, l)
		return err
	})
	return out, err
}

var errShort = errors.New("message is cut off")

func parseLink(b []byte) (Link, error) {
	if len(b) < unix.SizeofIfInfomsg {
		return Link{}, errShort
	}
	l := Link{
		Index: int(int32(binary.NativeEndian.Uint32(b[4:]))),
		Up:    binary.NativeEndian.Uint32(b[8:])&unix.IFF_UP != 0,
	}
	for kind, v := range netlink.Attributes(b[unix.SizeofIfInfomsg:]) {
		switch {
		case kind == unix.IFLA_IFNAME:
			l.Name = netlink.CString(v)
		case kind == unix.IFLA_MASTER && len(v) == 4:
			l.Master = int(binary.NativeEndian.Uint32(v))
		case kind == unix.IFLA_MTU && len(v) == 4:
			l.MTU = int(binary.NativeEndian.Uint32(v))
		case kind == unix.IFLA_GROUP && len(v) == 4:
			l.Group = binary.NativeEndian.Uint32(v)
		case kind == unix.IFLA_IFALIAS:
			l.Alias = netlink.CString(v)
		case kind == unix.IFLA_ADDRESS:
			l.MAC = append(net.HardwareAddr(nil), v...)
		case kind == unix.IFLA_LINKINFO:
			for kind, v := range netlink.Attributes(v) {
				if kind == unix.IFLA_INFO_KIND {
					l.Kind = netlink.CString(v)
				}
			}
		}
	}
	return l, nil
}

func change(kind, flags uint16, w netlink.Writer, what string, args ...any) Change {
	return Change{netlink.Message{Type: kind, Flags: flags, Data: w.Bytes(), What: fmt.Sprintf(what, args...)}}
}

// linkHeader is a struct ifinfomsg.
func linkHeader(index int, flags, mask uint32) []byte {
	b := make([]byte, 4, unix.SizeofIfInfomsg) // family AF_UNSPEC, type any
	b = binary.NativeEndian.AppendUint32(b, uint32(index))
	b = binary.NativeEndian.AppendUint32(b, flags)
	return binary.NativeEndian.AppendUint32(b, mask)
}
