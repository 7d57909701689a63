package command_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/runtime/command"
	"lade/test/kerneltest"
)

// The test binary is the runtime, too: with this variable set.
const asRuntime = "LADE_TEST_AS_RUNTIME"

func TestMain(m *testing.M) {
	if os.Getenv(asRuntime) != "" {
		os.Exit(command.Main(mutated(context.Background()), os.Args[1:]))
	}
	kerneltest.Main(m, kerneltest.Options{Net: true})
}

// machine is a runtime with its state directory, and a bundle.
type machine struct {
	t      testing.TB
	state  string
	bundle string
	rootfs string
	env    []string
	user   *syscall.Credential // who runs the runtime, if not root
}

func newMachine(tb testing.TB, change func(*specs.Spec)) *machine {
	tb.Helper()
	kerneltest.Root(tb)
	m := &machine{t: tb, state: filepath.Join(tb.TempDir(), "state"), bundle: tb.TempDir(), rootfs: kerneltest.Busybox(tb)}
	if out, err := m.run("spec", "--bundle", m.bundle); err != nil {
		tb.Fatalf("spec: %v\n%s", err, out)
	}
	m.configure(func(c *specs.Spec) {
		c.Process.Terminal = false
		c.Root.Path = m.rootfs
		c.Linux.CgroupsPath = "/" + kerneltest.ID(tb)
		if !slices.Contains(c.Linux.Namespaces, specs.LinuxNamespace{Type: specs.CgroupNamespace}) {
			c.Linux.Namespaces = append(c.Linux.Namespaces, specs.LinuxNamespace{Type: specs.CgroupNamespace})
		}
		if change != nil {
			change(c)
		}
	})
	return m
}

// configure changes the bundle's configuration.
func (m *machine) configure(change func(*specs.Spec)) {
	m.t.Helper()
	file := filepath.Join(m.bundle, "config.json")
	b, err := os.ReadFile(file)
	if err != nil {
		m.t.Fatal(err)
	}
	c := &specs.Spec{}
	if err := json.Unmarshal(b, c); err != nil {
		m.t.Fatal(err)
	}
	change(c)
	if b, err = json.Marshal(c); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(file, b, 0o600); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) command(args ...string) *exec.Cmd {
	cmd := kerneltest.Command(m.t, "/proc/self/exe", append([]string{"--root", m.state}, args...)...)
	cmd.Env = append(append(os.Environ(), asRuntime+"=1"), m.env...)
	if m.user != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: m.user}
	}
	return cmd
}

// run runs a command of the runtime and returns all that it prints.
func (m *machine) run(args ...string) (string, error) {
	out, err := m.command(args...).CombinedOutput()
	return string(out), err
}

// must is run for a command that has to go well.
func (m *machine) must(args ...string) string {
	m.t.Helper()
	out, err := m.run(args...)
	if err != nil {
		m.t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// args makes the bundle run a program.
func (m *machine) args(args ...string) {
	m.t.Helper()
	m.configure(func(c *specs.Spec) { c.Process.Args = args })
}

// sh runs a shell script in a container and returns what it prints.
func (m *machine) sh(script string) string {
	m.t.Helper()
	m.args("/bin/sh", "-c", script)
	return m.must("run", "--bundle", m.bundle, kerneltest.ID(m.t))
}

// background starts a container in the background, with pipes of its own.
func (m *machine) background(args ...string) string {
	m.t.Helper()
	m.args(args...)
	id := kerneltest.ID(m.t)
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		m.t.Fatal(err)
	}
	defer null.Close()
	var stderr bytes.Buffer
	cmd := m.command("--log", filepath.Join(m.bundle, "log"), "run", "--detach", "--bundle", m.bundle, "--pid-file", filepath.Join(m.bundle, "pid"), id)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = null, null, null
	if err := cmd.Run(); err != nil {
		log, _ := os.ReadFile(filepath.Join(m.bundle, "log"))
		m.t.Fatalf("run --detach: %v\n%s%s", err, stderr.String(), log)
	}
	m.t.Cleanup(func() { m.must("delete", "--force", id) })
	return id
}

func (m *machine) status(id string) string {
	m.t.Helper()
	var s struct{ Status string }
	if err := json.Unmarshal([]byte(m.must("state", id)), &s); err != nil {
		m.t.Fatal(err)
	}
	return s.Status
}

func code(err error) int {
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return e.ExitCode()
	}
	if err != nil {
		return -1
	}
	return 0
}

