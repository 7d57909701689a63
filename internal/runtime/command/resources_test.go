package command_test

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/linux/cgroup"
	"lade/test/kerneltest"
)

// cgroupFile returns what a file of a container's cgroup holds, "" where this
// machine has no such controller.
func cgroupFile(t *testing.T, path string, names ...string) string {
	t.Helper()
	l, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range l.Hierarchies {
		for _, name := range names {
			if b, err := os.ReadFile(filepath.Join(h.Mount, path, name)); err == nil {
				return strings.TrimSpace(string(b))
			}
		}
	}
	return ""
}

// TestUpdateFlags asserts that single values change, that what is not named stays,
// and that what is no value is refused.
func TestUpdateFlags(t *testing.T) {
	var path string
	m := newMachine(t, func(c *specs.Spec) {
		path = c.Linux.CgroupsPath
		c.Linux.Resources.CPU = &specs.LinuxCPU{Quota: new(int64(50_000)), Period: new(uint64(100_000))}
		c.Linux.Resources.Pids = &specs.LinuxPids{Limit: new(int64(20))}
	})
	id := m.background("sleep", "1000")
	m.must("update", "--pids-limit", "30", id)
	if got := cgroupFile(t, path, "pids.max"); got != "30" {
		t.Errorf("pids.max is %q", got)
	}
	m.must("update", "--cpu-period", "200000", id)
	if got := cgroupFile(t, path, "cpu.cfs_quota_us", "cpu.max"); got != "50000" && got != "50000 200000" {
		t.Errorf("the quota is %q", got)
	}
	if m.must("update", "--memory", "64M", "--memory-reservation", "", id); cgroupFile(t, path, "memory.limit_in_bytes", "memory.max") != "67108864" {
		t.Errorf("the limit of memory is %q", cgroupFile(t, path, "memory.limit_in_bytes", "memory.max"))
	}
	for _, bad := range [][]string{{"--memory", "64Q", id}, {"--cpu-period", "-1", id}, {"--pids-limit", "x", id}, {"--memory", "1e3", id}, {}, {"nosuch"}} {
		if out, err := m.run(append([]string{"update"}, bad...)...); err == nil {
			t.Errorf("%v: %q", bad, out)
		}
	}
}

// TestEvents reads the stream until the container ends, which ends the stream.
func TestEvents(t *testing.T) {
	m := newMachine(t, nil)
	id := m.background("sleep", "1000")
	var one struct {
		Type, ID string
		Data     struct{ Pids struct{ Current int } }
	}
	if err := json.Unmarshal([]byte(m.must("events", "--stats", id)), &one); err != nil || one.Type != "stats" || one.ID != id || one.Data.Pids.Current != 1 {
		t.Errorf("got %+v, %v", one, err)
	}
	stream := m.command("events", "--interval", "5ms", id)
	out, err := stream.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for range 3 {
		if !lines.Scan() || !strings.HasPrefix(lines.Text(), `{"type":"stats","id":"`+id+`","data":{`) {
			t.Fatalf("got %q, %v", lines.Text(), lines.Err())
		}
	}
	m.must("delete", "--force", id)
	for lines.Scan() { // the rest
	}
	if err := stream.Wait(); err != nil {
		t.Errorf("the stream ended with %v", err)
	}
	if out, err := m.run("events", "--interval", "0s", id); err == nil {
		t.Errorf("no interval: %q", out)
	}
}

// TestForeignCgroup asserts that nobody's limits become another's, and that the
// refusal leaves the other alone.
func TestForeignCgroup(t *testing.T) {
	m := newMachine(t, nil)
	id := m.background("sleep", "1000")
	out, err := m.run("run", "--bundle", m.bundle, kerneltest.ID(t))
	if err == nil || !strings.Contains(out, "container's cgroup is not empty") {
		t.Errorf("got %q, %v", out, err)
	}
	if got := m.status(id); got != "running" {
		t.Errorf("the other is %s", got)
	}
}

// TestExecBelow asserts where --cgroup may lead, and where not.
func TestExecBelow(t *testing.T) {
	var path string
	m := newMachine(t, func(c *specs.Spec) { path = c.Linux.CgroupsPath })
	id := m.background("sleep", "1000")
	l, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range l.Hierarchies {
		if slices.Contains(h.Controllers, "pids") {
			if err := os.Mkdir(filepath.Join(h.Mount, path, "below"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	if out := m.must("exec", "--cgroup", "pids:below", id, "grep", "-c", ":/below$", "/proc/self/cgroup"); out != "1\n" {
		t.Errorf("got %q", out)
	}
	for path, want := range map[string]string{"../x": "bad sub cgroup path", "nosuch": "no such file or directory", "nosuch:/": "unknown controller nosuch"} {
		if out, err := m.run("exec", "--cgroup", path, id, "true"); code(err) != 255 || !strings.Contains(out, want) {
			t.Errorf("%s: got %q, %v", path, out, err)
		}
	}
}

// TestEnvironment asserts that of two values the last counts, alone.
func TestEnvironment(t *testing.T) {
	m := newMachine(t, func(c *specs.Spec) {
		c.Process.Env = []string{"A=1", "PATH=/bin", "HOME=/x", "A=2", "HOME="}
		c.Process.Args = []string{"env"}
	})
	if out, err := m.run("run", "--bundle", m.bundle, kerneltest.ID(t)); out != "PATH=/bin\nA=2\nHOME=/\n" && out != "PATH=/bin\nA=2\nHOME=/root\n" || err != nil {
		t.Errorf("got %q, %v", out, err)
	}
}

// TestWarnings asserts that what is not done is told of, in the log where
// there is one.
func TestWarnings(t *testing.T) {
	m := newMachine(t, func(c *specs.Spec) {
		c.Process.Capabilities.Ambient = []string{"CAP_KILL", "CAP_NOSUCH"}
		c.Process.Args = []string{"true"}
	})
	log := filepath.Join(t.TempDir(), "log")
	if out, err := m.run("--log", log, "--log-format", "json", "run", "--bundle", m.bundle, kerneltest.ID(t)); err != nil || out != "" {
		t.Fatalf("got %q, %v", out, err)
	}
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"can't raise ambient capability CAP_KILL: ", "CAP_NOSUCH"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("the log %q lacks %q", b, want)
		}
	}
	if !strings.HasPrefix(string(b), `{"level":"warning",`) {
		t.Errorf("the log begins %q", b)
	}
}

func TestHelp(t *testing.T) {
	m := newMachine(t, nil)
	for _, args := range [][]string{{"-h"}, {"--help"}, {"run", "-h"}, {"pause", "--help"}, {"exec", "-d", "-h"}, {"features", "-h"}} {
		if out := m.must(args...); !strings.HasPrefix(out, "NAME:\n   lade-runtime") {
			t.Errorf("%v: %q", args, out)
		}
	}
	if out, err := m.run("nosuch", "-h"); err == nil || !strings.Contains(out, "No help topic for 'nosuch'") {
		t.Errorf("got %q, %v", out, err)
	}
}
