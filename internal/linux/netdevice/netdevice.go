// Package netdevice moves network devices between network namespaces.
//
// It stands beside rtnl, which knows more of links and links more: a runtime
// that is started for every container counts its kilobytes.
package netdevice

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/netlink"
	"lade/internal/linux/netns"
)

// Move moves the device called name from the network namespace of the calling
// thread to ns, where it is called to, which may hold "%d" for a number that is
// free. The addresses that have no end and count beyond its link go with it,
// and it is up there. A name that is taken there leaves all as it is.
func Move(name, to string, ns *os.File) error {
	here, err := netlink.Dial(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer here.Close()
	l, err := find(here, name)
	if err != nil {
		return err
	}
	addrs, err := addresses(here, l.index)
	if err != nil {
		return err
	}
	var there *netlink.Conn
	if err := netns.Do(ns, func() (err error) { there, err = netlink.Dial(unix.NETLINK_ROUTE); return err }); err != nil {
		return err
	}
	defer there.Close()
	// The kernel would move the device first and then find the name taken; one
	// that is not hardware would end with the namespace.
	switch _, err := find(there, to); {
	case err == nil:
		return errdefs.New(errdefs.Conflict, "there is a device %s already", to)
	case !errors.Is(err, unix.ENODEV):
		return err
	}
	down := request(unix.RTM_NEWLINK, 0, header(l.index, 0, unix.IFF_UP), "set %s down", name)
	if err := here.Do(down, move(l.index, to, ns, name)); err != nil {
		return err
	}
	return arrive(there, l, to, addrs)
}

// arrive sets up a device that has been moved.
func arrive(there *netlink.Conn, l link, to string, addrs []address) error {
	index := 0
	err := there.Ask(request(unix.RTM_GETLINK, unix.NLM_F_DUMP, header(0, 0, 0), "list links"), func(m netlink.Message) error {
		have, err := parseLink(m.Data)
		// Where its name was a pattern, it is known by its hardware address.
		if err == nil && (have.name == to || strings.Contains(to, "%") && bytes.Equal(have.mac, l.mac)) {
			index = have.index
		}
		return err
	})
	if err != nil {
		return err
	}
	var all []netlink.Message
	for _, a := range addrs {
		if a.permanent && a.global {
			all = append(all, put(index, a))
		}
	}
	return there.Do(append(all, request(unix.RTM_NEWLINK, 0, header(index, unix.IFF_UP, unix.IFF_UP), "set %s up", to))...)
}

// link is what is asked about a device.
type link struct {
	index int
	name  string
	mac   []byte
}

// find returns a device. The error wraps unix.ENODEV if there is none.
func find(c *netlink.Conn, name string) (l link, err error) {
	var w netlink.Writer
	w.Raw(header(0, 0, 0)...)
	w.String(unix.IFLA_IFNAME, name)
	err = c.Ask(request(unix.RTM_GETLINK, 0, w.Bytes(), "find device %s", name), func(m netlink.Message) (err error) {
		l, err = parseLink(m.Data)
		return err
	})
	return l, err
}

func move(index int, to string, ns *os.File, name string) netlink.Message {
	var w netlink.Writer
	w.Raw(header(index, 0, 0)...)
	w.String(unix.IFLA_IFNAME, to)
	w.Uint32(unix.IFLA_NET_NS_FD, uint32(ns.Fd()))
	return request(unix.RTM_NEWLINK, 0, w.Bytes(), "move %s to another network namespace as %s", name, to)
}

// address is one of a device's.
type address struct {
	prefix    netip.Prefix
	peer      netip.Addr // of a link between two
	permanent bool       // it has no end
	global    bool       // it has a meaning beyond this host and link
}

func addresses(c *netlink.Conn, index int) ([]address, error) {
	var out []address
	all := request(unix.RTM_GETADDR, unix.NLM_F_DUMP, make([]byte, unix.SizeofIfAddrmsg), "list addresses")
	err := c.Ask(all, func(m netlink.Message) error {
		a, of, err := parseAddress(m.Data)
		if err == nil && of == index && a.prefix.IsValid() {
			out = append(out, a)
		}
		return err
	})
	return out, err
}

// put gives a device an address that it had elsewhere.
func put(index int, a address) netlink.Message {
	family := byte(unix.AF_INET)
	if a.prefix.Addr().Is6() {
		family = unix.AF_INET6
	}
	peer := a.prefix.Addr()
	if a.peer.IsValid() {
		peer = a.peer
	}
	var w netlink.Writer
	w.Raw(family, byte(a.prefix.Bits()), 0, unix.RT_SCOPE_UNIVERSE)
	w.Raw(binary.NativeEndian.AppendUint32(nil, uint32(index))...)
	w.Put(unix.IFA_LOCAL, a.prefix.Addr().AsSlice())
	w.Put(unix.IFA_ADDRESS, peer.AsSlice())
	return request(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK, w.Bytes(), "add address %s", a.prefix)
}

func request(kind, flags uint16, data []byte, what string, args ...any) netlink.Message {
	if kind == unix.RTM_NEWLINK {
		flags |= unix.NLM_F_ACK
	}
	return netlink.Message{Type: kind, Flags: flags, Data: data, What: fmt.Sprintf(what, args...)}
}

// header is a struct ifinfomsg.
func header(index int, flags, mask uint32) []byte {
	b := make([]byte, 4, unix.SizeofIfInfomsg)
	b = binary.NativeEndian.AppendUint32(b, uint32(index))
	b = binary.NativeEndian.AppendUint32(b, flags)
	return binary.NativeEndian.AppendUint32(b, mask)
}

var errShort = errors.New("message is cut off")

func parseLink(b []byte) (l link, err error) {
	if len(b) < unix.SizeofIfInfomsg {
		return l, errShort
	}
	l.index = int(int32(binary.NativeEndian.Uint32(b[4:])))
	for kind, v := range netlink.Attributes(b[unix.SizeofIfInfomsg:]) {
		switch kind {
		case unix.IFLA_IFNAME:
			l.name = netlink.CString(v)
		case unix.IFLA_ADDRESS:
			l.mac = bytes.Clone(v)
		}
	}
	return l, nil
}

// parseAddress reads a struct ifaddrmsg and its attributes.
func parseAddress(b []byte) (a address, index int, err error) {
	if len(b) < unix.SizeofIfAddrmsg {
		return a, 0, errShort
	}
	flags := uint32(b[2])
	var local, remote netip.Addr
	for kind, v := range netlink.Attributes(b[unix.SizeofIfAddrmsg:]) {
		ip, ok := netip.AddrFromSlice(v)
		switch {
		case kind == unix.IFA_FLAGS && len(v) == 4:
			flags = binary.NativeEndian.Uint32(v)
		case kind == unix.IFA_LOCAL && ok:
			local = ip
		case kind == unix.IFA_ADDRESS && ok:
			remote = ip
		}
	}
	if !local.IsValid() {
		local = remote // IPv6 has no more than one
	} else if remote != local {
		a.peer = remote
	}
	a.prefix = netip.PrefixFrom(local, int(b[1]))
	a.permanent = flags&unix.IFA_F_PERMANENT != 0
	a.global = b[3] == unix.RT_SCOPE_UNIVERSE
	return a, int(int32(binary.NativeEndian.Uint32(b[4:]))), nil
}