func TestRun(t *testing.T) {
	m := newMachine(t, nil)
	for _, tt := range []struct {
		name, script, want string
		code               int
	}{
		{"output", "echo $((6*7))", "42\n", 0},
		{"exit code", "exit 42", "", 42},
		{"signal", "sh -c 'kill -9 $$'; exit $?", "Killed\n", 137},
		{"host name", "hostname", "lade\n", 0},
		{"first process", "echo $$", "1\n", 0},
		{"directory", "pwd", "/\n", 0},
		{"umask", "umask", "0022\n", 0},
		{"home", "echo $HOME", "/root\n", 0},
		{"limit", "ulimit -n", "1024\n", 0},
		{"loopback", "cat /sys/class/net/lo/operstate; ls /sys/class/net", "unknown\nlo\n", 0},
		{"descriptors", "sh -c 'ls /proc/$PPID/fd'; true", "0\n1\n2\n", 0},
		{"own exe", "readlink /proc/1/exe", "/bin/busybox\n", 0},
		{"root is read-only", "touch /x 2>/dev/null || echo no", "no\n", 0},
		{"capabilities", "grep -E 'Cap(Inh|Eff|Bnd|Amb)' /proc/self/status | tr -d '\\n\\t'", "CapInh:0000000000000000CapEff:0000000020000420CapBnd:0000000020000420CapAmb:0000000000000000", 0},
		{"no new privileges", "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1\n", 0},
		{"masked", "cat /proc/keys /proc/timer_list | wc -c; ls /proc/acpi /sys/firmware | grep -v : | tr -d '\\n'", "0\n", 0},
		{"read-only", "echo 1 2>/dev/null >/proc/sys/net/ipv4/ip_forward || echo no", "no\n", 0},
		{"devices", "cd /dev; ls -l null tty | awk '{print $1,$5,$6}'; readlink ptmx; readlink fd", "crw-rw-rw- 1, 3\ncrw-rw-rw- 5, 0\npts/ptmx\n/proc/self/fd\n", 0},
		{"no other mounts", "grep -c -v -E ' /(proc|dev|sys)?([/ ])' /proc/self/mountinfo", "0\n", 1},
		{"cgroup", "tail -n 1 /proc/self/cgroup", "0::/\n", 0},
		{"session", "awk '{print $6}' /proc/1/stat", "1\n", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m.args("/bin/sh", "-c", tt.script)
			out, err := m.run("run", "--bundle", m.bundle, kerneltest.ID(t))
			if out != tt.want || code(err) != tt.code {
				t.Errorf("got %q, %d; want %q, %d", out, code(err), tt.want, tt.code)
			}
		})
	}
	if left, _ := os.ReadDir(m.state); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestMissing checks the phrases by which docker tells 126 from 127.
