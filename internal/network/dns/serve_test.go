package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// start serves r on the loopback and returns its address.
func start(t *testing.T, r *Resolver) netip.AddrPort {
	t.Helper()
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	at := udp.LocalAddr().(*net.UDPAddr).AddrPort()
	tcp, err := net.Listen("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Serve(ctx, udp, tcp) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return at
}

// client is Go's own resolver, asking at.
func client(at netip.AddrPort, network string) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, n, _ string) (net.Conn, error) {
		if network != "" {
			n = network
		}
		return (&net.Dialer{}).DialContext(ctx, n, at.String())
	}}
}

// only is names of one host.
type only map[string][]netip.Addr

func (o only) Addresses(name string) ([]netip.Addr, bool) { a, ok := o[name]; return a, ok }
func (o only) Name(netip.Addr) (string, bool)             { return "", false }

// TestForeignClient has Go's resolver look up names of ours and of a server
// behind, over UDP and TCP.
func TestForeignClient(t *testing.T) {
	behind := start(t, &Resolver{Names: only{"far.example.org": addrs("192.0.2.1", "2001:db8::1")}})
	f := Forwarder{Servers: func() []netip.AddrPort { return []netip.AddrPort{behind} }}
	at := start(t, &Resolver{Names: twoNetworks().View(func() Scope { return Scope{Networks: []string{"front"}} }), Elsewhere: f.Exchange})
	for _, network := range []string{"udp", "tcp"} {
		c := client(at, network)
		for name, want := range map[string][]string{
			"web.": {"10.0.0.2", "fd00::2"}, "www.": {"10.0.0.2", "10.0.0.3", "fd00::2"}, "far.example.org.": {"192.0.2.1", "2001:db8::1"},
		} {
			got, err := c.LookupHost(t.Context(), name)
			slices.Sort(got)
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("%s %s: %v, %v", network, name, got, err)
			}
		}
		if got, err := c.LookupAddr(t.Context(), "10.0.0.2"); err != nil || !slices.Equal(got, []string{"web.front."}) {
			t.Errorf("%s 10.0.0.2: %v, %v", network, got, err)
		}
		var e *net.DNSError
		if _, err := c.LookupHost(t.Context(), "nowhere.example.org."); !errors.As(err, &e) || !e.IsNotFound {
			t.Errorf("%s nowhere: %v", network, err)
		}
	}
}

// TestInternal checks that nothing is asked elsewhere where nothing may leave.
func TestInternal(t *testing.T) {
	at := start(t, &Resolver{Names: only{"db": addrs("10.0.0.2")}})
	var e *net.DNSError
	if _, err := client(at, "").LookupHost(t.Context(), "example.org."); !errors.As(err, &e) || !e.IsNotFound {
		t.Errorf("outside: %v", err)
	}
}

// server is a name server that answers as fn says; nil is no answer.
func fake(t *testing.T, fn func(msg []byte) [][]byte) netip.AddrPort {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	go func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			for _, reply := range fn(buf[:n]) {
				_, _ = c.WriteToUDPAddrPort(reply, from)
			}
		}
	}()
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

