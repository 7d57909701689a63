package cgroup

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/linux/devfilter"
	"lade/test/kerneltest"
)

func TestMain(m *testing.M) { kerneltest.Main(m, kerneltest.Options{}) }

// layouts runs a test on this machine as it is, with v1 alone and with v2 alone.
func layouts(t *testing.T, f func(t *testing.T, l Layout)) {
	t.Helper()
	kerneltest.Root(t)
	detect := func(t *testing.T) Layout {
		t.Helper()
		l, err := Detect()
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	t.Run("as it is", func(t *testing.T) { f(t, detect(t)) })
	t.Run("v1", func(t *testing.T) {
		l := detect(t)
		l.Hierarchies = slices.DeleteFunc(l.Hierarchies, func(h Hierarchy) bool { return h.V2 })
		if len(l.Hierarchies) > 0 {
			f(t, l)
		}
	})
	t.Run("v2", func(t *testing.T) {
		kerneltest.UnifiedOnly(t)
		l := detect(t)
		if !l.Unified() {
			t.Fatalf("got %+v", l)
		}
		f(t, l)
	})
}

// create makes a group that goes when the test ends.
func create(t *testing.T, l Layout, path string, r *specs.LinuxResources) Group {
	t.Helper()
	p, err := l.Plan(path, "c", r)
	if err != nil {
		t.Fatal(err)
	}
	if err := Do(p.Steps); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Group.Kill(context.Background()); err != nil {
			t.Error(err)
		}
		if err := p.Group.Remove(context.Background()); err != nil {
			t.Error(err)
		}
		for _, d := range p.Group.Dirs {
			if _, err := os.Stat(d.Path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s is left: %v", d.Path, err)
			}
		}
	})
	return p.Group
}

// start runs a shell script in the group; the script starts once it has joined.
func start(t *testing.T, g Group, script string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	var out bytes.Buffer
	cmd := kerneltest.Command(t, "/bin/busybox", "sh", "-c", "read x; "+script)
	cmd.Stdout, cmd.Stderr = &out, &out
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := g.Join(cmd.Process.Pid); err != nil {
		_ = cmd.Process.Kill()
		t.Fatal(err)
	}
	if _, err := io.WriteString(in, "go\n"); err != nil {
		t.Fatal(err)
	}
	_ = in.Close()
	return cmd, &out
}

func TestJoinListKillRemove(t *testing.T) {
	layouts(t, func(t *testing.T, l Layout) {
		t.Helper()
		g := create(t, l, "/"+kerneltest.ID(t), nil)
		// Two shells, one of which forks without end.
		a, _ := start(t, g, "sleep 1000")
		b, _ := start(t, g, "while :; do /bin/busybox sleep 0.01 & wait; done")
		pids, err := g.Procs()
		if err != nil || !slices.Contains(pids, a.Process.Pid) || !slices.Contains(pids, b.Process.Pid) {
			t.Fatalf("got %v, %v", pids, err)
		}
		if err := g.Kill(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, cmd := range []*exec.Cmd{a, b} {
			var exit *exec.ExitError
			if err := cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
				t.Errorf("got %v", err)
			}
		}
		if err := g.Remove(t.Context()); err != nil {
			t.Fatal(err)
		}
		if pids, err := g.Procs(); err != nil || len(pids) > 0 {
			t.Errorf("after removal: %v, %v", pids, err)
		}
		if err := g.Kill(t.Context()); err != nil {
			t.Errorf("kill after removal: %v", err)
		}
	})
}