func TestMissing(t *testing.T) {
	m := newMachine(t, func(c *specs.Spec) { c.Root.Readonly = false })
	if err := os.WriteFile(filepath.Join(m.rootfs, "text"), []byte("no program"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(m.rootfs, "junk"), []byte("no program"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"nosuch"}, `exec: "nosuch": executable file not found in $PATH`},
		{[]string{"/nosuch"}, `exec: "/nosuch": no such file or directory`},
		{[]string{"/text"}, `exec: "/text": permission denied`},
		{[]string{"/etc"}, `exec /etc: permission denied`},
		{[]string{"/junk"}, `exec /junk: exec format error`},
	} {
		m.args(tt.args...)
		log := filepath.Join(t.TempDir(), "log")
		out, err := m.run("--log", log, "--log-format", "json", "run", "--bundle", m.bundle, kerneltest.ID(t))
		if code(err) != 1 || !strings.Contains(out, tt.want) {
			t.Errorf("%v: got %q, %v; want %q", tt.args, out, err, tt.want)
		}
		var line struct{ Level, Msg, Time string }
		b, _ := os.ReadFile(log)
		if err := json.Unmarshal(b, &line); err != nil || line.Level != "error" || !strings.Contains(line.Msg, tt.want) {
			t.Errorf("%v: the log holds %q, %v", tt.args, b, err)
		}
	}
	if left, _ := os.ReadDir(m.state); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestLifeCycle(t *testing.T) {
	m := newMachine(t, func(c *specs.Spec) { c.Process.Args = []string{"sleep", "1000"} })
	id := kerneltest.ID(t)
	pidFile := filepath.Join(t.TempDir(), "pid")
	create := m.command("create", "--bundle", m.bundle, "--pid-file", pidFile, id)
	if err := create.Run(); err != nil {
		t.Fatal(err)
	}
	if got := m.status(id); got != "created" {
		t.Errorf("after create: %s", got)
	}
	b, _ := os.ReadFile(pidFile)
	pid, err := strconv.Atoi(string(b))
	if err != nil {
		t.Fatal(err)
	}
	if out, err := m.run("create", "--bundle", m.bundle, id); err == nil || !strings.Contains(out, "exists") {
		t.Errorf("create again: %q, %v", out, err)
	}
	m.must("start", id)
	if got := m.status(id); got != "running" {
		t.Errorf("after start: %s", got)
	}
	if out, err := m.run("start", id); err == nil || !strings.Contains(out, "already running") {
		t.Errorf("start again: %q, %v", out, err)
	}
	if out, err := m.run("delete", id); err == nil || !strings.Contains(out, "not stopped") {
		t.Errorf("delete while it runs: %q, %v", out, err)
	}
	if got := m.must("ps", "--format", "json", id); got != "["+strconv.Itoa(pid)+"]\n" {
		t.Errorf("ps: %q, want %d", got, pid)
	}
	m.must("pause", id)
	if got := m.status(id); got != "paused" {
		t.Errorf("after pause: %s", got)
	}
	m.must("resume", id)
	if got := m.must("list", "-q"); got != id+"\n" {
		t.Errorf("list: %q", got)
	}
	m.must("kill", id, "KILL")
	kerneltest.Eventually(t, "stopped after kill", func() bool { return m.status(id) == "stopped" })
	if out, err := m.run("kill", id, "0"); err == nil || !strings.Contains(out, "container not running") {
		t.Errorf("kill when stopped: %q, %v", out, err)
	}
	if out, err := m.run("exec", id, "true"); code(err) != 255 || !strings.Contains(out, "stopped") {
		t.Errorf("exec when stopped: %q, %v", out, err)
	}
	m.must("delete", id)
	for _, args := range [][]string{{"state", id}, {"delete", id}, {"kill", id}, {"start", id}} {
		if out, err := m.run(args...); err == nil || !strings.Contains(out, "does not exist") {
			t.Errorf("%v after delete: %q, %v", args, out, err)
		}
	}
	m.must("delete", "--force", id)
}

func TestExec(t *testing.T) {
	m := newMachine(t, nil)
	id := m.background("sleep", "1000")
	for _, tt := range []struct {
		name string
		args []string
		want string
		code int
	}{
		{"output", []string{id, "echo", "hi"}, "hi\n", 0},
		{"exit code", []string{id, "sh", "-c", "exit 9"}, "", 9},
		{"flags of the program", []string{id, "ls", "-d", "/"}, "/\n", 0},
		{"namespaces", []string{id, "sh", "-c", "hostname; readlink /proc/1/exe; tail -n 1 /proc/self/cgroup"}, "lade\n/bin/busybox\n0::/\n", 0},
		{"user", []string{"-u", "1000:100", "--additional-gids", "5", id, "id"}, "uid=1000 gid=100 groups=5\n", 0},
		{"environment", []string{"-e", "A=b", "--cwd", "/tmp", id, "sh", "-c", "echo $A; pwd"}, "b\n/tmp\n", 0},
		{"descriptors", []string{id, "sh", "-c", "sh -c 'ls /proc/$PPID/fd'; true"}, "0\n1\n2\n", 0},
		{"capability", []string{"--cap", "CAP_NET_RAW", id, "grep", "CapEff", "/proc/self/status"}, "CapEff:\t0000000020002420\n", 0},
		{"missing", []string{id, "nosuch"}, "exec: \"nosuch\": executable file not found in $PATH: no such file or directory\n", 255},
		{"bad user", []string{"-u", "root", id, "id"}, "--user \"root\": \"root\" is not a number\n", 255},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, err := m.run(append([]string{"exec"}, tt.args...)...)
			if out != tt.want || code(err) != tt.code {
				t.Errorf("got %q, %d; want %q, %d", out, code(err), tt.want, tt.code)
			}
		})
	}
}

