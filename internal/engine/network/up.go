package network

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"lade/internal/engine/network/definition"
	"lade/internal/engine/network/host"
	"lade/internal/engine/network/record"
	"lade/internal/errdefs"
	"lade/internal/linux/rtnl"
	"lade/internal/network/bridge"
	"lade/internal/network/ipam"
	"lade/internal/network/rules"
)

// all returns the networks in the order of their names: those that are always
// there first.
func (s *Service) all() []*network {
	return slices.SortedFunc(maps.Values(s.nets), func(a, b *network) int {
		if a.builtin() != b.builtin() {
			if a.builtin() {
				return -1
			}
			return 1
		}
		return strings.Compare(a.def.Name, b.def.Name)
	})
}

// find returns a network by id, name, or the beginning of its id. s.mu is held.
func (s *Service) find(ref string) (*network, error) {
	if n := s.nets[ref]; n != nil {
		return n, nil
	}
	var found []*network
	for _, n := range s.nets {
		if n.def.Name == ref || ref == "default" && n.def.Name == Default {
			return n, nil
		}
		if ref != "" && strings.HasPrefix(n.def.ID, ref) {
			found = append(found, n)
		}
	}
	switch len(found) {
	case 0:
		return nil, errdefs.New(errdefs.NotFound, "network %s not found", ref)
	case 1:
		return found[0], nil
	}
	return nil, errdefs.Hint(errdefs.New(errdefs.Invalid, "network %s is ambiguous (%d matches found based on ID prefix)", ref, len(found)), "give more of its characters")
}

// bringUp makes what a network needs on the host, if it is not there. s.mu is
// held.
func (s *Service) bringUp(n *network) error {
	if n.up != nil {
		return nil
	}
	if err := s.provide(n); err != nil {
		return err
	}
	if n.def.Driver == definition.Bridge {
		if err := s.claim(); err != nil {
			return err
		}
	}
	for attempt := 0; ; attempt++ {
		rec, err := s.plan(n)
		if err != nil {
			return err
		}
		n.up = &up{rec: rec}
		err = s.store.PutNetwork(rec)
		if err == nil {
			err = s.make(n)
		}
		if err == nil {
			return nil
		}
		mine := n.def.BridgeName() != ""
		if errors.Is(err, os.ErrExist) && attempt < 8 && !mine {
			// Another engine was faster. What it made is not ours to take away.
			n.up = nil
			continue
		}
		if errors.Is(err, os.ErrExist) {
			n.up = nil
			return errors.Join(errdefs.With(errdefs.Conflict, err), s.store.DeleteNetwork(rec), s.unclaim())
		}
		return errors.Join(err, s.tearDown(n))
	}
}

// make makes a network that is recorded, its rules first: no packet passes
// without them.
func (s *Service) make(n *network) error {
	if n.def.Driver == definition.Bridge {
		if err := s.edit(rules.Wanted{Networks: n.wanted()}, rules.Wanted{}); err != nil {
			return err
		}
	}
	index, err := bridge.SetUp(s.host.Links, n.up.rec.Network)
	if err != nil {
		return errors.Join(err, s.edit(rules.Wanted{}, rules.Wanted{Networks: n.wanted()}))
	}
	n.up.index = index
	if n.def.Driver != definition.Bridge {
		return nil
	}
	// For people, and for other engines.
	if err := s.host.Links.Do(rtnl.SetAlias(index, s.host.Alias(s.table))); err != nil {
		return err
	}
	if err := host.SetForwarding(4, true); err != nil {
		return err
	}
	if n.def.IPv6 && !n.def.Internal {
		return host.StartForwarding6()
	}
	return nil
}

// tearDown removes what there is of a network. s.mu is held.
func (s *Service) tearDown(n *network) error {
	rec, want := n.up.rec, rules.Wanted{Networks: n.wanted()}
	if err := bridge.TearDown(s.host.Links, rec.Network); err != nil {
		return err
	}
	n.up = nil // even where not all could be taken away: it is not up
	var err error
	if n.def.Driver == definition.Bridge {
		err = errors.Join(s.unclaim(), s.edit(rules.Wanted{}, want))
	}
	if err != nil {
		return err
	}
	return s.store.DeleteNetwork(rec)
}

