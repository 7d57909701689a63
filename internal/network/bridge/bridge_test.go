package bridge

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"lade/internal/linux/netns"
	"lade/internal/linux/nft"
	"lade/internal/linux/rtnl"
	"lade/internal/network/rules"
	"lade/test/kerneltest"
)

func TestMain(m *testing.M) { kerneltest.Main(m, kerneltest.Options{Net: true}) }

var testNet = Network{
	Bridge: "lade0", Addresses: []netip.Prefix{netip.MustParsePrefix("10.76.0.1/22")}, MTU: 1400, Owner: 42,
}

// newNS makes a network namespace that lasts until the test ends.
func newNS(tb testing.TB) *os.File {
	tb.Helper()
	type result struct {
		f   *os.File
		err error
	}
	c := make(chan result)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with this goroutine
		if err := syscall.Unshare(syscall.CLONE_NEWNET); err != nil {
			c <- result{nil, err}
			return
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		c <- result{f, err}
	}()
	r := <-c
	if r.err != nil {
		tb.Fatal(r.err)
	}
	tb.Cleanup(func() { _ = r.f.Close() })
	// As the runtime does.
	err := netns.Do(r.f, func() error {
		c, err := rtnl.Dial()
		if err != nil {
			return err
		}
		defer c.Close()
		return c.Do(rtnl.SetUp(1))
	})
	if err != nil {
		tb.Fatal(err)
	}
	return r.f
}

func dial(tb testing.TB) *rtnl.Conn {
	tb.Helper()
	kerneltest.Root(tb)
	c, err := rtnl.Dial()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

// setUp makes the test network, with its rules, for the rest of the test.
func setUp(tb testing.TB, c *rtnl.Conn, guard bool) (index int) {
	tb.Helper()
	index, err := SetUp(c, testNet)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := TearDown(c, testNet); err != nil {
			tb.Error(err)
		}
	})
	n, err := nft.Dial()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := n.Delete(rules.Tables("lade", "", rules.Wanted{})...); err != nil {
			tb.Error(err)
		}
		_ = n.Close()
	})
	w := rules.Wanted{Networks: []rules.Network{{Bridge: "lade0", Subnets: []netip.Prefix{netip.MustParsePrefix("10.76.0.0/22")}}}, Guard4: guard}
	if err := n.Replace(rules.Tables("lade", "", w)...); err != nil {
		tb.Fatal(err)
	}
	if err := SetSysctl("ipv4/ip_forward", "1"); err != nil {
		tb.Fatal(err)
	}
	return index
}

// portAt is a port of the test network.
func portAt(link, addr string) Port {
	a := netip.MustParseAddr(addr)
	return Port{
		Link: link, Interface: "eth0", MAC: MAC(a), Addresses: []netip.Prefix{netip.PrefixFrom(a, 22)},
		Gateways: []netip.Addr{netip.MustParseAddr("10.76.0.1")},
	}
}

// connect puts a new namespace on the test network.
func connect(tb testing.TB, c *rtnl.Conn, index int, link, addr string) *os.File {
	tb.Helper()
	ns := newNS(tb)
	p := portAt(link, addr)
	if err := Connect(c, testNet, index, p, ns); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := Disconnect(c, testNet.Owner, p); err != nil {
			tb.Error(err)
		}
	})
	return ns
}

// outside makes a namespace beyond the host, by a veth pair: the host has
// .1 of the /24, the namespace .2 and no route back to any container.
func outside(tb testing.TB, c *rtnl.Conn, link, subnet string) *os.File {
	tb.Helper()
	ns := newNS(tb)
	p := netip.MustParsePrefix(subnet)
	host := p.Masked().Addr().Next()
	mac, _ := net.ParseMAC("02:00:00:00:00:99")
	if err := c.Do(rtnl.AddVeth(rtnl.Veth{Name: link, Peer: "up0", MAC: mac, NS: ns})); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Do(rtnl.DelLink(link)) })
	l, err := c.LinkByName(link)
	if err == nil {
		err = c.Do(rtnl.AddAddr(l.Index, netip.PrefixFrom(host, p.Bits())))
	}
	if err == nil {
		err = netns.Do(ns, func() error {
			c, err := rtnl.Dial()
			if err != nil {
				return err
			}
			defer c.Close()
			l, err := c.LinkByName("up0")
			if err != nil {
				return err
			}
			return c.Do(rtnl.AddAddr(l.Index, netip.PrefixFrom(host.Next(), p.Bits())), rtnl.SetUp(l.Index))
		})
	}
	if err != nil {
		tb.Fatal(err)
	}
	return ns
}

