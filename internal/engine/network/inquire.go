package network

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	apinet "github.com/moby/moby/api/types/network"

	"lade/api"
	"lade/internal/errdefs"
	"lade/internal/linux/nft"
	"lade/internal/network/rules"
)

// Verify compares what should be in the packet filter with what is: it returns a
// line for each difference, and the tables as they should be.
func (s *Service) Verify(context.Context) (api.NetworkVerify, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := api.NetworkVerify{Differences: []string{}, Owned: s.host.Rules.Owns()}
	if s.table.Name == "" {
		return out, nil
	}
	for _, t := range rules.Tables(s.table.Name, s.host.Comment, s.wanted()) {
		d, err := s.host.Rules.Diff(t)
		if err != nil {
			return out, fmt.Errorf("compare rules with the kernel's: %w", err)
		}
		for _, line := range d {
			out.Differences = append(out.Differences, fmt.Sprintf("%s (table %s %s)", line, t.Family, t.Name))
		}
		out.Wanted += t.Text()
	}
	return out, nil
}

// Explain says of each address that a port of the host is published on who can
// reach it, and by which rule. protocol may be empty: any.
func (s *Service) Explain(_ context.Context, port, protocol string) ([]api.PortReach, error) {
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 {
		return nil, errdefs.New(errdefs.Invalid, "invalid port %q: want a number from 1 to 65535", port)
	}
	if _, ok := protocols(apinet.IPProtocol(protocol)); !ok && protocol != "" {
		return nil, errdefs.New(errdefs.Invalid, "invalid protocol %q: want tcp, udp or sctp", protocol)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	barriers, err := s.host.Rules.Barriers(nft.Forward)
	if err != nil {
		return nil, fmt.Errorf("explain port %s: %w", port, err)
	}
	w := s.wanted()
	var out []api.PortReach
	for _, p := range s.places {
		for _, pub := range p.rec.Published {
			name := string(protocolName(pub.Protocol))
			if pub.Host.Port() != uint16(number) || protocol != "" && protocol != name || !pub.To.IsValid() {
				continue
			}
			r := api.PortReach{Protocol: name, Host: pub.Host.String(), Container: s.nameOf(p.rec.Container), To: pub.To.String(), Barriers: []api.PortBarrier{}}
			if in := p.wayIn(pub.Host.Addr().Is6()); in != nil {
				r.Network = in.net.def.Name
			}
			for _, x := range rules.ReachOf(w, rules.Port{Protocol: pub.Protocol, Host: pub.Host, To: pub.To}) {
				r.From = append(r.From, api.PortFrom{From: string(x.From), Reached: x.Reached, By: x.By})
			}
			for _, b := range barriers {
				if b.Family == "ip6" && pub.Host.Addr().Is4() || b.Family == "ip" && pub.Host.Addr().Is6() {
					continue
				}
				r.Barriers = append(r.Barriers, api.PortBarrier{Table: b.Family + " " + b.Table, Chain: b.Chain, Why: b.Why})
			}
			out = append(out, r)
		}
	}
	if len(out) == 0 {
		err := errdefs.New(errdefs.NotFound, "explain port %s: no running container publishes it", port)
		return nil, errdefs.Hint(err, "lade ps shows what is published")
	}
	slices.SortFunc(out, func(a, b api.PortReach) int { return strings.Compare(a.Protocol+a.Host, b.Protocol+b.Host) })
	return out, nil
}
