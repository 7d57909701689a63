package command_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/test/kerneltest"
)

// hooksOf returns the list of one kind of hook.
func hooksOf(h *specs.Hooks, kind string) *[]specs.Hook {
	return map[string]*[]specs.Hook{
		"prestart":      &h.Prestart, //nolint:staticcheck // engines still use it
		"createRuntime": &h.CreateRuntime, "createContainer": &h.CreateContainer,
		"startContainer": &h.StartContainer, "poststart": &h.Poststart, "poststop": &h.Poststop,
	}[kind]
}

// TestHookFails: the message says which hook it was; nothing runs, nothing is
// left. A container in which one fails at its start is stopped.
func TestHookFails(t *testing.T) {
	m := newMachine(t, nil)
	for _, kind := range []string{"prestart", "createRuntime", "createContainer", "startContainer", "poststart"} {
		for _, how := range []struct {
			hook specs.Hook
			want string
		}{
			{specs.Hook{Path: "/bin/false"}, "exit status 1"},
			{specs.Hook{Path: "/bin/sh", Args: []string{"sh", "-c", "echo said; echo moaned >&2; kill -9 $$"}}, "signal: killed, output: said\nmoaned"},
			{specs.Hook{Path: "/bin/sleep", Args: []string{"sleep", "1000"}, Timeout: new(int)}, "hook ran past specified timeout of 1.0s"},
			{specs.Hook{Path: "/nosuch"}, "no such file"},
		} {
			if how.hook.Timeout != nil {
				one := 1
				how.hook.Timeout = &one
			}
			m.configure(func(c *specs.Spec) {
				c.Process.Args = []string{"sh", "-c", "echo runs; sleep 1000"}
				c.Hooks = &specs.Hooks{}
				*hooksOf(c.Hooks, kind) = []specs.Hook{{Path: "/bin/true"}, how.hook, {Path: "/bin/true"}}
			})
			out, err := m.run("run", "--bundle", m.bundle, kerneltest.ID(t))
			if code(err) != 1 || !strings.Contains(out, "error running "+kind+" hook #1: ") || !strings.Contains(out, how.want) {
				t.Errorf("%s %s: got %q, %v", kind, how.want, out, err)
			}
			if strings.Contains(out, "runs") && kind != "poststart" {
				t.Errorf("%s: the program runs", kind)
			}
		}
	}
	if left, _ := os.ReadDir(m.state); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	for _, kind := range []string{"startContainer", "poststart"} {
		m.configure(func(c *specs.Spec) {
			c.Process.Args = []string{"sleep", "1000"}
			c.Hooks = &specs.Hooks{}
			*hooksOf(c.Hooks, kind) = []specs.Hook{{Path: "/bin/false"}}
		})
		id := kerneltest.ID(t)
		if err := m.command("create", "--bundle", m.bundle, id).Run(); err != nil {
			t.Fatal(err)
		}
		if out, err := m.run("start", id); code(err) != 1 || !strings.Contains(out, kind+" hook #0") {
			t.Errorf("start: got %q, %v", out, err)
		}
		kerneltest.Eventually(t, "it is stopped", func() bool { return m.status(id) == "stopped" })
		m.must("delete", id)
	}
}

// TestHookEnvironment: a hook has the environment that it is given. Without
// one, it has the runtime's, or, in the container, that of its process.
func TestHookEnvironment(t *testing.T) {
	for _, kind := range []string{"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"} {
		dir := t.TempDir()
		m := newMachine(t, func(c *specs.Spec) {
			c.Process.Env = []string{"PATH=/bin", "OF=process"}
			c.Process.Args = []string{"true"}
			c.Mounts = append(c.Mounts, specs.Mount{Destination: dir, Type: "bind", Source: dir, Options: []string{"bind"}})
			c.Root.Readonly = false
			c.Hooks = &specs.Hooks{}
			script := func(name string) []string {
				return []string{"sh", "-c", `echo "${OF-}" >"` + filepath.Join(dir, name) + `"`}
			}
			*hooksOf(c.Hooks, kind) = []specs.Hook{
				{Path: "/bin/sh", Args: script("given"), Env: []string{"OF=hook"}},
				{Path: "/bin/sh", Args: script("none")},
			}
		})
		m.env = append(m.env, "OF=runtime")
		m.must("run", "--bundle", m.bundle, kerneltest.ID(t))
		none := "runtime"
		switch kind {
		case "startContainer":
			none = "process"
		case "createContainer":
			none = ""
		}
		for name, want := range map[string]string{"given": "hook\n", "none": none + "\n"} {
			if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != want {
				t.Errorf("%s %s: %q, %v; want %q", kind, name, b, err, want)
			}
		}
	}
}

// TestHookMounts: what hooks mount below root.path in the container's mount
// namespace, from outside or from within, the container sees, and the host does
// not. The programs that put devices and libraries into containers do just that.
func TestHookMounts(t *testing.T) {
	for _, propagation := range []string{"", "slave", "shared", "rshared"} {
		dir := mountpoint(t, 0, unix.MS_SHARED)
		var root string
		m := newMachine(t, func(c *specs.Spec) {
			c.Linux.RootfsPropagation = propagation
			root = c.Root.Path
			outside := "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); mkdir -p " + root + "/outside; nsenter -m -t $pid mount --bind " + dir + " " + root + "/outside"
			inside := "mkdir -p inside; mount --bind " + dir + " inside"
			c.Hooks = &specs.Hooks{
				CreateRuntime:   []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", outside}}},
				CreateContainer: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", inside}, Env: os.Environ()}},
			}
		})
		if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if got := m.sh("ls /outside /inside"); got != "/inside:\nfile\n\n/outside:\nfile\n" {
			t.Errorf("%q: the container sees %q", propagation, got)
		}
		if b, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(b), " "+root) {
			t.Errorf("%q: the host sees mounts in the root, %v", propagation, err)
		}
	}
}

// TestHookFilter: a hook at the container's place is under its filter.
func TestHookFilter(t *testing.T) {
	m := newMachine(t, func(c *specs.Spec) {
		c.Process.Args = []string{"true"}
		c.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"mkdir", "mkdirat"}, Action: specs.ActKillProcess}}}
		c.Hooks = &specs.Hooks{StartContainer: []specs.Hook{{Path: "/bin/mkdir", Args: []string{"mkdir", "/dev/shm/new"}}}}
	})
	if out, err := m.run("run", "--bundle", m.bundle, kerneltest.ID(t)); code(err) != 1 || !strings.Contains(out, "error running startContainer hook #0: /bin/mkdir: signal: bad system call") {
		t.Errorf("got %q, %v", out, err)
	}
}