// plan says what a network is made of on the host.
func (s *Service) plan(n *network) (record.Network, error) {
	b := bridge.Network{Owner: s.host.Owner, MTU: n.def.MTU(), Isolated: n.def.Apart()}
	if b.MTU == 0 {
		b.MTU = s.host.MTU()
	}
	if n.def.Driver != definition.Bridge {
		b.Shared = &bridge.Shared{Parent: n.def.Parent(), Kind: n.def.Driver, Mode: n.def.Mode()}
		return record.Network{ID: n.def.ID, Network: b}, nil
	}
	for _, p := range n.pools {
		if p.Gateway().IsValid() {
			b.Addresses = append(b.Addresses, netip.PrefixFrom(p.Gateway(), p.Subnet().Bits()))
		}
	}
	var err error
	switch {
	case n.def.BridgeName() != "":
		b.Bridge = n.def.BridgeName()
	case n.def.Name == Default:
		b.Bridge, err = s.host.FreeName()
	default:
		b.Bridge = rules.Prefix + "-" + n.def.ID[:10]
	}
	return record.Network{ID: n.def.ID, Network: b}, err
}

// provide gives a network its subnets and pools, if it has none. Those of the
// default network are chosen when it is needed, and again when the host has come
// to use them elsewhere.
func (s *Service) provide(n *network) error {
	if n.def.Name == Default && n.def.Driver == definition.Bridge {
		inUse, err := s.host.InUse()
		if err != nil {
			return err
		}
		for _, sub := range n.def.Subnets {
			if _, taken := host.Overlapping(sub.Subnet, inUse); taken {
				n.def.Subnets = nil
				break
			}
		}
		if len(n.def.Subnets) == 0 {
			n.pools = nil
			if err := s.choose(&n.def, s.o.Ranges, inUse); err != nil {
				return err
			}
			if err := s.store.PutDefinition(n.def); err != nil {
				return err
			}
		}
	}
	if len(n.pools) > 0 || len(n.def.Subnets) == 0 {
		return nil
	}
	pools, err := poolsOf(&n.def)
	n.pools = pools
	return err
}

// choose fills in the subnets that a definition leaves open.
func (s *Service) choose(d *definition.Network, ranges []ipam.Range, inUse []host.Use) error {
	var taken []netip.Prefix
	for _, u := range inUse {
		taken = append(taken, u.Prefix)
	}
	for _, n := range s.nets {
		for _, sub := range n.def.Subnets {
			if n.def.ID != d.ID {
				taken = append(taken, sub.Subnet)
			}
		}
	}
	has := func(six bool) bool {
		return slices.ContainsFunc(d.Subnets, func(s definition.Subnet) bool { return s.Subnet.Addr().Is6() == six })
	}
	if d.IPv4 && !has(false) {
		subnet, err := ipam.Choose(ranges, taken)
		if err != nil {
			return err
		}
		d.Subnets = append(d.Subnets, definition.Subnet{Subnet: subnet})
	}
	if d.IPv6 && !has(true) {
		d.Subnets = append(d.Subnets, definition.Subnet{Subnet: ipam.ChooseULA(s.o.Owner, d.Name, taken)})
	}
	return nil
}

// poolsOf makes the pools of a definition, and fills in its gateways.
func poolsOf(d *definition.Network) ([]*ipam.Pool, error) {
	var pools []*ipam.Pool
	for i, sub := range d.Subnets {
		pool, err := ipam.NewPool(ipam.Config{
			Subnet: sub.Subnet, Range: sub.Range, Gateway: sub.Gateway, Reserved: slices.Collect(maps.Values(sub.Aux)),
			NoGateway: d.Driver == definition.IPvlan && d.Mode() != "l2" || d.Driver != definition.Bridge && d.Internal,
		})
		if err != nil {
			return nil, err
		}
		d.Subnets[i].Gateway = pool.Gateway()
		pools = append(pools, pool)
	}
	return pools, nil
}

// wanted is what a network wants of the rules.
func (n *network) wanted() []rules.Network {
	if n.up == nil || n.def.Driver != definition.Bridge {
		return nil
	}
	w := rules.Network{Bridge: n.up.rec.Bridge, Internal: n.def.Internal, Apart: n.def.Apart(), Unmasked: n.def.Unmasked()}
	for _, sub := range n.def.Subnets {
		w.Subnets = append(w.Subnets, sub.Subnet)
	}
	return []rules.Network{w}
}

// endpoints is what a port wants of them.
func (p *port) endpoints() []rules.Endpoint {
	if p.net.def.Driver != definition.Bridge {
		return nil
	}
	e := rules.Endpoint{Link: p.rec.Link, MAC: p.rec.MAC}
	for _, a := range p.rec.Addresses {
		e.Addresses = append(e.Addresses, a.Addr())
	}
	return []rules.Endpoint{e}
}

// wantedOf is what a container wants of them. s.mu is held.
func (s *Service) wantedOf(p *place) (w rules.Wanted) {
	for _, o := range p.ports {
		w.Endpoints = append(w.Endpoints, o.endpoints()...)
	}
	for _, pub := range p.rec.Published {
		if pub.To.IsValid() {
			w.Ports = append(w.Ports, rules.Port{Protocol: pub.Protocol, Host: pub.Host, To: pub.To})
		}
	}
	return w
}