// TestRemoveWaits removes a group while its last process is still there.
func TestRemoveWaits(t *testing.T) {
	layouts(t, func(t *testing.T, l Layout) {
		t.Helper()
		g := create(t, l, "/"+kerneltest.ID(t), nil)
		cmd, _ := start(t, g, "sleep 0.2")
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		if err := g.Remove(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestRemoveGivesUp(t *testing.T) {
	layouts(t, func(t *testing.T, l Layout) {
		t.Helper()
		g := create(t, l, "/"+kerneltest.ID(t), nil)
		cmd, _ := start(t, g, "sleep 1000")
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if err := g.Remove(ctx); !errors.Is(err, unix.EBUSY) {
			t.Errorf("got %v", err)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

// TestRemoveTakesWhatTheContainerMade: a container may make cgroups of its own.
func TestRemoveTakesWhatTheContainerMade(t *testing.T) {
	layouts(t, func(t *testing.T, l Layout) {
		t.Helper()
		g := create(t, l, "/"+kerneltest.ID(t), nil)
		for _, d := range g.Dirs {
			if err := os.MkdirAll(filepath.Join(d.Path, "a/b"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestFreeze(t *testing.T) {
	layouts(t, func(t *testing.T, l Layout) {
		t.Helper()
		g := create(t, l, "/"+kerneltest.ID(t), nil)
		cmd, _ := start(t, g, "while :; do :; done")
		cpu := func() string {
			b, err := os.ReadFile("/proc/" + itoa(int64(cmd.Process.Pid)) + "/stat")
			if err != nil {
				t.Fatal(err)
			}
			f := strings.Fields(string(b))
			return f[13] + " " + f[14]
		}
		if err := g.Freeze(t.Context()); err != nil {
			t.Fatal(err)
		}
		if frozen, err := g.Frozen(); !frozen || err != nil {
			t.Errorf("frozen: %v, %v", frozen, err)
		}
		before := cpu()
		// Meanwhile the machine works on for others.
		if out, err := kerneltest.Command(t, "/bin/busybox", "sh", "-c", "i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if after := cpu(); after != before {
			t.Errorf("it ran while frozen: %s, then %s", before, after)
		}
		if err := g.Thaw(); err != nil {
			t.Fatal(err)
		}
		if frozen, err := g.Frozen(); frozen || err != nil {
			t.Errorf("thawed: %v, %v", frozen, err)
		}
		// A kill gets through to a frozen group.
		if err := g.Freeze(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := g.Kill(t.Context()); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
	})
}

func TestDevices(t *testing.T) {
	layouts(t, func(t *testing.T, l Layout) {
		t.Helper()
		loop := int64(7)
		g := create(t, l, "/"+kerneltest.ID(t), &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{
			{Access: "rwm"}, {Allow: true, Type: "b", Major: &loop, Access: "r"},
		}})
		cmd, out := start(t, g, "head -c1 /dev/zero | wc -c; head -c1 /dev/kmsg; head -c0 /dev/loop0 && echo fine; echo x >/dev/loop0")
		_ = cmd.Wait()
		got := out.String()
		if !strings.HasPrefix(got, "1\n") || !strings.Contains(got, "/dev/kmsg: Operation not permitted") ||
			!strings.Contains(got, "fine\n") || !strings.Contains(got, "create /dev/loop0: Operation not permitted") {
			t.Errorf("got %q", got)
		}
	})
}

// TestLimits sets what the machine's controllers can and reads it back.
func TestLimits(t *testing.T) {
	kerneltest.Root(t)
	l, err := Detect()
	if err != nil {
		t.Fatal(err)
	}
	r := &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: true}}}
	if l.find("memory") >= 0 {
		r.Memory = &specs.LinuxMemory{Limit: new(int64(32 << 20)), Reservation: new(int64(16 << 20))}
	}
	if l.find("pids") >= 0 {
		r.Pids = &specs.LinuxPids{Limit: new(int64(3))}
	}
	if l.find("cpu") >= 0 {
		r.CPU = &specs.LinuxCPU{Shares: new(uint64(512)), Quota: new(int64(50000)), Period: new(uint64(100000))}
	}
	path := "/" + kerneltest.ID(t)
	t.Cleanup(func() {
		for _, h := range l.Hierarchies {
			_ = os.Remove(h.Mount + path)
		}
	})
	g := create(t, l, path+"/below", r)
	if l.find("pids") >= 0 {
		cmd, out := start(t, g, "(sleep 9 & sleep 9 & sleep 9 & sleep 9 & wait) 2>&1")
		waited := make(chan struct{})
		go func() { _ = cmd.Wait(); close(waited) }()
		select {
		case <-waited:
		case <-time.After(2 * time.Second):
			_ = g.Kill(t.Context())
			<-waited
		}
		if !strings.Contains(out.String(), "can't fork") {
			t.Errorf("beyond the limit of processes: %q", out)
		}
	}
	if l.find("memory") >= 0 {
		cmd, out := start(t, g, "exec head -c 100000000 /dev/zero | tail -c 90000000 >/dev/null")
		_ = cmd.Wait()
		kills, err := g.OOMKills()
		peak, err2 := g.PeakMemory()
		if kills == 0 || err != nil || peak < 30<<20 || peak > 33<<20 || err2 != nil {
			t.Errorf("%d out-of-memory kills (%v), peak %d (%v), %q", kills, err, peak, err2, out)
		}
	}
	// More, then less; each needs its own order of writes.
	for _, size := range []int64{64 << 20, 48 << 20} {
		more := &specs.LinuxResources{}
		if r.Memory != nil {
			more.Memory = &specs.LinuxMemory{Limit: &size}
		}
		if r.CPU != nil {
			more.CPU = &specs.LinuxCPU{Quota: new(size / 1000), Period: new(uint64(size) / 500)}
		}
		steps, err := l.Update(g, more)
		if err != nil {
			t.Fatal(err)
		}
		if err := Do(steps); err != nil {
			t.Error(err)
		}
	}
	s, err := g.Stats()
	if err != nil {
		t.Fatal(err)
	}
	if r.Memory != nil && (s.Memory.Limit != 48<<20 || s.Memory.Peak == 0 || s.Memory.OOMKills == 0) || r.Pids != nil && s.Pids.Limit != 3 || s.CPU.Usage == 0 {
		t.Errorf("got %+v", s)
	}
}

func TestStepErrors(t *testing.T) {
	dir := t.TempDir()
	missing := Step{Op: Write, Path: dir + "/a", Value: "1", Why: "linux.resources.x"}
	err := missing.Do()
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "linux.resources.x") || !strings.Contains(err.Error(), dir+"/a") {
		t.Errorf("got %v", err)
	}
	missing.Tolerate = []unix.Errno{unix.ENOENT}
	if err := missing.Do(); err != nil {
		t.Errorf("tolerated: %v", err)
	}
	if err := os.WriteFile(dir+"/b", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	or := Step{Op: Write, Path: dir + "/a", Value: "1", Why: "y", Else: &Step{Op: Write, Path: dir + "/b", Value: "2", Why: "y"}}
	if err := or.Do(); err != nil {
		t.Error(err)
	}
	if b, _ := os.ReadFile(dir + "/b"); string(b) != "2" {
		t.Errorf("else: %q", b)
	}
	filter := Step{Op: Filter, Path: dir, Why: "z", policy: devfilter.Policy{}}
	if err := filter.Do(); err == nil {
		t.Error("a filter on an ordinary directory: no error")
	}
}
