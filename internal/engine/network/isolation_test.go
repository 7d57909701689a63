package network

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	api "github.com/moby/moby/api/types/network"

	"lade/internal/ident"
	"lade/test/kerneltest"
)

// sh runs commands, one a line; PID stands for a process whose network namespace
// is meant.
func sh(tb testing.TB, pid int, script string) {
	tb.Helper()
	cmd := exec.Command("sh", "-ec", strings.ReplaceAll(script, "PID", strconv.Itoa(pid)))
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// lan puts a process's network namespace on a wire with the host: a host on the LAN,
// which knows the way to containers and takes even the host's loopback for a place
// to send to.
func lan(tb testing.TB, pid int) {
	tb.Helper()
	sh(tb, pid, `
		ip link add lan0 type veth peer name eth0 netns PID
		ip addr add 192.0.2.1/24 dev lan0
		ip addr add 2001:db8::1/64 dev lan0 nodad
		ip link set lan0 up
		in="nsenter --net --target PID"
		$in ip link set lo up
		$in ip addr add 192.0.2.2/24 dev eth0
		$in ip addr add 2001:db8::2/64 dev eth0 nodad
		$in ip link set eth0 up
		$in ip route add 10.76.0.0/16 via 192.0.2.1
		$in ip route add fd00::/8 via 2001:db8::1
		$in ip rule del pref 0
		$in ip rule add pref 100 lookup local
		$in ip route add 127.0.0.1 via 192.0.2.1 src 192.0.2.2 table 9
		$in ip rule add pref 50 to 127.0.0.1 dport 8081 lookup 9
		$in sysctl -qw net.ipv4.conf.all.route_localnet=1`)
	tb.Cleanup(func() { sh(tb, pid, "ip link del lan0 2>&1 || true") })
}

// seconds is how long something random goes on: longer when somebody has time.
func seconds(tb testing.TB) time.Duration {
	tb.Helper()
	n, err := strconv.Atoi(os.Getenv("LADE_TEST_SECONDS"))
	if err != nil {
		n = 2
	}
	return time.Duration(n) * time.Second
}

// probe sends packets, each the number of the address that it is for, until stop
// is closed.
func probe(conns []*net.UDPConn, stop chan struct{}, sent *atomic.Int64) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		for i, c := range conns {
			if _, err := c.Write([]byte{byte(i)}); err == nil {
				sent.Add(1)
			}
		}
	}
}

// TestNoWindow has a host on the LAN that knows the way send packets all the time to
// where it must not get: a container's own address, and a port that is published on
// loopback. Meanwhile somebody flushes and reloads rules and takes links away. Not
// one packet may arrive.
func TestNoWindow(t *testing.T) {
	s, closed := open(t, t.TempDir(), nil)
	defer closed()
	port := api.MustParsePort("7/udp")
	j := Join{
		ID: ident.New(), Name: "c", Networks: map[string]*api.EndpointSettings{Default: nil},
		Ports: api.PortMap{port: {{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: "8081"}, {HostIP: netip.MustParseAddr("192.0.2.1"), HostPort: "8082"}, {HostIP: netip.MustParseAddr("2001:db8::1"), HostPort: "8082"}}},
	}
	outside := process(t, false)
	lan(t, outside)
	pid := process(t, true)
	p, err := s.Attach(t.Context(), j, pid)
	if err != nil {
		t.Fatal(err)
	}
	if !s.host.Rules.Owns() {
		kerneltest.Feature(t, "tables that outlive their owner", 6, 9, fmt.Errorf("refused"))
	}
	e := p.Networks[Default]
	var server, server6 *net.UDPConn
	inside(t, pid, func() error {
		var err, err6 error
		server, err = net.ListenUDP("udp4", &net.UDPAddr{Port: 7})
		server6, err6 = net.ListenUDP("udp6", &net.UDPAddr{Port: 7})
		return errors.Join(err, err6)
	})
	defer server.Close()
	defer server6.Close()
	targets := []netip.AddrPort{
		netip.MustParseAddrPort("192.0.2.1:8082"), netip.MustParseAddrPort("[2001:db8::1]:8082"), // these two may be reached
		netip.AddrPortFrom(e.IPAddress, 7), netip.AddrPortFrom(e.GlobalIPv6Address, 7), netip.MustParseAddrPort("127.0.0.1:8081"),
	}
	var conns []*net.UDPConn
	inside(t, outside, func() error {
		for _, to := range targets {
			c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
			if err != nil {
				return fmt.Errorf("%s: %w", to, err)
			}
			conns = append(conns, c)
		}
		return nil
	})
	var got [5]atomic.Int64
	for _, c := range []*net.UDPConn{server, server6} {
		go func() {
			b := make([]byte, 1)
			for {
				n, err := c.Read(b)
				if err != nil {
					return
				}
				if n == 1 {
					got[b[0]].Add(1)
				}
			}
		}()
	}
	stop, done := make(chan struct{}), make(chan struct{})
	var sent atomic.Int64
	go func() { defer close(done); probe(conns, stop, &sent) }()
	kerneltest.Eventually(t, "the published ports are reached", func() bool { return got[0].Load() > 0 && got[1].Load() > 0 })
	acts := disturb(t, s, seconds(t))
	before, before6 := got[0].Load(), got[1].Load()
	kerneltest.Eventually(t, "the published ports are reached again", func() bool { return got[0].Load() > before && got[1].Load() > before6 })
	close(stop)
	<-done
	for _, c := range conns {
		_ = c.Close()
	}
	t.Logf("%d packets sent, %d disturbances; arrived by the published ports %d and %d, at the container's addresses %d and %d, by loopback %d",
		sent.Load(), acts, got[0].Load(), got[1].Load(), got[2].Load(), got[3].Load(), got[4].Load())
	for i, to := range targets[2:] {
		if n := got[i+2].Load(); n > 0 {
			t.Errorf("%d packets from the LAN arrived by %s", n, to)
		}
	}
	if err := s.Detach(t.Context(), j.ID); err != nil {
		t.Error(err)
	}
}

// disturb takes things away at random for a time, and says how often.
func disturb(t *testing.T, s *Service, d time.Duration) (acts int) {
	t.Helper()
	s.mu.Lock()
	var bridge, link string
	for _, n := range s.nets {
		if n.up != nil {
			bridge = n.up.rec.Bridge
			for _, p := range n.ports {
				link = p.rec.Link
			}
		}
	}
	s.mu.Unlock()
	what := []string{
		"nft flush ruleset", "nft flush ruleset", "nft delete table inet lade", "nft delete table bridge lade", "nft flush chain inet lade forward",
		"printf 'flush ruleset\\ntable inet mine { chain forward { type filter hook forward priority 0; policy accept; }\\n }\\n' | nft -f -",
		"ip link del " + bridge, "ip link del " + link, "ip link set " + bridge + " down; ip link set " + bridge + " up",
		"ip addr flush dev " + bridge, "sysctl -qw net.ipv4.ip_forward=1",
	}
	for end := time.Now().Add(d); time.Now().Before(end); acts++ {
		_ = exec.Command("sh", "-c", what[rand.IntN(len(what))]).Run() // some are refused
	}
	_ = exec.Command("nft", "delete", "table", "inet", "mine").Run()
	return acts
}
