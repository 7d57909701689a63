package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	api "github.com/moby/moby/api/types/network"

	"lade/internal/ident"
	"lade/internal/network/rules"
)

// stand is a host, another one on the LAN, and containers in networks of each kind.
type stand struct {
	t       *testing.T
	s       *Service
	outside int
	kinds   []*kind
	ids     []string // of all containers
}

// kind is a network with two containers: one that publishes ports, and another.
type kind struct {
	name          string
	server, other int // processes
	id            string
	addrs         []netip.Addr
	at            uint16 // the port of the host; the next is on loopback, the one after that on one address
	got           *receiver
}

// receiver takes packets by UDP, and tells who sent each.
type receiver struct{ conns []*net.UDPConn }

func (r *receiver) from(token string) (who netip.Addr, ok bool) {
	for range 4 {
		for _, c := range r.conns {
			_ = c.SetReadDeadline(time.Now().Add(4 * time.Millisecond))
			for {
				b := make([]byte, 100)
				n, addr, err := c.ReadFromUDPAddrPort(b)
				if err != nil {
					break
				}
				if string(b[:n]) == token {
					return addr.Addr().Unmap(), true
				}
			}
		}
	}
	return who, false
}

// newStand makes a network for each kind, all with IPv4 and IPv6.
func newStand(t *testing.T, s *Service) *stand {
	t.Helper()
	for _, name := range []string{"iptables", "ip6tables"} {
		// Where br_netfilter is loaded, frames are treated as packets on their way
		// over a bridge, too. It is not, unless somebody wants it.
		err := os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-"+name, []byte("0"), 0)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	st := &stand{t: t, s: s, outside: process(t, false)}
	lan(t, st.outside)
	for i, k := range []struct {
		name string
		r    api.CreateRequest
	}{
		{Default, api.CreateRequest{}},
		{"plain", api.CreateRequest{}},
		{"internal", api.CreateRequest{Internal: true}},
		{"apart", api.CreateRequest{Options: map[string]string{"com.docker.network.bridge.enable_icc": "false"}}},
		{"unmasked", api.CreateRequest{Options: map[string]string{"com.docker.network.bridge.enable_ip_masquerade": "false"}}},
	} {
		if k.name != Default {
			k.r.Name = k.name
			if _, err := s.Create(t.Context(), k.r); err != nil {
				t.Fatal(err)
			}
		}
		st.add(k.name, uint16(8000+10*i))
	}
	return st
}

func (st *stand) add(name string, at uint16) {
	t := st.t
	t.Helper()
	k := &kind{name: name, server: process(t, true), other: process(t, true), id: ident.New(), at: at, got: &receiver{}}
	binding := func(addr string, port uint16) api.PortBinding {
		b := api.PortBinding{HostPort: fmt.Sprint(port)}
		if addr != "" {
			b.HostIP = netip.MustParseAddr(addr)
		}
		return b
	}
	j := Join{
		ID: k.id, Name: name + "-server", Networks: map[string]*api.EndpointSettings{name: nil},
		Ports: api.PortMap{api.MustParsePort("7/udp"): {
			binding("", at), binding("127.0.0.1", at+1), binding("192.0.2.1", at+2), binding("2001:db8::1", at+2),
		}},
	}
	p, err := st.s.Attach(t.Context(), j, k.server)
	if err != nil {
		t.Fatal(err)
	}
	k.addrs = []netip.Addr{p.Networks[name].IPAddress, p.Networks[name].GlobalIPv6Address}
	st.ids = append(st.ids, k.id, ident.New())
	if _, err := st.s.Attach(t.Context(), Join{ID: st.ids[len(st.ids)-1], Name: name + "-other", Networks: map[string]*api.EndpointSettings{name: nil}}, k.other); err != nil {
		t.Fatal(err)
	}
	inside(t, k.server, func() error {
		four, err4 := net.ListenUDP("udp4", &net.UDPAddr{Port: 7})
		six, err6 := net.ListenUDP("udp6", &net.UDPAddr{Port: 7})
		k.got.conns = []*net.UDPConn{four, six}
		return errors.Join(err4, err6)
	})
	t.Cleanup(func() {
		for _, c := range k.got.conns {
			_ = c.Close()
		}
	})
	st.kinds = append(st.kinds, k)
}

// target is where somebody sends to, to get to a kind's server.
type target struct {
	form string
	addr netip.AddrPort
}

func (k *kind) targets() []target {
	host4, host6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	return []target{
		{"its own address, IPv4", netip.AddrPortFrom(k.addrs[0], 7)},
		{"its own address, IPv6", netip.AddrPortFrom(k.addrs[1], 7)},
		{"published on all, IPv4", netip.AddrPortFrom(host4, k.at)},
		{"published on all, IPv6", netip.AddrPortFrom(host6, k.at)},
		{"published on all, by 127.0.0.1", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), k.at)},
		{"published on all, by ::1", netip.AddrPortFrom(netip.IPv6Loopback(), k.at)},
		{"published on 127.0.0.1", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), k.at+1)},
		{"published on 127.0.0.1, by the host's address", netip.AddrPortFrom(host4, k.at+1)},
		{"published on one address, IPv4", netip.AddrPortFrom(host4, k.at+2)},
		{"published on one address, IPv6", netip.AddrPortFrom(host6, k.at+2)},
		{"published on one address, by 127.0.0.1", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), k.at+2)},
	}
}

