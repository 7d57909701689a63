package rules

import (
	"net/netip"

	"lade/internal/linux/nft"
)

// forwardChain is the place of the chain forward among those of the first table.
const forwardChain = 1

// skeleton returns the tables without elements.
func skeleton(name string) []nft.Table {
	name1, name2 := []nft.Type{nft.IfName}, []nft.Type{nft.IfName, nft.IfName}
	v4, v6 := nft.IPv4Addr, nft.IPv6Addr
	port := []nft.Type{nft.InetProto, nft.InetService}
	to4, to6 := []nft.Type{v4, nft.InetService}, []nft.Type{v6, nft.InetService}
	return []nft.Table{{
		Family: nft.Inet, Name: name,
		Sets: []nft.Set{
			{Name: bridges, Key: name1},
			{Name: within, Key: name2},
			{Name: closed, Key: name1},
			{Name: masked4, Key: []nft.Type{v4}, Interval: true},
			{Name: masked6, Key: []nft.Type{v6}, Interval: true},
			{Name: bound4, Key: append([]nft.Type{v4}, port...), Value: to4},
			{Name: bound6, Key: append([]nft.Type{v6}, port...), Value: to6},
			{Name: any4, Key: port, Value: to4},
			{Name: any6, Key: port, Value: to6},
		},
		Chains: []nft.Chain{
			{Name: "raw", Type: "filter", Hook: nft.Prerouting, Priority: nft.Raw(), Rules: raw()},
			{Name: "forward", Type: "filter", Hook: nft.Forward, Priority: nft.Filter(), Rules: forward()},
			{Name: "prerouting", Type: "nat", Hook: nft.Prerouting, Priority: nft.Dstnat(), Rules: append([]nft.Rule{{
				// The kernel drops what others than the host itself send there,
				// unless it has another destination by then.
				Comment: "a loopback address is for the host alone",
				Stmts:   []nft.Stmt{nft.Implied(nft.OnlyIPv4()), nft.Loopback4(nft.Dest()), nft.Accept()},
			}}, published()...)},
			{Name: "output", Type: "nat", Hook: nft.Output, Priority: nft.Localnat(), Rules: published()},
			{Name: "postrouting", Type: "nat", Hook: nft.Postrouting, Priority: nft.Srcnat(), Rules: postrouting()},
		},
	}, {
		Family: nft.Bridge, Name: name,
		Sets: []nft.Set{
			{Name: links, Key: name1},
			{Name: senders, Key: []nft.Type{nft.IfName, nft.EtherAddr}},
			{Name: said4, Key: []nft.Type{nft.IfName, nft.EtherAddr, v4}},
			{Name: said6, Key: []nft.Type{nft.IfName, v6}},
		},
		Chains: []nft.Chain{{Name: "prerouting", Type: "filter", Hook: nft.Prerouting, Priority: nft.OnBridge(), Rules: fromContainers()}},
	}}
}

// raw is before connections and new destinations.
func raw() []nft.Rule {
	return []nft.Rule{{
		// So that answers to the host's own loopback addresses come back from a
		// bridge, the kernel must take packets for them from it; but these have
		// the bridge's address until their connection is known.
		Comment: "the host's loopback is not for containers",
		Stmts:   []nft.Stmt{nft.Implied(nft.OnlyIPv4()), nft.In(bridges, nft.InName()), nft.Loopback4(nft.Dest()), nft.Drop()},
	}, {
		// The kernel drops these itself, but asks for new destinations first where
		// br_netfilter is loaded.
		Comment: "the host's loopback is not for containers",
		Stmts:   []nft.Stmt{nft.Implied(nft.OnlyIPv6()), nft.In(bridges, nft.InName()), nft.Is(nft.Dest6(), nft.Address(netip.IPv6Loopback())), nft.Drop()},
	}}
}

func forward() []nft.Rule {
	return []nft.Rule{
		// The kernel asks about packets that stay on a bridge only where
		// br_netfilter is loaded.
		{Comment: "between containers of one network", Stmts: []nft.Stmt{nft.In(within, nft.InName(), nft.OutName()), nft.Accept()}},
		{Comment: "an internal network's reach nobody else", Stmts: []nft.Stmt{nft.In(closed, nft.InName()), nft.Drop()}},
		{Comment: "answers to containers", Stmts: []nft.Stmt{nft.In(bridges, nft.OutName()), nft.Established(), nft.Accept()}},
		{Comment: "published ports", Stmts: []nft.Stmt{nft.In(bridges, nft.OutName()), nft.NotIn(closed, nft.OutName()), nft.Redirected(), nft.Accept()}},
		{Comment: "nobody else reaches a container", Stmts: []nft.Stmt{nft.In(bridges, nft.OutName()), nft.Drop()}},
	}
}

