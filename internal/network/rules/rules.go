// Package rules says which packet filter rules networks need. It is a pure
// function: from the networks, endpoints and published ports that should be
// there to the tables of rules, as values. What applies them is package nft.
//
// The rules do not depend on how many networks, containers and ports there are:
// each of these is some elements of sets and maps. So Elements, what one more
// adds, is as cheap for the thousandth as for the first.
//
// Who may reach whom:
//
//   - containers of one network reach each other, unless it says otherwise;
//   - containers of different networks do not, but by ports that are published;
//   - a published port is reached by those who reach the address of the host that
//     it is published on; one on a loopback address by the host alone;
//   - nobody else reaches a container, but with answers to what it asked;
//   - a container says of no address but its own that it is there (ARP, neighbour
//     discovery), announces no router and offers no leases.
//
// An accept of these chains does not overrule other tables: what another
// firewall on the host drops stays dropped.
package rules

import (
	"net"
	"net/netip"

	"lade/internal/linux/nft"
)

// Prefix begins the names of all links that Lade names itself.
const Prefix = "lade"

// Network is a bridge with what its containers may do.
type Network struct {
	Bridge  string
	Subnets []netip.Prefix
	// Internal containers reach each other and the host, and nobody else.
	Internal bool
	// Apart containers do not reach each other (ICC off).
	Apart bool
	// Unmasked containers go out under their own addresses.
	Unmasked bool
}

// Endpoint is a container's place on a bridge: the host's end of its link, and
// the addresses that it may speak under.
type Endpoint struct {
	Link      string
	MAC       net.HardwareAddr
	Addresses []netip.Addr // IPv6 link-local ones are added
}

// Port is a published port.
type Port struct {
	Protocol uint8          // the number of TCP, UDP or SCTP
	Host     netip.AddrPort // an unspecified address stands for all of the host's in its version
	To       netip.AddrPort
}

// Wanted is all that rules are made for.
type Wanted struct {
	Networks  []Network
	Endpoints []Endpoint
	Ports     []Port
	// Guard4 and Guard6 say that the host forwarded no packets of this version
	// before Lade needed it to: what has nothing to do with its networks is not
	// forwarded still.
	Guard4, Guard6 bool
}

// The names of sets and maps.
const (
	bridges = "bridges" // of all networks
	within  = "within"  // pairs of bridges between which all may pass
	closed  = "closed"  // bridges of internal networks
	masked4 = "masked4" // subnets that go out under the host's address
	masked6 = "masked6"
	bound4  = "bound4" // published on one address
	bound6  = "bound6"
	any4    = "any4" // published on all addresses
	any6    = "any6"

	links   = "links"   // the host's ends of containers' links
	senders = "senders" // with the hardware address
	said4   = "said4"   // with the hardware and IPv4 addresses that ARP may say
	said6   = "said6"   // with the addresses that may be told to neighbours
)

// Tables returns the tables for what is wanted: one for packets that the host
// forwards, and one for frames on its bridges. The comment says whose they are.
func Tables(name, comment string, w Wanted) []nft.Table {
	tables := skeleton(name)
	for i := range tables {
		tables[i].Comment, tables[i].Owned = comment, true
	}
	forward := &tables[0].Chains[forwardChain]
	guard := func(version nft.Stmt) {
		forward.Rules = append(forward.Rules, nft.Rule{
			Comment: "forwarding was off: others stay without it",
			Stmts:   []nft.Stmt{version, nft.NotNamed(nft.InName(), Prefix), nft.NotNamed(nft.OutName(), Prefix), nft.NotIn(bridges, nft.InName()), nft.NotIn(bridges, nft.OutName()), nft.Drop()},
		})
	}
	if w.Guard4 {
		guard(nft.OnlyIPv4())
	}
	if w.Guard6 {
		guard(nft.OnlyIPv6())
	}
	for i, t := range Elements(name, w) {
		for _, s := range t.Sets {
			for j := range tables[i].Sets {
				if tables[i].Sets[j].Name == s.Name {
					tables[i].Sets[j].Elements = s.Elements
				}
			}
		}
	}
	return tables
}

// Elements returns tables that hold nothing but the elements for what is wanted,
// for nft.Conn.Edit.
func Elements(name string, w Wanted) []nft.Table {
	e := elements{inet: map[string][]nft.Element{}, bridge: map[string][]nft.Element{}}
	for _, n := range w.Networks {
		e.network(n)
	}
	for _, p := range w.Endpoints {
		e.endpoint(p)
	}
	for _, p := range w.Ports {
		e.port(p)
	}
	return []nft.Table{
		{Family: nft.Inet, Name: name, Sets: filled(e.inet)},
		{Family: nft.Bridge, Name: name, Sets: filled(e.bridge)},
	}
}

// elements are those of the two tables' sets, by name of set.
type elements struct{ inet, bridge map[string][]nft.Element }

func filled(by map[string][]nft.Element) []nft.Set {
	var sets []nft.Set
	for name, list := range by {
		sets = append(sets, nft.Set{Name: name, Elements: list})
	}
	return sets
}

func (e elements) network(n Network) {
	link := nft.Interface(n.Bridge)
	e.inet[bridges] = append(e.inet[bridges], nft.Key(link))
	if !n.Apart {
		e.inet[within] = append(e.inet[within], nft.Key(link, link))
	}
	if n.Internal {
		e.inet[closed] = append(e.inet[closed], nft.Key(link))
	}
	if n.Unmasked || n.Internal {
		return
	}
	for _, s := range n.Subnets {
		set := masked4
		if s.Addr().Is6() {
			set = masked6
		}
		e.inet[set] = append(e.inet[set], nft.Network(s))
	}
}

func (e elements) endpoint(p Endpoint) {
	link, mac := nft.Interface(p.Link), nft.Hardware(p.MAC)
	e.bridge[links] = append(e.bridge[links], nft.Key(link))
	e.bridge[senders] = append(e.bridge[senders], nft.Key(link, mac))
	// The address that a link asks under which has none yet.
	e.bridge[said4] = append(e.bridge[said4], nft.Key(link, mac, nft.Address(netip.IPv4Unspecified())))
	e.bridge[said6] = append(e.bridge[said6], nft.Key(link, nft.Address(LinkLocal(p.MAC))))
	for _, a := range p.Addresses {
		if a.Is4() {
			e.bridge[said4] = append(e.bridge[said4], nft.Key(link, mac, nft.Address(a)))
		} else {
			e.bridge[said6] = append(e.bridge[said6], nft.Key(link, nft.Address(a)))
		}
	}
}

func (e elements) port(p Port) {
	key := []nft.Part{nft.Protocol(p.Protocol), nft.Port(p.Host.Port())}
	set := mapOf(p)
	if !p.Host.Addr().IsUnspecified() {
		key = append([]nft.Part{nft.Address(p.Host.Addr())}, key...)
	}
	e.inet[set] = append(e.inet[set], nft.Key(key...).To(nft.Address(p.To.Addr()), nft.Port(p.To.Port())))
}

// LinkLocal returns the address that a link gives itself (EUI-64).
func LinkLocal(mac net.HardwareAddr) netip.Addr {
	a := [16]byte{0: 0xfe, 1: 0x80, 11: 0xff, 12: 0xfe}
	if len(mac) == 6 {
		copy(a[8:], mac[:3])
		copy(a[13:], mac[3:])
		a[8] ^= 2
	}
	return netip.AddrFrom16(a)
}