func TestUserNamespace(t *testing.T) {
	m := newMachine(t, func(c *specs.Spec) {
		c.Linux.Namespaces = append(c.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
		c.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 200000, Size: 65536}}
		c.Linux.GIDMappings = c.Linux.UIDMappings
		c.Root.Readonly = false
		c.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1", "kernel.shmmni": "77"}
	})
	own := kerneltest.Command(t, "chown", "-R", "200000:200000", m.rootfs)
	if out, err := own.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	reachable(t, m.rootfs)
	for script, want := range map[string]string{
		"id -u; cat /proc/self/uid_map | tr -s ' '":             "0\n 0 200000 65536\n",
		"touch /new && stat -c %u /new":                         "0\n",
		"cat /proc/sys/net/ipv4/ip_forward":                     "1\n",
		"cat /proc/sys/kernel/shmmni":                           "77\n",
		"echo x >/dev/null && head -c 2 /dev/zero | wc -c":      "2\n",
		"stat -c '%u %g' /dev/shm /dev/mqueue":                  "0 0\n0 0\n",
		"grep CapBnd /proc/self/status":                         "CapBnd:\t0000000020000420\n",
		"grep -c . /proc/self/setgroups 2>/dev/null || echo no": "1\n",
	} {
		if got := m.sh(script); got != want {
			t.Errorf("%s: got %q, want %q", script, got, want)
		}
	}
	id := m.background("sleep", "1000")
	if got := m.must("exec", id, "sh", "-c", "id -u; tr -s ' ' </proc/self/uid_map; grep CapEff /proc/self/status"); got != "0\n 0 200000 65536\nCapEff:\t0000000020000420\n" {
		t.Errorf("exec: %q", got)
	}
}

// reachable opens the directories above path to everyone.
func reachable(tb testing.TB, path string) {
	tb.Helper()
	for d := filepath.Dir(path); strings.HasPrefix(d, os.TempDir()+"/"); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			tb.Fatal(err)
		}
	}
}

func TestUnified(t *testing.T) {
	m := newMachine(t, nil)
	kerneltest.UnifiedOnly(t)
	if got := m.sh("cat /proc/self/cgroup | tail -n 1; grep -c cgroup2 /proc/self/mountinfo; cat /sys/fs/cgroup/cgroup.procs"); got != "0::/\n1\n1\n" && !strings.HasPrefix(got, "0::/\n1\n1\n") {
		t.Errorf("got %q", got)
	}
	id := m.background("sleep", "1000")
	m.must("exec", id, "true")
	m.must("pause", id)
	if got := m.status(id); got != "paused" {
		t.Errorf("after pause: %s", got)
	}
	m.must("delete", "--force", id)
}

// limitFiles returns where a container sees its limits of processes and memory.
func limitFiles() []string {
	if _, err := os.Stat("/sys/fs/cgroup/memory"); err == nil {
		return []string{"/sys/fs/cgroup/pids/pids.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}
	}
	return []string{"/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/memory.max"}
}

func TestLimits(t *testing.T) {
	pids := int64(7)
	memory := int64(64 << 20)
	m := newMachine(t, func(c *specs.Spec) {
		c.Linux.Resources.Pids = &specs.LinuxPids{Limit: &pids}
		c.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &memory}
	})
	if got := m.sh("cat " + strings.Join(limitFiles(), " ")); got != "7\n67108864\n" {
		t.Errorf("got %q", got)
	}
	if got := m.sh("mknod /dev/sda b 8 0 2>/dev/null; head -c 1 /dev/vda 2>&1 | grep -c .; true"); strings.HasPrefix(got, "0") {
		t.Errorf("got %q", got)
	}
}