// try sends a packet from a process's network namespace, or the host's, and says
// what arrives: nothing, or from whom.
func (st *stand) try(from int, k *kind, to netip.AddrPort) string {
	token := ident.New()
	var sender netip.Addr
	send := func() error {
		c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
		if err != nil {
			return nil // no way there
		}
		defer c.Close()
		sender = c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
		_, _ = c.Write([]byte(token))
		return nil
	}
	if from == 0 {
		_ = send()
	} else {
		inside(st.t, from, send)
	}
	who, ok := k.got.from(token)
	switch {
	case !ok:
		return "-"
	case who == sender:
		return "yes"
	}
	return "masked"
}

// TestMatrix sends packets from everywhere to everywhere, and compares what arrives
// with a table. - is nothing, yes is with the sender's address, masked with another.
func TestMatrix(t *testing.T) {
	s, closed := open(t, t.TempDir(), nil)
	defer closed()
	st := newStand(t, s)
	var b strings.Builder
	for _, k := range st.kinds {
		plain := st.kinds[1]
		if k == plain {
			plain = st.kinds[0]
		}
		origins := []struct {
			name string
			pid  int
		}{{"host", 0}, {"LAN", st.outside}, {"same network", k.other}, {"itself", k.server}, {"another network", plain.other}, {"internal network", st.kinds[2].other}}
		if k.name == "internal" {
			origins = origins[:5]
		}
		fmt.Fprintf(&b, "%s\n", k.name)
		for _, to := range k.targets() {
			fmt.Fprintf(&b, "  %-46s", to.form)
			for _, o := range origins {
				fmt.Fprintf(&b, " %s: %s;", o.name, st.try(o.pid, k, to.addr))
			}
			b.WriteByte('\n')
		}
	}
	file := filepath.Join("testdata", "matrix.txt")
	want, err := os.ReadFile(file)
	if os.Getenv("LADE_TEST_UPDATE") != "" {
		err = os.WriteFile(file, []byte(b.String()), 0o644)
		want = []byte(b.String())
	}
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Error(diff)
	}
	st.explained()
	for _, id := range st.ids {
		if err := s.Detach(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
}

// explained compares what is said of published ports with what happens.
func (st *stand) explained() {
	t := st.t
	t.Helper()
	for _, k := range st.kinds {
		other := st.kinds[1]
		if k == other {
			other = st.kinds[0]
		}
		for _, port := range []uint16{k.at, k.at + 1, k.at + 2} {
			list, err := st.s.Explain(t.Context(), fmt.Sprint(port), "udp")
			if err != nil {
				if k.name != "internal" { // there nothing is published
					t.Error(err)
				}
				continue
			}
			for _, r := range list {
				at := netip.MustParseAddrPort(r.Host)
				host, loop := at.Addr(), netip.MustParseAddr("127.0.0.1")
				if at.Addr().Is6() {
					loop = netip.IPv6Loopback()
				}
				if at.Addr().IsUnspecified() || at.Addr().IsLoopback() {
					host = map[bool]netip.Addr{true: netip.MustParseAddr("2001:db8::1"), false: netip.MustParseAddr("192.0.2.1")}[at.Addr().Is6()]
				}
				from := map[string]string{
					string(rules.FromLoopback): st.try(0, k, netip.AddrPortFrom(loop, port)), string(rules.FromHost): st.try(0, k, netip.AddrPortFrom(host, port)),
					string(rules.FromLAN): st.try(st.outside, k, netip.AddrPortFrom(host, port)), string(rules.FromOthers): st.try(other.other, k, netip.AddrPortFrom(host, port)),
					string(rules.FromSame): st.try(k.other, k, netip.AddrPortFrom(host, port)),
				}
				for _, f := range r.From {
					if got := from[f.From]; f.Reached != (got != "-") {
						t.Errorf("%s: %s: from %s: said %v (%s), got %s", k.name, r.Host, f.From, f.Reached, f.By, got)
					}
				}
			}
		}
	}
}
