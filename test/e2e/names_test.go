package e2e

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"lade/test/kerneltest"
)

// TestNames has containers find each other by name in networks that people made,
// on the default network not, and elsewhere what the host would find; while the
// engine is killed and begun again, and across networks.
func TestNames(t *testing.T) {
	h := newHost(t)
	h.must("run", "--rm", "--network", "none", "lade/toolbox", "true")
	h.follow() // what is compared with the end has an engine of this kind
	before := h.settled(nil)
	h.must("network", "create", "front")
	h.must("network", "create", "--internal", "back")
	db := h.must("run", "-d", "--name", "db", "--network", "back", "--network-alias", "store", "lade/toolbox", "sleep", "1000")
	h.must("run", "-d", "--name", "web", "--network", "front", "--network", "back", "lade/toolbox", "sleep", "1000")
	h.must("run", "-d", "--name", "other", "--network", "front", "lade/toolbox", "sleep", "1000")
	address := func(of, network string) string {
		return h.must("inspect", "-f", "{{(index .NetworkSettings.Networks \""+network+"\").IPAddress}}", of)
	}
	lookup := func(in, name string) string {
		r := h.lade("exec", in, "nslookup", name)
		return strings.TrimSpace(r.stdout + r.stderr)
	}
	sees := func(in, name, want string) {
		t.Helper()
		if got := lookup(in, name); !strings.Contains(got, want) {
			t.Errorf("%s asks for %s and gets %q, want %s", in, name, got, want)
		}
	}
	unknown := func(in, name string) {
		t.Helper()
		if r := h.lade("exec", in, "nslookup", name); r.code == 0 {
			t.Errorf("%s asks for %s and gets %q, want nothing", in, name, r.stdout)
		}
	}
	check := func() {
		t.Helper()
		for _, name := range []string{"db", "store", "DB", "db.back", db[:12]} {
			sees("web", name, address("db", "back"))
		}
		sees("db", "web", address("web", "back"))
		sees("other", "web", address("web", "front"))
		unknown("other", "db")
		unknown("db", "other")
	}
	if got := h.must("exec", "web", "cat", "/etc/resolv.conf"); !strings.Contains(got, "nameserver 127.0.0.11\n") || strings.Count(got, "nameserver") != 1 {
		t.Errorf("resolv.conf of web:\n%s", got)
	}
	check()
	// One that asks all the time has an answer to each query, also to those that
	// it makes while no engine is there; it says so with a line.
	asker := h.must("run", "-d", "--network", "back", "lade/toolbox", "sh", "-c",
		`trap 'exit 0' TERM; while :; do nslookup db >/dev/null 2>&1 && echo ok || echo failed; done`)
	answers := func() (ok, failed int) {
		log := h.must("logs", asker)
		return strings.Count(log, "ok"), strings.Count(log, "failed")
	}
	kerneltest.Eventually(t, "the first answers", func() bool { ok, _ := answers(); return ok > 10 })
	h.killEngine()
	h.startEngine()
	check()
	had, _ := answers()
	kerneltest.Eventually(t, "more answers", func() bool { ok, _ := answers(); return ok > had+10 })
	if _, failed := answers(); failed > 0 {
		t.Errorf("%d queries failed over an engine's death", failed)
	}
	h.must("rm", "-f", asker)
	h.follow()
	check()

	// Connected and disconnected while it runs, and renamed.
	h.must("network", "connect", "--alias", "late", "back", "other")
	sees("other", "db", address("db", "back"))
	sees("db", "late", address("other", "back"))
	h.must("network", "disconnect", "back", "other")
	unknown("other", "db")
	unknown("db", "late")
	h.must("rename", "web", "site")
	sees("db", "site", address("site", "back"))
	unknown("db", "web")
	h.must("rm", "-f", "site")
	unknown("db", "site")

	// The default network has no names, and the host's servers.
	h.must("run", "-d", "--name", "plain", "lade/toolbox", "sleep", "1000")
	if got := h.must("exec", "plain", "cat", "/etc/resolv.conf"); strings.Contains(got, "127.0.0.11") {
		t.Errorf("resolv.conf on the default network:\n%s", got)
	}
	h.must("network", "connect", "front", "plain")
	sees("plain", "other", address("other", "front"))
	for _, name := range []string{"plain", "other", "db"} {
		h.must("rm", "-f", name)
	}
	h.must("network", "rm", "front", "back")
	h.checkLeft(before)
}

// TestNamesElsewhere checks what is asked outside: by --dns from the container's
// network, not at all from internal ones.
func TestNamesElsewhere(t *testing.T) {
	h := newHost(t)
	h.must("network", "create", "--subnet", "10.199.7.0/24", "--gateway", "10.199.7.1", "out")
	h.must("network", "create", "--internal", "--subnet", "10.199.8.0/24", "--gateway", "10.199.8.1", "in")
	// A container that only holds the bridges up, so that the host has their addresses.
	h.must("run", "-d", "--name", "hold", "--network", "out", "--network", "in", "lade/toolbox", "sleep", "1000")
	asked := make(chan string, 100)
	for _, gateway := range []string{"10.199.7.1", "10.199.8.1"} {
		server(t, gateway, asked)
	}
	if got := h.must("run", "--rm", "--network", "out", "--dns", "10.199.7.1", "lade/toolbox", "nslookup", "far.example.org"); !strings.Contains(got, "192.0.2.1") {
		t.Errorf("outside: %q", got)
	}
	select {
	case q := <-asked:
		if !strings.HasPrefix(q, "10.199.7.") {
			t.Errorf("asked from %s, want the container's address", q)
		}
	default:
		t.Error("nobody asked")
	}
	for len(asked) > 0 {
		<-asked
	}
	if r := h.lade("run", "--rm", "--network", "in", "--dns", "10.199.8.1", "lade/toolbox", "nslookup", "far.example.org"); r.code == 0 {
		t.Errorf("an internal network got %q", r.stdout)
	}
	if len(asked) > 0 {
		t.Errorf("an internal network asked: %s", <-asked)
	}
	h.must("rm", "-f", "hold")
	for range 5 { // a container that is gone holds no network
		h.must("network", "rm", "in", "out")
		h.must("network", "create", "in")
		h.must("network", "create", "out")
		h.must("run", "--rm", "--network", "in", "--network", "out", "lade/toolbox", "true")
	}
	h.must("network", "rm", "in", "out")
}

// server answers every query for A at port 53 of an address with 192.0.2.1.
func server(t *testing.T, address string, asked chan<- string) {
	t.Helper()
	c, err := net.ListenPacket("udp", address+":53")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	go func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			asked <- fmt.Sprint(from)
			end := 12
			for end < n && buf[end] != 0 {
				end += int(buf[end]) + 1
			}
			if end += 5; end > n {
				continue
			}
			reply := append([]byte(nil), buf[:end]...)
			copy(reply[2:], []byte{0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0})
			if buf[end-3] != 1 {
				reply[7] = 0 // not for A: no answer
			} else {
				reply = append(reply, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1)
			}
			_, _ = c.WriteTo(reply, from)
		}
	}()
}
