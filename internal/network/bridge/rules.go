package bridge

import (
	"slices"

	"lade/internal/linux/nft"
)

// Prefix begins the names of all links that Lade makes on the host.
const Prefix = "lade"

// Table returns the name of the table of packet filter rules for a network:
// Lade's own is lade, that of a second engine on the host is called as its
// bridge is.
func Table(n Network) string {
	if n.Bridge == Prefix+"0" {
		return Prefix
	}
	return n.Bridge
}

// Rules returns the table for networks of one engine, under the name of the
// first's. guard says that the host forwarded no packets before Lade needed it
// to: then what has nothing to do with Lade's networks is not forwarded still.
//
// A chain that accepts does not overrule other tables: what another firewall
// on the host drops stays dropped.
func Rules(networks []Network, guard bool) nft.Table {
	const bridges, within, subnets = "bridges", "within", "subnets"
	sets := []nft.Set{{Name: bridges, Type: nft.Interface}, {Name: within, Type: nft.Interfaces}, {Name: subnets, Type: nft.Networks}}
	for _, n := range networks {
		sets[0].Elements = append(sets[0].Elements, nft.InterfaceElement(n.Bridge))
		sets[1].Elements = append(sets[1].Elements, nft.InterfacesElement(n.Bridge, n.Bridge))
		sets[2].Elements = append(sets[2].Elements, nft.NetworkElements(n.Subnet)...)
	}
	forward := []nft.Rule{
		// The kernel asks about packets that stay on a bridge only where
		// br_netfilter is loaded.
		{Comment: "between containers of one network", Exprs: slices.Concat(nft.InName(), nft.OutNameToo(), nft.In(within), nft.Accept())},
		{Comment: "answers to containers", Exprs: slices.Concat(nft.OutName(), nft.In(bridges), nft.Established(), nft.Accept())},
		{Comment: "nobody else reaches a container", Exprs: slices.Concat(nft.OutName(), nft.In(bridges), nft.Drop())},
	}
	if guard {
		forward = append(forward, nft.Rule{
			Comment: "ip_forward was off: others stay without it",
			Exprs:   slices.Concat(nft.IPv4(), nft.InName(), nft.NamedOtherThan(Prefix), nft.OutName(), nft.NamedOtherThan(Prefix), nft.Drop()),
		})
	}
	masquerade := nft.Rule{
		Comment: "containers go out under the host's address",
		Exprs:   slices.Concat(nft.IPv4(), nft.IPv4Source(), nft.In(subnets), nft.OutName(), nft.NotIn(bridges), nft.Masquerade()),
	}
	return nft.Table{Name: Table(networks[0]), Sets: sets, Chains: []nft.Chain{
		{Name: "forward", Type: "filter", Hook: nft.Forward, Priority: 0, Rules: forward},
		{Name: "postrouting", Type: "nat", Hook: nft.Postrouting, Priority: 100, Rules: []nft.Rule{masquerade}},
	}}
}
