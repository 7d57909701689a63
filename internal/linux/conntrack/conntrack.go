// Package conntrack removes connections that the kernel remembers. What it has
// decided for the first packet of one, it does with all that follow: packets go on
// to where a port led before, for as long as they keep coming.
package conntrack

import (
	"encoding/binary"
	"errors"
	"maps"
	"net/netip"

	"golang.org/x/sys/unix"

	"lade/internal/linux/netlink"
)

// Flow is a connection.
type Flow struct {
	Protocol uint8
	// From and To are what its first packet says, Server is who answers it.
	From, To, Server netip.AddrPort
}

// The kernel's numbers for what is in a message about a connection.
const (
	subsystem        = 1 // NFNL_SUBSYS_CTNETLINK
	getFlow, delFlow = 1, 2
	original, reply  = 1, 2 // CTA_TUPLE_ORIG, CTA_TUPLE_REPLY
	identity         = 12   // CTA_ID
	zone             = 18   // CTA_ZONE
	tupleIP, tupleL4 = 1, 2
	source4, dest4   = 1, 2
	source6, dest6   = 3, 4
	l4Number         = 1
	l4Source, l4Dest = 2, 3
)

// Forget removes the connections that match, in the network namespace of the
// calling thread, and says how many there were.
func Forget(match func(Flow) bool) (n int, err error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	var doomed []netlink.Message
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		err := c.Ask(message(getFlow, unix.NLM_F_DUMP, family, "list connections", nil), func(m netlink.Message) error {
			if len(m.Data) < 4 {
				return nil
			}
			a := maps.Collect(netlink.Attributes(m.Data[4:]))
			if f, ok := parse(a); ok && match(f) {
				doomed = append(doomed, remove(family, a))
			}
			return nil
		})
		if err != nil {
			return n, err
		}
	}
	for _, m := range doomed {
		switch err := c.Do(m); {
		case err == nil:
			n++
		case !errors.Is(err, unix.ENOENT): // it ended on its own
			return n, err
		}
	}
	return n, nil
}

// remove asks for one connection to be removed: the one of this number, not one
// that came after it between the same ends.
func remove(family byte, a map[uint16][]byte) netlink.Message {
	return message(delFlow, 0, family, "forget a connection", func(w *netlink.Writer) {
		for _, kind := range []uint16{original, identity, zone} {
			if v := a[kind]; v != nil {
				if kind == original {
					kind |= unix.NLA_F_NESTED
				}
				w.Put(kind, v)
			}
		}
	})
}

// parse reads the ends of a connection.
func parse(a map[uint16][]byte) (f Flow, ok bool) {
	var back Flow
	if f.Protocol, f.From, f.To, ok = tuple(a[original]); !ok {
		return f, false
	}
	_, back.From, _, ok = tuple(a[reply])
	f.Server = back.From
	return f, ok
}

func tuple(raw []byte) (protocol uint8, from, to netip.AddrPort, ok bool) {
	parts := maps.Collect(netlink.Attributes(raw))
	ip, l4 := maps.Collect(netlink.Attributes(parts[tupleIP])), maps.Collect(netlink.Attributes(parts[tupleL4]))
	src, ok1 := address(ip[source4], ip[source6])
	dst, ok2 := address(ip[dest4], ip[dest6])
	if !ok1 || !ok2 || len(l4[l4Number]) != 1 {
		return 0, from, to, false
	}
	return l4[l4Number][0], netip.AddrPortFrom(src, port(l4[l4Source])), netip.AddrPortFrom(dst, port(l4[l4Dest])), true
}

func address(four, six []byte) (netip.Addr, bool) {
	if four != nil {
		return netip.AddrFromSlice(four)
	}
	return netip.AddrFromSlice(six)
}

func port(b []byte) uint16 {
	if len(b) != 2 {
		return 0 // a protocol without ports
	}
	return binary.BigEndian.Uint16(b)
}

func message(kind, flags uint16, family byte, what string, fn func(*netlink.Writer)) netlink.Message {
	var w netlink.Writer
	w.Raw(family, unix.NFNETLINK_V0, 0, 0)
	if fn != nil {
		fn(&w)
	}
	return netlink.Message{Type: subsystem<<8 | kind, Flags: flags, Data: w.Bytes(), What: what}
}
