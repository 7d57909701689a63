package rules

import (
	"net/netip"
	"slices"
)

// Origin is where somebody is who asks for a published port.
type Origin string

// The origins.
const (
	FromLoopback Origin = "the host, by its loopback address"
	FromHost     Origin = "the host, by another address"
	FromLAN      Origin = "other hosts"
	FromOthers   Origin = "containers of other networks"
	FromSame     Origin = "containers of the same network"
)

// Reach says whether those of an origin reach a port, and by which rule, or why not.
type Reach struct {
	From    Origin
	Reached bool
	By      string
}

// ReachOf follows a packet from each origin through the rules to where a port leads.
// What other tables say of it is another matter.
func ReachOf(w Wanted, p Port) []Reach {
	in := networkOf(w, p.To.Addr())
	var out []Reach
	for _, from := range []Origin{FromLoopback, FromHost, FromLAN, FromOthers, FromSame} {
		r := Reach{From: from}
		r.Reached, r.By = reach(in, p, from)
		out = append(out, r)
	}
	return out
}

// networkOf returns the network that an address is in.
func networkOf(w Wanted, a netip.Addr) Network {
	for _, n := range w.Networks {
		if slices.ContainsFunc(n.Subnets, func(s netip.Prefix) bool { return s.Contains(a) }) {
			return n
		}
	}
	return Network{}
}

func reach(in Network, p Port, from Origin) (bool, string) {
	at := p.Host.Addr()
	element := "map " + mapOf(p)
	switch {
	case in.Bridge == "":
		return false, "no network has the address that it leads to"
	case from == FromLoopback && at.Is6():
		return false, "the kernel takes nothing from ::1 to another link"
	case from == FromLoopback && !at.IsUnspecified() && !at.IsLoopback():
		return false, "it is published on " + at.String() + " alone"
	case from == FromLoopback:
		return true, "chain output, " + element + "; chain postrouting, masquerade"
	case at.IsLoopback():
		return false, "chain prerouting: a loopback address is for the host alone"
	case from == FromHost:
		return true, "chain output, " + element
	case in.Internal && from != FromSame:
		return false, "chain forward: nobody else reaches a container of an internal network"
	case from == FromSame && in.Internal:
		return true, "chain prerouting, " + element + "; chain forward: between containers of one network"
	case from == FromSame || from == FromOthers:
		return true, "chain prerouting, " + element + "; chain forward: published ports; chain postrouting, masquerade"
	}
	return true, "chain prerouting, " + element + "; chain forward: published ports"
}

// mapOf returns the name of the map that a port is an element of.
func mapOf(p Port) string {
	switch at := p.Host.Addr(); {
	case at.Is6() && at.IsUnspecified():
		return any6
	case at.Is6():
		return bound6
	case at.IsUnspecified():
		return any4
	}
	return bound4
}
