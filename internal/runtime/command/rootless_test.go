package command_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/test/kerneltest"
)

// nobody has an entry in every passwd, which newuidmap wants.
const nobody = 65534

// newRootless returns a machine whose runtime is not root, with a
// configuration that "spec --rootless" makes.
func newRootless(t *testing.T, change func(*specs.Spec)) *machine {
	t.Helper()
	m := newMachine(t, nil)
	m.user = &syscall.Credential{Uid: nobody, Gid: nobody}
	m.state = filepath.Join(t.TempDir(), "state")
	for _, d := range []string{m.bundle, m.rootfs, filepath.Dir(m.state)} {
		if out, err := exec.Command("chown", "-R", "65534:65534", d).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		reachable(t, d)
	}
	if err := os.Remove(filepath.Join(m.bundle, "config.json")); err != nil {
		t.Fatal(err)
	}
	m.must("spec", "--rootless", "--bundle", m.bundle)
	m.configure(func(c *specs.Spec) {
		c.Process.Terminal, c.Root.Readonly, c.Root.Path = false, false, m.rootfs
		if change != nil {
			change(c)
		}
	})
	return m
}

// granted gives nobody subordinate ids, for the time of a test.
func granted(t *testing.T) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "sub")
	if err := os.WriteFile(file, []byte("nobody:300000:65536\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/etc/subuid", "/etc/subgid"} {
		if err := unix.Mount(file, name, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(name, unix.MNT_DETACH) })
	}
}

// TestRootless: a user's own id becomes root in the container, and its life is
// as any other's.
func TestRootless(t *testing.T) {
	m := newRootless(t, nil)
	want := "0 0\n 0 65534 1\n 0 65534 1\ndeny\n1\n"
	const script = "echo $(id -u) $(id -g); tr -s ' ' </proc/self/uid_map; tr -s ' ' </proc/self/gid_map; cat /proc/self/setgroups; grep -c '^1 ' /proc/1/stat"
	if got := m.sh(script); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := m.sh("echo x >/dev/null; touch /made; ls -d /sys/kernel; mount -t tmpfs x /mnt 2>/dev/null || echo no mount"); got != "/sys/kernel\nno mount\n" {
		t.Errorf("got %q", got)
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(m.rootfs, "made"), &st); err != nil || st.Uid != nobody {
		t.Errorf("a file belongs to %d, %v", st.Uid, err)
	}
	id := m.background("sleep", "1000")
	if got := m.must("exec", id, "sh", "-c", script+"; cat /proc/1/comm; ls /proc/self/fd | wc -l"); got != want+"sleep\n4\n" {
		t.Errorf("exec: got %q, want %q", got, want)
	}
	if got := m.status(id); got != "running" {
		t.Errorf("status %s", got)
	}
	m.must("kill", id, "KILL")
	kerneltest.Eventually(t, "stopped after kill", func() bool { return m.status(id) == "stopped" })
}

// TestRootlessMapped: more ids are mapped by newuidmap and newgidmap, as far
// as the user was granted them.
func TestRootlessMapped(t *testing.T) {
	granted(t)
	m := newRootless(t, func(c *specs.Spec) {
		c.Linux.UIDMappings = append(c.Linux.UIDMappings, specs.LinuxIDMapping{ContainerID: 1, HostID: 300000, Size: 1000})
		c.Linux.GIDMappings = append(c.Linux.GIDMappings, specs.LinuxIDMapping{ContainerID: 1, HostID: 300000, Size: 1000})
		c.Process.User = specs.User{UID: 7, GID: 8, AdditionalGids: []uint32{9}}
	})
	const script = "id; tr -s ' ' </proc/self/uid_map"
	const want = "uid=7 gid=8 groups=9\n 0 65534 1\n 1 300000 1000\n"
	if got := m.sh(script); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	id := m.background("sleep", "1000")
	if got := m.must("exec", id, "sh", "-c", script); got != want {
		t.Errorf("exec: got %q, want %q", got, want)
	}
	m.configure(func(c *specs.Spec) { c.Linux.UIDMappings[1].HostID = 100 })
	if out, err := m.run("run", "--bundle", m.bundle, kerneltest.ID(t)); code(err) != 1 || !strings.Contains(out, "newuidmap") {
		t.Errorf("an id that was not granted: got %q, %v", out, err)
	}
}

// TestRootlessHooks: those in the container's namespaces, too.
func TestRootlessHooks(t *testing.T) {
	m := newRootless(t, nil)
	m.configure(func(c *specs.Spec) {
		hook := func(kind string) []specs.Hook {
			return []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "read state; echo " + kind + " $(id -u) >>/" + strings.TrimPrefix(m.bundle, "/") + "/order"}, Env: []string{"PATH=/bin:/usr/bin"}}}
		}
		inside := []specs.Hook{{Path: "/bin/busybox", Args: []string{"sh", "-c", "echo startContainer $(id -u) >/order"}, Env: []string{"PATH=/bin"}}}
		c.Hooks = &specs.Hooks{CreateRuntime: hook("createRuntime"), CreateContainer: hook("createContainer"), StartContainer: inside, Poststart: hook("poststart"), Poststop: hook("poststop")}
	})
	if got := m.sh("cat /order"); got != "startContainer 0\n" {
		t.Errorf("got %q", got)
	}
	if b, err := os.ReadFile(filepath.Join(m.bundle, "order")); err != nil || string(b) != "createRuntime 65534\ncreateContainer 0\npoststart 65534\npoststop 65534\n" {
		t.Errorf("got %q, %v", b, err)
	}
}

// TestRootlessRefused: what a user cannot have is told before anything is made.
func TestRootlessRefused(t *testing.T) {
	pids := int64(7)
	m := newRootless(t, nil)
	m.args("true")
	var before specs.Spec
	m.configure(func(c *specs.Spec) { before = *c; l := *c.Linux; before.Linux = &l })
	for want, change := range map[string]func(*specs.Spec){
		"rootless container requires user namespaces": func(c *specs.Spec) {
			c.Linux.Namespaces, c.Linux.UIDMappings, c.Linux.GIDMappings = []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.UTSNamespace}}, nil, nil
		},
		"rootless needs no limits":         func(c *specs.Spec) { c.Linux.Resources = &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: &pids}} },
		"linux.cgroupsPath: ":              func(c *specs.Spec) { c.Linux.CgroupsPath = "/mine" },
		"cannot set any additional groups": func(c *specs.Spec) { c.Process.User.AdditionalGids = []uint32{5} },
		"id-mapped mounts are not supported": func(c *specs.Spec) {
			c.Mounts = append(c.Mounts, specs.Mount{Destination: "/x", Source: "/tmp", Options: []string{"bind", "idmap"}})
		},
		"network devices are not supported for": func(c *specs.Spec) {
			c.Linux.Namespaces = append(c.Linux.Namespaces, specs.LinuxNamespace{Type: specs.NetworkNamespace})
			c.Linux.NetDevices = map[string]specs.LinuxNetDevice{"eth0": {}}
		},
	} {
		m.configure(func(c *specs.Spec) {
			*c = before
			l := *before.Linux
			c.Linux = &l
			p := *before.Process
			c.Process = &p
			change(c)
		})
		if out, err := m.run("run", "--bundle", m.bundle, kerneltest.ID(t)); code(err) != 1 || !strings.Contains(out, want) {
			t.Errorf("got %q, %v; want %q", out, err, want)
		}
	}
}
