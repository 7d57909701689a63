package command_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/linux/rtnl"
	"lade/test/kerneltest"
)

// TestTimeNamespace: the container lives by clocks of its own, with and
// without a user namespace, and so does who comes in later.
func TestTimeNamespace(t *testing.T) {
	if _, err := os.Stat("/proc/self/timens_offsets"); err != nil {
		kerneltest.Feature(t, "time namespaces", 5, 6, err)
	}
	const hour = 3600
	m := newMachine(t, func(c *specs.Spec) {
		c.Linux.Namespaces = append(c.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
		c.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 1000 * hour, Nanosecs: 5}, "monotonic": {Secs: 2000 * hour}}
	})
	check := func(t *testing.T, got string) {
		t.Helper()
		var up float64
		var clocks string
		if _, err := fmt.Sscan(got, &up, new(float64)); err != nil {
			t.Fatalf("%q: %v", got, err)
		}
		_, clocks, _ = strings.Cut(got, "\n")
		if up < 1000*hour {
			t.Errorf("the container is up for %v s", up)
		}
		want := fmt.Sprintf("monotonic %d 0\nboottime %d 5\n", 2000*hour, 1000*hour)
		if got := strings.Join(strings.Fields(clocks), " "); got != strings.Join(strings.Fields(want), " ") {
			t.Errorf("offsets %q, want %q", got, want)
		}
	}
	const script = "cat /proc/uptime /proc/self/timens_offsets"
	check(t, m.sh(script))
	id := m.background("sleep", "1000")
	check(t, m.must("exec", id, "sh", "-c", script))
	t.Run("user namespace", func(t *testing.T) {
		m := newMachine(t, func(c *specs.Spec) {
			mapped(t, c)
			c.Linux.Namespaces = append(c.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
			c.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 1000 * hour, Nanosecs: 5}, "monotonic": {Secs: 2000 * hour}}
		})
		check(t, m.sh(script))
	})
	t.Run("joined", func(t *testing.T) {
		other := newMachine(t, func(c *specs.Spec) {
			c.Linux.Namespaces = append(c.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace, Path: m.namespace(id, "time")})
		})
		check(t, other.sh(script))
	})
}

// namespace returns the path of a namespace of a container's process.
func (m *machine) namespace(id, kind string) string {
	m.t.Helper()
	var s struct{ PID int }
	if err := json.Unmarshal([]byte(m.must("state", id)), &s); err != nil {
		m.t.Fatal(err)
	}
	return "/proc/" + strconv.Itoa(s.PID) + "/ns/" + kind
}

// mapped gives a configuration a user namespace, and its root to who is root
// there.
func mapped(t *testing.T, c *specs.Spec) {
	t.Helper()
	c.Root.Readonly = false
	c.Linux.Namespaces = append(c.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	c.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 200000, Size: 65536}}
	c.Linux.GIDMappings = c.Linux.UIDMappings
	if out, err := exec.Command("chown", "-R", "200000:200000", c.Root.Path).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	reachable(t, c.Root.Path)
}

// TestMemoryPolicy: the process, and one that enters later, take their memory
// where they were told to.
func TestMemoryPolicy(t *testing.T) {
	m := newMachine(t, func(c *specs.Spec) {
		c.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: "0", Flags: []specs.MemoryPolicyFlagType{specs.MpolFStaticNodes}}
	})
	const script = "grep -m 1 -o 'bind[^ ]*' /proc/self/numa_maps"
	if got := m.sh(script); got != "bind=static:0\n" {
		t.Errorf("got %q", got)
	}
	id := m.background("sleep", "1000")
	if got := m.must("exec", id, "sh", "-c", script); got != "bind=static:0\n" {
		t.Errorf("exec: got %q", got)
	}
}

// TestNetDevices moves devices into a container: with their addresses, under a
// name of their own, and up.
func TestNetDevices(t *testing.T) {
	c, err := rtnl.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	home, err := os.Open("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	pair := func(t *testing.T) {
		t.Helper()
		if err := c.Do(rtnl.AddVeth(rtnl.Veth{Name: "left0", Peer: "right0", MAC: []byte{2, 0, 0, 0, 0, 9}, NS: home})); err != nil {
			t.Fatal(err)
		}
		for _, a := range []string{"192.0.2.9/24", "2001:db8::9/64"} {
			if out, err := exec.Command("ip", "addr", "add", a, "dev", "right0").CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
		t.Cleanup(func() { _ = c.Do(rtnl.DelLink("left0")) })
	}
	const script = "ip -o addr show dev $0 scope global | awk '{print $3, $4}'; ip -o link show $0 | grep -o -m 1 '[<,]UP[,>]' | tr -d '<,>'"
	const want = "inet 192.0.2.9/24\ninet6 2001:db8::9/64\nUP\n"
	for _, tt := range []struct{ to, have string }{{"", "right0"}, {"uplink", "uplink"}, {"net%d", "net0"}} {
		for _, user := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s user namespace %v", tt.have, user), func(t *testing.T) {
				pair(t)
				m := newMachine(t, func(c *specs.Spec) {
					c.Linux.NetDevices = map[string]specs.LinuxNetDevice{"right0": {Name: tt.to}}
					if user {
						mapped(t, c)
					}
				})
				m.args("/bin/sh", "-c", script, tt.have)
				if got := m.must("run", "--bundle", m.bundle, kerneltest.ID(t)); got != want {
					t.Errorf("got %q, want %q", got, want)
				}
			})
		}
	}
	t.Run("missing", func(t *testing.T) {
		m := newMachine(t, func(c *specs.Spec) { c.Linux.NetDevices = map[string]specs.LinuxNetDevice{"nosuch0": {}} })
		m.args("true")
		if out, err := m.run("run", "--bundle", m.bundle, kerneltest.ID(t)); err == nil || !strings.Contains(out, "nosuch0") {
			t.Errorf("got %q, %v", out, err)
		}
	})
	t.Run("taken", func(t *testing.T) {
		pair(t)
		m := newMachine(t, func(c *specs.Spec) { c.Linux.NetDevices = map[string]specs.LinuxNetDevice{"right0": {Name: "lo"}} })
		m.args("true")
		if out, err := m.run("run", "--bundle", m.bundle, kerneltest.ID(t)); err == nil || !strings.Contains(out, "right0") {
			t.Errorf("got %q, %v", out, err)
		}
		if _, err := c.LinkByName("right0"); err != nil {
			t.Errorf("the device is gone: %v", err)
		}
	})
}

// TestSharedMounts: without a mount namespace of its own the process still has
// its root, and nothing is mounted anywhere.
func TestSharedMounts(t *testing.T) {
	m := newMachine(t, func(c *specs.Spec) {
		c.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.UTSNamespace}}
		c.Mounts, c.Linux.MaskedPaths, c.Linux.ReadonlyPaths = nil, nil, nil
		c.Process.Capabilities = nil
	})
	before, _ := os.ReadFile("/proc/self/mountinfo")
	if got := m.sh("ls -d /bin/busybox; ls /proc | wc -l; hostname; echo $$"); got != "/bin/busybox\n0\nlade\n1\n" {
		t.Errorf("got %q", got)
	}
	if after, _ := os.ReadFile("/proc/self/mountinfo"); string(before) != string(after) {
		t.Errorf("mounts were\n%s\nare\n%s", before, after)
	}
}
