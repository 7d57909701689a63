package network

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	api "github.com/moby/moby/api/types/network"

	"lade/internal/engine/network/host"
	"lade/internal/engine/network/record"
	"lade/internal/ident"
	"lade/internal/linux/netns"
	"lade/internal/linux/rtnl"
	"lade/internal/metadata"
	"lade/internal/network/bridge"
	"lade/internal/network/rules"
	"lade/test/kerneltest"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("LADE_TEST_VICTIM"); dir != "" {
		victim(dir)
		return
	}
	kerneltest.Main(m, kerneltest.Options{Net: true})
}

func records(tb testing.TB, dir string) *metadata.DB {
	tb.Helper()
	db, err := metadata.Open(filepath.Join(dir, "boot.db"), metadata.Options{Boot: true})
	if err != nil {
		tb.Fatal(err)
	}
	return db
}

// A new network namespace forwards if the host does, and that is nobody's
// business here.
var noForwarding = sync.OnceValue(func() error { return errors.Join(host.SetForwarding(4, false), host.SetForwarding(6, false)) })

// open returns a service that has recovered, and a function that closes it.
func open(tb testing.TB, dir string, running map[string]int) (*Service, func()) {
	tb.Helper()
	kerneltest.Root(tb)
	if err := noForwarding(); err != nil {
		tb.Fatal(err)
	}
	db := records(tb, dir)
	durable, err := metadata.Open(filepath.Join(dir, "lade.db"), metadata.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	s, err := New(Options{Owner: dir, Records: db, Durable: durable, Grace: grace(tb), Linger: 20 * time.Millisecond})
	if err != nil {
		tb.Fatal(err)
	}
	if err := s.Recover(tb.Context(), running); err != nil {
		tb.Fatal(err)
	}
	return s, sync.OnceFunc(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
		if err := errors.Join(db.Close(), durable.Close()); err != nil {
			tb.Error(err)
		}
	})
}

// attach connects a process to the default network.
func attach(ctx context.Context, s *Service, id string, pid int) (*api.EndpointSettings, error) {
	p, err := s.Attach(ctx, Join{ID: id, Name: "c-" + ident.Short(id), Networks: map[string]*api.EndpointSettings{Default: nil}}, pid)
	return p.Networks[Default], err
}

// process starts a process in a network namespace of its own; with userns,
// that one belongs to a user namespace, as a container's does.
func process(tb testing.TB, userns bool) (pid int) {
	tb.Helper()
	cmd := exec.Command("/bin/sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if userns {
		ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 100000, Size: 1000}}
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings, cmd.SysProcAttr.GidMappings = ids, ids
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}

// links returns what is on the host beside lo.
func links(tb testing.TB) []string {
	tb.Helper()
	all, err := net.Interfaces()
	if err != nil {
		tb.Fatal(err)
	}
	var out []string
	for _, l := range all {
		if l.Name != "lo" {
			out = append(out, l.Name)
		}
	}
	slices.Sort(out)
	return out
}

func same(got []string, want ...string) bool {
	slices.Sort(want)
	return slices.Equal(got, want)
}

// baseline checks that the host is as it was: no link, no rule, no forwarding.
func baseline(tb testing.TB) {
	tb.Helper()
	if l := links(tb); len(l) > 0 {
		tb.Errorf("links left: %v", l)
	}
	for _, version := range []int{4, 6} {
		if on, err := host.Forwarding(version); err != nil || on {
			tb.Errorf("IPv%d forwarding is on: %v %v", version, on, err)
		}
	}
	if out, err := exec.Command("nft", "list", "ruleset").Output(); err == nil && len(out) > 0 {
		tb.Errorf("rules left: %s", out)
	}
}

// inside runs fn in the network namespace of a process.
func inside(tb testing.TB, pid int, fn func() error) {
	tb.Helper()
	ns, err := netns.Open(pid)
	if err != nil {
		tb.Fatal(err)
	}
	defer ns.Close()
	if err := netns.Do(ns, fn); err != nil {
		tb.Error(err)
	}
}