// published sends what is for a published port to its container.
func published() []nft.Rule {
	port := []nft.Field{nft.L4Proto(), nft.DestPort()}
	at := func(f nft.Field) []nft.Field { return append([]nft.Field{f}, port...) }
	return []nft.Rule{
		{Comment: "ports on one address", Stmts: []nft.Stmt{nft.Implied(nft.OnlyIPv4()), nft.ForThisHost(), nft.Redirect(nft.IPv4Addr, bound4, at(nft.Dest())...)}},
		{Comment: "ports on all addresses", Stmts: []nft.Stmt{nft.OnlyIPv4(), nft.ForThisHost(), nft.Redirect(nft.IPv4Addr, any4, port...)}},
		{Comment: "ports on one address", Stmts: []nft.Stmt{nft.Implied(nft.OnlyIPv6()), nft.ForThisHost(), nft.Redirect(nft.IPv6Addr, bound6, at(nft.Dest6())...)}},
		{Comment: "ports on all addresses", Stmts: []nft.Stmt{nft.OnlyIPv6(), nft.ForThisHost(), nft.Redirect(nft.IPv6Addr, any6, port...)}},
	}
}

func postrouting() []nft.Rule {
	return []nft.Rule{
		{Comment: "containers go out under the host's address", Stmts: []nft.Stmt{nft.Implied(nft.OnlyIPv4()), nft.In(masked4, nft.Source()), nft.NotIn(bridges, nft.OutName()), nft.Masquerade()}},
		{Comment: "containers go out under the host's address", Stmts: []nft.Stmt{nft.Implied(nft.OnlyIPv6()), nft.In(masked6, nft.Source6()), nft.NotIn(bridges, nft.OutName()), nft.Masquerade()}},
		// Their answers would otherwise go straight to the container that asked,
		// which did not ask that address.
		{Comment: "containers that ask by a published port", Stmts: []nft.Stmt{nft.Implied(nft.OnlyIPv4()), nft.In(masked4, nft.Source()), nft.In(bridges, nft.OutName()), nft.Redirected(), nft.Masquerade()}},
		{Comment: "containers that ask by a published port", Stmts: []nft.Stmt{nft.Implied(nft.OnlyIPv6()), nft.In(masked6, nft.Source6()), nft.In(bridges, nft.OutName()), nft.Redirected(), nft.Masquerade()}},
		{Comment: "the host by its loopback address", Stmts: []nft.Stmt{nft.Implied(nft.OnlyIPv4()), nft.Loopback4(nft.Source()), nft.In(bridges, nft.OutName()), nft.Masquerade()}},
	}
}

// fromContainers is for frames as they come from containers. What addresses
// packets carry is not looked at: a container may route for others, as the nodes
// of a cluster in containers do.
func fromContainers() []nft.Rule {
	const advertisement, neighbour, redirect = 134, 136, 137
	ours := nft.In(links, nft.InName())
	link := nft.InName()
	drop := func(comment string, stmts ...nft.Stmt) nft.Rule {
		return nft.Rule{Comment: comment, Stmts: append(append([]nft.Stmt{ours}, stmts...), nft.Drop())}
	}
	return []nft.Rule{
		drop("another's hardware address", nft.NotIn(senders, link, nft.EtherSource())),
		drop("another's address, said by ARP", nft.Implied(nft.OnlyARP()), nft.NotIn(said4, link, nft.ARPSourceEther(), nft.ARPSource())),
		drop("another's address, said to neighbours", nft.ICMPv6("nd-neighbor-advert", neighbour), nft.NotIn(said6, link, nft.NDTarget())),
		drop("a router that is none", nft.ICMPv6("nd-router-advert", advertisement)),
		drop("a router that is none", nft.ICMPv6("nd-redirect", redirect)),
		drop("leases that are not its to give", nft.UDPPorts(67, 68, "udp sport 67 udp dport 68")),
	}
}