// wanted is all that the rules should say. s.mu is held.
func (s *Service) wanted() rules.Wanted {
	w := rules.Wanted{Guard4: s.table.Guard4, Guard6: s.table.Guard6}
	for _, n := range s.nets {
		w.Networks = append(w.Networks, n.wanted()...)
	}
	for _, p := range s.places {
		of := s.wantedOf(p)
		w.Endpoints = append(w.Endpoints, of.Endpoints...)
		w.Ports = append(w.Ports, of.Ports...)
	}
	return w
}

// edit adds to the rules and takes away from them. Where that does not go through,
// somebody else has changed them: then all of what is wanted is put in their
// place, with what is to be added. s.mu is held.
func (s *Service) edit(add, remove rules.Wanted) error {
	if s.table.Name == "" {
		return nil // no network with rules is up
	}
	plus, minus := rules.Elements(s.table.Name, add), rules.Elements(s.table.Name, remove)
	err := s.host.Rules.Edit(plus, minus)
	if err == nil {
		return nil
	}
	s.log.Warn("the packet filter's rules were changed by somebody else: all are put back", "error", err)
	w := s.wanted()
	w.Endpoints = missing(w.Endpoints, add.Endpoints, remove.Endpoints, func(e rules.Endpoint) string { return e.Link })
	w.Ports = missing(w.Ports, add.Ports, remove.Ports, func(p rules.Port) string { return fmt.Sprint(p.Protocol, p.Host) })
	w.Networks = missing(w.Networks, add.Networks, remove.Networks, func(n rules.Network) string { return n.Bridge })
	return s.putBack(w)
}

// putBack puts all of the rules in place of what there is. Where somebody else has
// a table of that name by now, it takes another one. s.mu is held.
func (s *Service) putBack(w rules.Wanted) error {
	there, err := s.host.Rules.Tables()
	if err != nil {
		return err
	}
	for _, t := range there {
		if t.Name == s.table.Name && t.Comment != s.host.Comment {
			if err := s.claimName(w); err != nil {
				return err
			}
			return s.store.PutTable(s.table)
		}
	}
	return s.host.Rules.Replace(rules.Tables(s.table.Name, s.host.Comment, w)...)
}

// missing returns have with what is in add and without what is in remove, each
// once.
func missing[T any](have, add, remove []T, key func(T) string) []T {
	seen := map[string]bool{}
	var out []T
	for _, v := range add {
		seen[key(v)] = true
		out = append(out, v)
	}
	for _, v := range remove {
		seen[key(v)] = true
	}
	for _, v := range have {
		if !seen[key(v)] {
			seen[key(v)] = true
			out = append(out, v)
		}
	}
	return out
}

// claim takes a table of rules for this engine, if it has none. s.mu is held.
func (s *Service) claim() error {
	if s.table.Name != "" {
		return nil
	}
	t := host.Table{}
	var err error
	if t.Guard4, t.Guard6, err = s.host.Guards(); err != nil {
		return err
	}
	s.table = t
	if err := s.claimName(rules.Wanted{Guard4: t.Guard4, Guard6: t.Guard6}); err != nil {
		s.table = host.Table{}
		return err
	}
	// Should the engine be killed before this, forwarding is as it was, and the
	// table tells by its comment whose it is.
	return s.store.PutTable(s.table)
}

// claimName makes the table of rules, under the first name that is free. Other
// engines look at the host for the same names.
func (s *Service) claimName(w rules.Wanted) error {
	for i := 0; ; i++ {
		name := rules.Prefix
		if i > 0 {
			name += strconv.Itoa(i)
		}
		err := s.host.Rules.Claim(rules.Tables(name, s.host.Comment, w)...)
		if errors.Is(err, syscall.EEXIST) && i < 1000 {
			continue
		}
		if err == nil {
			s.table.Name = name
		}
		return err
	}
}

// unclaim gives the table back, and the host what it was, after the last bridge.
// s.mu is held.
func (s *Service) unclaim() error {
	for _, n := range s.nets {
		if n.up != nil && n.def.Driver == definition.Bridge {
			return nil
		}
	}
	if s.table.Name == "" {
		return nil
	}
	if err := s.host.StopForwarding(s.table); err != nil {
		return err
	}
	if err := s.host.Rules.Delete(rules.Tables(s.table.Name, "", rules.Wanted{})...); err != nil {
		return err
	}
	s.table = host.Table{}
	return s.store.PutTable(s.table)
}