func TestBinds(t *testing.T) {
	data := t.TempDir()
	if err := os.WriteFile(filepath.Join(data, "f"), []byte("data"), 0o644); err != nil {
		t.Fatal(err)
	}
	m := newMachine(t, func(c *specs.Spec) {
		c.Root.Readonly = false
		c.Mounts = append(c.Mounts,
			specs.Mount{Destination: "/made/on/the/way", Type: "bind", Source: data, Options: []string{"rbind", "ro", "nosuid"}},
			specs.Mount{Destination: "/etc/one", Type: "bind", Source: filepath.Join(data, "f"), Options: []string{"bind", "rw", "rprivate"}},
			specs.Mount{Destination: "scratch", Type: "tmpfs", Source: "tmpfs", Options: []string{"size=1m", "mode=700", "noexec"}},
		)
	})
	got := m.sh(`cat /made/on/the/way/f /etc/one; echo
touch /made/on/the/way/x 2>/dev/null || echo read-only
grep -E ' /(made|scratch|etc)' /proc/self/mountinfo | sed 's/ - .*//' | awk '{print $5, $6}'
stat -c %a /scratch`)
	want := "datadata\nread-only\n/made/on/the/way ro,nosuid,relatime\n/etc/one rw,relatime\n/scratch rw,noexec,relatime\n700\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestPreservedDescriptors passes one on, and refuses to when it is not there.
func TestPreservedDescriptors(t *testing.T) {
	m := newMachine(t, nil)
	m.args("sh", "-c", "cat <&3; sh -c 'ls /proc/$PPID/fd | wc -l'; true")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	_, _ = w.WriteString("through 3\n")
	_ = w.Close()
	cmd := m.command("run", "--preserve-fds", "1", "--bundle", m.bundle, kerneltest.ID(t))
	cmd.ExtraFiles = []*os.File{r}
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "through 3\n4\n" {
		t.Errorf("got %q, %v", out, err)
	}
	if out, err := m.run("run", "--preserve-fds", "200", "--bundle", m.bundle, kerneltest.ID(t)); err == nil || !strings.Contains(out, "preserved-fd") {
		t.Errorf("got %q, %v", out, err)
	}
}

// TestKilledCreator kills the runtime at many moments of a creation. Whatever
// there is then, delete --force removes it, and nothing is left.
func TestKilledCreator(t *testing.T) {
	m := newMachine(t, func(c *specs.Spec) { c.Process.Args = []string{"sleep", "1000"} })
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	rounds := 60
	if testing.Short() {
		rounds = 10
	}
	for i := range rounds {
		id := kerneltest.ID(t)
		cmd := m.command("run", "--detach", "--bundle", m.bundle, id)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = null, null, null
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(time.Duration(i)*time.Millisecond/3, func() { _ = cmd.Process.Signal(syscall.SIGKILL) })
		_ = cmd.Wait()
		timer.Stop()
		// A child that has not been recorded ends by itself.
		m.must("delete", "--force", id)
		if left, _ := os.ReadDir(m.state); len(left) > 0 {
			t.Fatalf("round %d: left behind: %v", i, left)
		}
	}
}

func TestHooks(t *testing.T) {
	dir := t.TempDir()
	hook := func(name string) []specs.Hook {
		return []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", `cat >"$0/` + name + `"; echo ` + name + ` >>"$0/order"`, dir}, Env: []string{"PATH=/bin:/usr/bin"}}}
	}
	m := newMachine(t, func(c *specs.Spec) {
		c.Hooks = &specs.Hooks{
			Prestart:      hook("prestart"), //nolint:staticcheck // engines still use it
			CreateRuntime: hook("createRuntime"), Poststart: hook("poststart"), Poststop: hook("poststop"),
			// This one has the container's mounts below the host's root, the
			// next has the container's root.
			CreateContainer: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", `test -d "$0" && grep -q /mqueue /proc/self/mountinfo && echo "createContainer" >>"$0/order"`, dir}, Env: []string{"PATH=/bin:/usr/bin"}}},
			StartContainer:  []specs.Hook{{Path: "/bin/busybox", Args: []string{"sh", "-c", `read state; case $state in *created*) echo "startContainer $(hostname)" >/dev/shm/hook;; esac`}, Env: []string{"PATH=/bin"}}},
		}
	})
	m.args("cat", "/dev/shm/hook")
	id := kerneltest.ID(t)
	if out := m.must("run", "--bundle", m.bundle, id); out != "startContainer lade\n" {
		t.Errorf("the hook in the container left %q", out)
	}
	b, _ := os.ReadFile(filepath.Join(dir, "order"))
	if string(b) != "prestart\ncreateRuntime\ncreateContainer\npoststart\npoststop\n" {
		t.Errorf("order: %q", b)
	}
	var s specs.State
	b, _ = os.ReadFile(filepath.Join(dir, "prestart"))
	if err := json.Unmarshal(b, &s); err != nil || s.ID != id || s.Pid == 0 || s.Bundle != m.bundle {
		t.Errorf("state: %s, %v", b, err)
	}
	m.configure(func(c *specs.Spec) { c.Hooks.CreateRuntime = []specs.Hook{{Path: "/bin/false"}} })
	if out, err := m.run("run", "--bundle", m.bundle, kerneltest.ID(t)); err == nil || !strings.Contains(out, "/bin/false") {
		t.Errorf("a hook that fails: %q, %v", out, err)
	}
}

// TestForegroundSignals: what the runtime is sent, the container gets.
func TestForegroundSignals(t *testing.T) {
	m := newMachine(t, nil)
	m.args("sh", "-c", "trap 'echo term; exit 3' TERM; echo ready; while :; do sleep 0.01; done")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.SetReadDeadline(time.Now().Add(kerneltest.Patience)); err != nil {
		t.Fatal(err)
	}
	id := kerneltest.ID(t)
	cmd := m.command("run", "--bundle", m.bundle, id)
	cmd.Stdout = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer m.must("delete", "--force", id) // where it has missed the signal
	_ = w.Close()
	out := bufio.NewReader(r)
	if line, err := out.ReadString('\n'); line != "ready\n" {
		t.Fatalf("got %q, %v", line, err)
	}
	if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if line, err := out.ReadString('\n'); line != "term\n" {
		t.Errorf("after the signal: got %q, %v", line, err)
		_ = cmd.Process.Kill()
	}
	if err := cmd.Wait(); code(err) != 3 {
		t.Errorf("it ended with %v", err)
	}
}

// TestPod starts a container in the user and network namespace of another, and
// its own pid namespace made in there; a third joins all of them.
func TestPod(t *testing.T) {
	userNS := func(c *specs.Spec) {
		c.Root.Readonly = false
		c.Linux.Namespaces = append(c.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
		c.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 200000, Size: 65536}}
		c.Linux.GIDMappings = c.Linux.UIDMappings
	}
	m := newMachine(t, userNS)
	if out, err := kerneltest.Command(t, "chown", "-R", "200000:200000", m.rootfs).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	reachable(t, m.rootfs)
	infra := m.background("sleep", "1000")
	var s struct{ PID int }
	if err := json.Unmarshal([]byte(m.must("state", infra)), &s); err != nil {
		t.Fatal(err)
	}
	ns := func(name string) string { return "/proc/" + strconv.Itoa(s.PID) + "/ns/" + name }
	m.configure(func(c *specs.Spec) {
		c.Linux.CgroupsPath += "-2"
		for i := range c.Linux.Namespaces {
			switch n := &c.Linux.Namespaces[i]; n.Type {
			case specs.UserNamespace:
				n.Path = ns("user")
			case specs.NetworkNamespace:
				n.Path = ns("net")
			default:
			}
		}
	})
	network, _ := os.Readlink(ns("net"))
	want := "0\n 0 200000 65536\n" + network + "\n1\nCapEff:\t0000000020000420\n1\n"
	if got := m.sh("id -u; tr -s ' ' </proc/self/uid_map; readlink /proc/self/ns/net; echo $$; grep CapEff /proc/self/status; awk '{print $1}' /proc/1/stat"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	m.configure(func(c *specs.Spec) {
		for i := range c.Linux.Namespaces {
			if n := &c.Linux.Namespaces[i]; n.Type == specs.PIDNamespace {
				n.Path = ns("pid")
			}
		}
	})
	if got := m.sh("readlink /proc/self/ns/pid; test $$ -gt 1 && echo shared"); !strings.HasSuffix(got, "shared\n") {
		t.Errorf("got %q", got)
	}
}