var sameAddr = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func TestAttach(t *testing.T) {
	s, closed := open(t, t.TempDir(), nil)
	defer closed()
	id, pid := ident.New(), process(t, true)
	e, err := attach(t.Context(), s, id, pid)
	if err != nil {
		t.Fatal(err)
	}
	six := e.GlobalIPv6Address
	want := &api.EndpointSettings{
		NetworkID: idOf("bridge"), EndpointID: e.EndpointID, IPAddress: netip.MustParseAddr("10.76.0.2"), IPPrefixLen: 22,
		Gateway: netip.MustParseAddr("10.76.0.1"), MacAddress: api.HardwareAddr{2, 0x42, 10, 76, 0, 2},
		GlobalIPv6Address: six, GlobalIPv6PrefixLen: 64, IPv6Gateway: six.Prev(),
	}
	if diff := cmp.Diff(want, e, sameAddr); diff != "" {
		t.Error(diff)
	}
	if l := links(t); !same(l, "lade0", "lade"+e.EndpointID[:8]) {
		t.Errorf("links %v", l)
	}
	inside(t, pid, func() error {
		eth, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		addrs, err := eth.Addrs()
		if err != nil || len(addrs) < 2 || addrs[1].String() != netip.PrefixFrom(six, 64).String() || addrs[0].String() != "10.76.0.2/22" || eth.HardwareAddr.String() != e.MacAddress.String() {
			t.Errorf("eth0: %v %v %v", eth, addrs, err)
		}
		c, err := rtnl.Dial()
		if err != nil {
			return err
		}
		defer c.Close()
		routes, err := c.Routes()
		if len(routes) != 2 || routes[0].Dst.String() != "0.0.0.0/0" || routes[1].Dst.String() != "10.76.0.0/22" {
			t.Errorf("routes %v", routes)
		}
		return err
	})
	if again, err := attach(t.Context(), s, id, pid); err != nil || !cmp.Equal(again, e, sameAddr) {
		t.Errorf("attach again: %v %v", again, err)
	}
	// The container was started anew, and nobody said that it had ended.
	if other, err := attach(t.Context(), s, id, process(t, false)); err != nil || !cmp.Equal(other, e, sameAddr) {
		t.Errorf("attach another process: %v %v", other, err)
	}
	for range 2 {
		if err := s.Detach(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	if err := s.Detach(t.Context(), ident.New()); err != nil {
		t.Errorf("detach a stranger: %v", err)
	}
	// Its old link may still be going.
	if _, err := attach(t.Context(), s, id, process(t, true)); err != nil {
		t.Errorf("attach after detach: %v", err)
	}
	if err := s.Detach(t.Context(), id); err != nil {
		t.Error(err)
	}
	awaitIdle(t, s)
	baseline(t)
}

// awaitIdle waits until the service has taken everything away.
func awaitIdle(tb testing.TB, s *Service) {
	tb.Helper()
	kerneltest.Eventually(tb, "the network is down", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return !slices.ContainsFunc(s.all(), func(n *network) bool { return n.up != nil }) && len(s.going) == 0 && len(s.stuck) == 0
	})
}

func TestAttachNobody(t *testing.T) {
	s, closed := open(t, t.TempDir(), nil)
	if _, err := attach(t.Context(), s, ident.New(), 1<<30); err == nil {
		t.Error("attach a process that is not there: want an error")
	}
	closed()
	baseline(t)
}

// TestMany attaches and detaches 50 at a time, three times over.
func TestMany(t *testing.T) {
	s, closed := open(t, t.TempDir(), nil)
	pids := make([]int, 50)
	for i := range pids {
		pids[i] = process(t, i%2 == 0)
	}
	for range 3 {
		var all sync.WaitGroup
		var mu sync.Mutex
		seen := map[netip.Addr]bool{}
		for _, pid := range pids {
			all.Go(func() {
				id := ident.New()
				e, err := attach(t.Context(), s, id, pid)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if seen[e.IPAddress] {
					t.Errorf("%s is given twice", e.IPAddress)
				}
				seen[e.IPAddress] = true
				mu.Unlock()
				if rand.IntN(2) == 0 {
					// In the way of Detach's own removal.
					_, _ = attach(t.Context(), s, id, pid)
				}
			})
		}
		all.Wait()
		if n := len(links(t)); n != 51 && !t.Failed() {
			t.Errorf("%d links, want 51", n)
		}
		list, err := s.Inspect(t.Context(), "bridge")
		if err != nil || len(list.Containers) != 50 {
			t.Errorf("%d containers on the network, %v", len(list.Containers), err)
		}
		for id := range list.Containers {
			all.Go(func() {
				if err := s.Detach(t.Context(), id); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		awaitIdle(t, s)
		baseline(t)
	}
	closed()
}

// TestCloseLeavesContainersConnected: the engine goes, what runs stays.
func TestCloseLeavesContainersConnected(t *testing.T) {
	dir := t.TempDir()
	s, closed := open(t, dir, nil)
	a, b, pidA, pidB := ident.New(), ident.New(), process(t, true), process(t, true)
	first, err := attach(t.Context(), s, a, pidA)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := attach(t.Context(), s, b, pidB); err != nil {
		t.Fatal(err)
	}
	closed()
	if n := len(links(t)); n != 3 {
		t.Errorf("links %v", links(t))
	}
	// b ends while no engine is there; somebody flushes the rules.
	_ = exec.Command("nft", "flush", "ruleset").Run()
	s, closed = open(t, dir, map[string]int{a: pidA})
	if l := links(t); !same(l, "lade0", "lade"+first.EndpointID[:8]) {
		t.Errorf("links %v", l)
	}
	if out, _ := exec.Command("nft", "list", "table", "inet", "lade").Output(); !strings.Contains(string(out), "masquerade") {
		t.Error("the rules did not come back")
	}
	if again, err := attach(t.Context(), s, a, pidA); err != nil || !cmp.Equal(again, first, sameAddr) {
		t.Errorf("%v %v", again, err)
	}
	if e, err := attach(t.Context(), s, b, process(t, true)); err != nil || e.IPAddress == first.IPAddress {
		t.Errorf("%v %v", e, err)
	}
	_ = s.Detach(t.Context(), a)
	_ = s.Detach(t.Context(), b)
	closed()
	baseline(t)
}

// TestRecover begins with what a kill at each step leaves.
func TestRecover(t *testing.T) {
	id, pid := ident.New(), 0
	n := record.Network{ID: idOf(Default), Network: bridge.Network{
		Bridge: "lade0", Addresses: []netip.Prefix{netip.MustParsePrefix("10.76.0.1/22")}, MTU: 1500,
	}}
	p := record.Port{Container: id, Network: n.ID, Endpoint: ident.New(), Port: bridge.Port{
		Link: "lade01234567", Interface: "eth0", MAC: bridge.MAC(netip.MustParseAddr("10.76.0.2")), Addresses: []netip.Prefix{netip.MustParsePrefix("10.76.0.2/22")},
	}}
	guarded := rules.Wanted{Guard4: true, Guard6: true}
	note := func(t *testing.T, db *metadata.DB, port bool) {
		t.Helper()
		store := record.Store{Boot: db}
		err := errors.Join(store.PutTable(host.Table{Name: "lade", Guard4: true, Guard6: true}), store.PutNetwork(n))
		if port {
			err = errors.Join(err, store.PutPlace(record.Place{Container: id}, []record.Port{p}))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	connect := func(t *testing.T, h *host.Host) {
		t.Helper()
		if err := h.Rules.Replace(rules.Tables("lade", h.Comment, guarded)...); err != nil {
			t.Fatal(err)
		}
		index, err := bridge.SetUp(h.Links, n.Network)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Links.Do(rtnl.SetAlias(index, h.Alias(host.Table{Guard4: true, Guard6: true}))); err != nil {
			t.Fatal(err)
		}
		ns, err := netns.Open(pid)
		if err != nil {
			t.Fatal(err)
		}
		defer ns.Close()
		if err := errors.Join(host.SetForwarding(4, true), host.StartForwarding6(), bridge.Connect(h.Links, n.Network, index, p.Port, ns)); err != nil {
			t.Fatal(err)
		}
	}
	tests := map[string]func(*testing.T, *metadata.DB, *host.Host){
		"nothing":      func(*testing.T, *metadata.DB, *host.Host) {},
		"the record":   func(t *testing.T, db *metadata.DB, _ *host.Host) { t.Helper(); note(t, db, false) },
		"both records": func(t *testing.T, db *metadata.DB, _ *host.Host) { t.Helper(); note(t, db, true) },
		"the rules": func(t *testing.T, db *metadata.DB, h *host.Host) {
			t.Helper()
			note(t, db, false)
			if err := h.Rules.Replace(rules.Tables("lade", h.Comment, guarded)...); err != nil {
				t.Fatal(err)
			}
		},
		"an empty bridge": func(t *testing.T, db *metadata.DB, h *host.Host) {
			t.Helper()
			note(t, db, true)
			if err := h.Links.Do(rtnl.AddBridge(rtnl.Bridge{Name: "lade0", Group: h.Owner})); err != nil {
				t.Fatal(err)
			}
		},
		"all of it": func(t *testing.T, db *metadata.DB, h *host.Host) {
			t.Helper()
			note(t, db, true)
			connect(t, h)
		},
		"a link and no record of it": func(t *testing.T, db *metadata.DB, h *host.Host) {
			t.Helper()
			note(t, db, false)
			connect(t, h)
		},
		"no record at all": func(t *testing.T, _ *metadata.DB, h *host.Host) {
			t.Helper()
			connect(t, h)
		},
	}
	for name, leave := range tests {
		t.Run(name, func(t *testing.T) {
			kerneltest.Root(t)
			if err := noForwarding(); err != nil {
				t.Fatal(err)
			}
			pid = process(t, true)
			dir := t.TempDir()
			db := records(t, dir)
			h, err := host.New(dir)
			if err != nil {
				t.Fatal(err)
			}
			n.Owner = h.Owner
			leave(t, db, h)
			_ = h.Close()
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			s, closed := open(t, dir, nil)
			defer closed()
			baseline(t)
			// And it works again.
			if _, err := attach(t.Context(), s, id, pid); err != nil {
				t.Error(err)
			}
			if err := s.Detach(t.Context(), id); err != nil {
				t.Error(err)
			}
			closed()
			baseline(t)
		})
	}
}

// TestTwoEngines has two engines on one host: neither touches what is the
// other's, not even as it recovers, and the last one turns forwarding off.
func TestTwoEngines(t *testing.T) {
	dirA, dirB := t.TempDir(), t.TempDir()
	a, closeA := open(t, dirA, nil)
	b, closeB := open(t, dirB, nil)
	idA, idB, pidA, pidB := ident.New(), ident.New(), process(t, true), process(t, true)
	endA, err := attach(t.Context(), a, idA, pidA)
	if err != nil {
		t.Fatal(err)
	}
	endB, err := attach(t.Context(), b, idB, pidB)
	if err != nil {
		t.Fatal(err)
	}
	if endA.Gateway == endB.Gateway {
		t.Errorf("both have gateway %s", endA.Gateway)
	}
	want := []string{"lade0", "lade1", "lade" + endA.EndpointID[:8], "lade" + endB.EndpointID[:8]}
	if l := links(t); !same(l, want...) {
		t.Errorf("links %v, want %v", l, want)
	}
	closeB()
	_, closeB = open(t, dirB, map[string]int{idB: pidB})
	closeA()
	a, closeA = open(t, dirA, map[string]int{idA: pidA})
	if l := links(t); !same(l, want...) {
		t.Errorf("after both recovered: links %v, want %v", l, want)
	}
	_ = a.Detach(t.Context(), idA)
	closeA()
	if on, err := host.Forwarding(4); err != nil || !on {
		t.Errorf("the first engine to leave turned forwarding off for the other (%v)", err)
	}
	if l := links(t); !same(l, "lade1", "lade"+endB.EndpointID[:8]) {
		t.Errorf("links %v", l)
	}
	closeB()
	_, closeB = open(t, dirB, nil) // the container ended meanwhile
	closeB()
	baseline(t)
}

// TestKilled kills a process that attaches and detaches, at random moments,
// and recovers after it.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	for i := range 20 {
		kerneltest.Root(t)
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
		cmd.Env = append(os.Environ(), "LADE_TEST_VICTIM="+dir, fmt.Sprintf("LADE_TEST_PID=%d", process(t, true)))
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		_, _ = out.Read(make([]byte, 1)) // it works
		time.AfterFunc(time.Duration(rand.IntN(60000))*time.Microsecond, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		_, closed := open(t, dir, nil)
		closed()
		if baseline(t); t.Failed() {
			t.Fatalf("after kill %d", i)
		}
	}
}

func victim(dir string) {
	db, err := metadata.Open(filepath.Join(dir, "boot.db"), metadata.Options{Boot: true})
	if err != nil {
		panic(err)
	}
	durable, err := metadata.Open(filepath.Join(dir, "lade.db"), metadata.Options{})
	if err != nil {
		panic(err)
	}
	s, err := New(Options{Owner: dir, Records: db, Durable: durable, Grace: time.Millisecond, Linger: time.Millisecond})
	if err != nil {
		panic(err)
	}
	var pid int
	_, _ = fmt.Sscan(os.Getenv("LADE_TEST_PID"), &pid)
	_, _ = os.Stdout.WriteString("x")
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		id := ident.New()
		if _, err := attach(nil, s, id, pid); err != nil { //nolint:staticcheck // the context is not used
			fmt.Fprintln(os.Stderr, "victim:", err)
		}
		if err := s.Detach(nil, id); err != nil { //nolint:staticcheck // the context is not used
			fmt.Fprintln(os.Stderr, "victim:", err)
		}
		// One namespace has room for one eth0.
		for range tick.C {
			s.mu.Lock()
			n := len(s.going)
			s.mu.Unlock()
			if n == 0 {
				break
			}
		}
	}
}

func BenchmarkAttach(b *testing.B) {
	s, closed := open(b, b.TempDir(), nil)
	defer closed()
	var attached, detached time.Duration
	n := 0
	for b.Loop() {
		// A container that lives for nothing but its network.
		cmd := exec.Command("/bin/true")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWUSER, Ptrace: true}
		runtime.LockOSThread()
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		id := ident.New()
		start := time.Now()
		if _, err := attach(b.Context(), s, id, cmd.Process.Pid); err != nil {
			b.Fatal(err)
		}
		attached += time.Since(start)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		runtime.UnlockOSThread()
		start = time.Now()
		if err := s.Detach(b.Context(), id); err != nil {
			b.Fatal(err)
		}
		detached += time.Since(start)
		n++
	}
	b.ReportMetric(float64(attached.Microseconds())/float64(n), "µs/attach")
	b.ReportMetric(float64(detached.Microseconds())/float64(n), "µs/detach")
}

// grace is short where a test waits for the end, and as it is used otherwise.
func grace(tb testing.TB) time.Duration {
	tb.Helper()
	if _, ok := tb.(*testing.B); ok {
		return 0
	}
	return 10 * time.Millisecond
}