// listen answers every connection in ns with the address that it came from.
func listen(tb testing.TB, ns *os.File) {
	tb.Helper()
	var l net.Listener
	err := netns.Do(ns, func() (err error) {
		l, err = net.Listen("tcp4", ":80")
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			from, _, _ := net.SplitHostPort(c.RemoteAddr().String())
			_, _ = io.WriteString(c, from)
			_ = c.Close()
		}
	}()
	tb.Cleanup(func() { _ = l.Close(); <-done })
}

// ask connects from ns and returns which address the server saw.
func ask(ns *os.File, addr string, wait time.Duration) (string, error) {
	var got []byte
	err := netns.Do(ns, func() error {
		c, err := net.DialTimeout("tcp4", addr+":80", wait)
		if err != nil {
			return err
		}
		defer c.Close()
		got, err = io.ReadAll(c)
		return err
	})
	return string(got), err
}

const (
	enough  = 5 * time.Second
	nothing = 300 * time.Millisecond // after which no answer will come
)

func TestTraffic(t *testing.T) {
	c := dial(t)
	index := setUp(t, c, true)
	a := connect(t, c, index, "lade00000001", "10.76.0.2")
	b := connect(t, c, index, "lade00000002", "10.76.0.3")
	out := outside(t, c, "out0", "198.51.100.0/24")
	other := outside(t, c, "out1", "203.0.113.0/24")
	for _, ns := range []*os.File{a, b, out, other} {
		listen(t, ns)
	}
	// The world outside knows the way to the containers, and to each other.
	for _, ns := range []*os.File{out, other} {
		err := netns.Do(ns, func() error {
			c, err := rtnl.Dial()
			if err != nil {
				return err
			}
			defer c.Close()
			l, err := c.LinkByName("up0")
			if err != nil {
				return err
			}
			gw := "198.51.100.1"
			if ns == other {
				gw = "203.0.113.1"
			}
			return c.Do(rtnl.SetDefaultRoute(l.Index, netip.MustParseAddr(gw), false))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name string
		from *os.File
		to   string
		want string // the address that the server sees; "" for no answer
	}{
		{"container to container", a, "10.76.0.3", "10.76.0.2"},
		{"container to itself", a, "10.76.0.2", "10.76.0.2"},
		{"container to outside, masqueraded", a, "198.51.100.2", "198.51.100.1"},
		{"container to another outside", b, "203.0.113.2", "203.0.113.1"},
		{"outside to container", out, "10.76.0.2", ""},
		{"outside to outside: the host did not forward before", out, "203.0.113.2", ""},
	}
	for _, tt := range tests {
		wait := enough
		if tt.want == "" {
			wait = nothing
		}
		if got, err := ask(tt.from, tt.to, wait); got != tt.want {
			t.Errorf("%s: %q %v, want %q", tt.name, got, err, tt.want)
		}
	}
	for _, ns := range []*os.File{a, b} {
		err := netns.Do(ns, func() error {
			links, err := net.Interfaces()
			for _, l := range links {
				addrs, _ := l.Addrs()
				if l.Name == "eth0" && (len(addrs) != 1 || l.MTU != 1400) {
					t.Errorf("%s has %v, mtu %d; want one IPv4 address, mtu 1400", l.Name, addrs, l.MTU)
				}
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// TestPing sends an echo request as people do.
func TestPing(t *testing.T) {
	ping, err := exec.LookPath("ping")
	if err != nil {
		t.Skip("ping is not installed")
	}
	c := dial(t)
	index := setUp(t, c, false)
	a := connect(t, c, index, "lade00000001", "10.76.0.2")
	connect(t, c, index, "lade00000002", "10.76.0.3")
	err = netns.Do(a, func() error {
		out, err := kerneltest.Command(t, ping, "-c1", "-W5", "10.76.0.3").CombinedOutput()
		if err != nil {
			t.Logf("%s", out)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestWithoutGuard: where the host forwards anyway, it goes on doing so.
func TestWithoutGuard(t *testing.T) {
	c := dial(t)
	setUp(t, c, false)
	out := outside(t, c, "out0", "198.51.100.0/24")
	other := outside(t, c, "out1", "203.0.113.0/24")
	listen(t, other)
	for ns, gw := range map[*os.File]string{out: "198.51.100.1", other: "203.0.113.1"} {
		_ = netns.Do(ns, func() error {
			c, err := rtnl.Dial()
			if err != nil {
				return err
			}
			defer c.Close()
			l, _ := c.LinkByName("up0")
			return c.Do(rtnl.SetDefaultRoute(l.Index, netip.MustParseAddr(gw), false))
		})
	}
	if got, err := ask(out, "203.0.113.2", enough); got != "198.51.100.2" {
		t.Errorf("%q %v", got, err)
	}
}

// TestAgain runs each step on what an earlier, interrupted one may have left.
func TestAgain(t *testing.T) {
	c := dial(t)
	index := setUp(t, c, false)
	again, err := SetUp(c, testNet)
	if err != nil || again != index {
		t.Errorf("set up again: %d %v, want %d", again, err, index)
	}
	// A bridge that was made, and no more.
	half := testNet
	half.Bridge, half.Addresses = "lade9", []netip.Prefix{netip.MustParsePrefix("10.99.0.1/22")}
	if err := c.Do(rtnl.AddBridge(rtnl.Bridge{Name: half.Bridge, Group: half.Owner})); err != nil {
		t.Fatal(err)
	}
	if _, err := SetUp(c, half); err != nil {
		t.Error(err)
	}
	if l, err := c.LinkByName(half.Bridge); err != nil || !l.Up {
		t.Errorf("%+v %v", l, err)
	}
	for range 2 {
		if err := TearDown(c, half); err != nil {
			t.Error(err)
		}
	}
	ns := newNS(t)
	p := portAt("lade00000003", "10.76.0.4")
	if err := Connect(c, testNet, index, p, ns); err != nil {
		t.Fatal(err)
	}
	if err := Connect(c, testNet, index, p, ns); !errors.Is(err, syscall.EEXIST) {
		t.Errorf("connect again: %v, want EEXIST", err)
	}
	for range 2 {
		if err := Disconnect(c, testNet.Owner, p); err != nil {
			t.Error(err)
		}
	}
	// Where there is an eth0 already, nothing stays behind.
	ns = connect(t, c, index, "lade00000004", "10.76.0.5")
	if err := Connect(c, testNet, index, p, ns); err == nil {
		t.Error("connect a namespace twice: want an error")
	}
	if l, err := c.LinkByName(p.Link); err == nil {
		t.Errorf("left behind: %+v", l)
	}
	// A link of that name that is no bridge is not touched.
	alien := testNet
	alien.Bridge = "lade00000004"
	if _, err := SetUp(c, alien); !errors.Is(err, os.ErrExist) {
		t.Errorf("set up over a veth: %v", err)
	}
	// Nor is another engine's bridge.
	alien = testNet
	alien.Owner = 44
	if _, err := SetUp(c, alien); !errors.Is(err, os.ErrExist) {
		t.Errorf("set up over another's bridge: %v", err)
	}
}

func BenchmarkConnect(b *testing.B) {
	c := dial(b)
	index := setUp(b, c, false)
	p := portAt("lade00000001", "10.76.0.2")
	var connect, disconnect time.Duration
	for b.Loop() {
		ns := newNS(b)
		start := time.Now()
		if err := Connect(c, testNet, index, p, ns); err != nil {
			b.Fatal(err)
		}
		connect += time.Since(start)
		start = time.Now()
		if err := Disconnect(c, testNet.Owner, p); err != nil {
			b.Fatal(err)
		}
		disconnect += time.Since(start)
	}
	b.ReportMetric(float64(connect.Microseconds())/float64(b.N), "µs/connect")
	b.ReportMetric(float64(disconnect.Microseconds())/float64(b.N), "µs/disconnect")
}