// TestForward checks which server's answer counts.
func TestForward(t *testing.T) {
	good := Resolver{Names: only{"a": addrs("192.0.2.1")}}
	answer := func(msg []byte) []byte { return good.Answer(context.Background(), msg, false) }
	well := fake(t, func(msg []byte) [][]byte { return [][]byte{answer(msg)} })
	trouble := fake(t, func(msg []byte) [][]byte {
		q, _, _ := parse(msg, false)
		return [][]byte{q.refuse(dnsmessage.RCodeServerFailure)}
	})
	silent := fake(t, func([]byte) [][]byte { return nil })
	unknown := fake(t, func(msg []byte) [][]byte {
		q, _, _ := parse(msg, false)
		return [][]byte{q.refuse(dnsmessage.RCodeNameError)}
	})
	var lies atomic.Int32
	liar := fake(t, func(msg []byte) [][]byte {
		lies.Add(1)
		otherID := answer(msg)
		binary.BigEndian.PutUint16(otherID, binary.BigEndian.Uint16(msg)+1)
		otherName := answer(ask(t, "b.", dnsmessage.TypeA, 0))
		copy(otherName, msg[:2])
		return [][]byte{otherID, otherName, {1, 2, 3}, nil, answer(msg)}
	})
	closed := func() netip.AddrPort { // a port that nobody listens on
		c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		return c.LocalAddr().(*net.UDPAddr).AddrPort()
	}()
	for _, tt := range []struct {
		what    string
		servers []netip.AddrPort
		want    string // empty: an error
	}{
		{"one", []netip.AddrPort{well}, "Success 192.0.2.1"},
		{"none", nil, ""},
		{"nobody listens", []netip.AddrPort{closed}, ""},
		{"nobody listens at the first", []netip.AddrPort{closed, well}, "Success 192.0.2.1"},
		{"the first is silent", []netip.AddrPort{silent, well}, "Success 192.0.2.1"},
		{"the first has trouble", []netip.AddrPort{trouble, well}, "Success 192.0.2.1"},
		{"all have trouble", []netip.AddrPort{trouble, closed}, "ServerFailure"},
		{"the first says there is none", []netip.AddrPort{unknown, well}, "NameError"},
		{"forged answers first", []netip.AddrPort{liar}, "Success 192.0.2.1"},
	} {
		f := Forwarder{Servers: func() []netip.AddrPort { return tt.servers }, Patience: 20 * time.Millisecond}
		reply, err := f.Exchange(t.Context(), "udp", ask(t, "a.", dnsmessage.TypeA, 0))
		if (err != nil) != (tt.want == "") {
			t.Errorf("%s: %v", tt.what, err)
		}
		if err != nil {
			continue
		}
		if m := unpack(t, reply); text(m) != tt.want || m.ID != 4711 {
			t.Errorf("%s: %s, id %d; want %s", tt.what, text(m), m.ID, tt.want)
		}
	}
	if lies.Load() == 0 {
		t.Error("the forger was not asked")
	}
}

// TestForwardEnds checks that a query ends with the client's patience.
func TestForwardEnds(t *testing.T) {
	silent := fake(t, func([]byte) [][]byte { return nil })
	f := Forwarder{Servers: func() []netip.AddrPort { return []netip.AddrPort{silent} }}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Exchange(ctx, "udp", ask(t, "a.", dnsmessage.TypeA, 0)); !errors.Is(err, context.Canceled) {
		t.Errorf("exchange: %v", err)
	}
}

// TestBusy checks that a container which asks for more than is answered in time
// is told so, and gets answers for what we know meanwhile.
func TestBusy(t *testing.T) {
	began, release := make(chan struct{}), make(chan struct{})
	at := start(t, &Resolver{Names: only{"db": addrs("10.0.0.2")}, Elsewhere: func(context.Context, string, []byte) ([]byte, error) {
		began <- struct{}{}
		<-release
		return nil, errors.New("released")
	}})
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(at))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	for range inFlight {
		if _, err := c.Write(ask(t, "far.", dnsmessage.TypeA, 0)); err != nil {
			t.Fatal(err)
		}
		<-began
	}
	reply := make([]byte, 512)
	for name, want := range map[string]string{"far.": "ServerFailure", "db.": "Success 10.0.0.2"} {
		if _, err := c.Write(ask(t, name, dnsmessage.TypeA, 0)); err != nil {
			t.Fatal(err)
		}
		n, err := c.Read(reply)
		if err != nil {
			t.Fatal(err)
		}
		if got := text(unpack(t, reply[:n])); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	close(release)
}

// TestHostServers checks that a change of the file counts at once, and its
// absence not at all.
func TestHostServers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	h := HostServers{Path: path}
	check := func(what string, want ...string) {
		t.Helper()
		var got []string
		for _, s := range h.Servers() {
			got = append(got, s.String())
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	check("no file")
	write("# servers\nnameserver 192.0.2.1\nnameserver\t2001:db8::1 # six\nnameserver fe80::1%eth0\nnameserver junk\nnameserver 192.0.2.1\nsearch lan\n")
	check("first", "192.0.2.1:53", "[2001:db8::1]:53", "[fe80::1%eth0]:53")
	write("nameserver 192.0.2.9\n")
	check("changed", "192.0.2.9:53")
	write("nameserver 192.0.2.8\n")
	check("changed within the clock's grain", "192.0.2.8:53")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	check("gone", "192.0.2.8:53")
	write("search lan\n")
	check("none left")
}

func FuzzParseServers(f *testing.F) {
	f.Add("nameserver 192.0.2.1\n")
	f.Add("nameserver")
	f.Fuzz(func(t *testing.T, text string) {
		for _, s := range ParseServers(text) {
			if !s.IsValid() || s.Port() != 53 {
				t.Errorf("%q: %v", text, s)
			}
		}
	})
}
