package e2e

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestChurn runs many containers, one after the other and at once, and then
// finds the kernel and the engine's directories as they were before.
func TestChurn(t *testing.T) {
	h := newHost(t)
	run := func(network string, n int) string {
		r := h.lade("run", "--rm", "--network", network, "lade/toolbox", "echo", fmt.Sprint(n))
		if r.code != 0 || r.stdout != fmt.Sprintln(n) {
			return fmt.Sprintf("container %d: exit %d, %q, %s", n, r.code, r.stdout, r.stderr)
		}
		return ""
	}
	// The first run makes what stays: the image. A bridge goes some time after
	// the last container on it.
	if msg := run("none", 0); msg != "" {
		t.Fatalf("%s\nengine: %s", msg, h.engineLog())
	}
	before := h.settled(nil)
	const sequential, parallel = 500, 50
	for n := range sequential {
		network := "none"
		if n%2 == 0 {
			network = "bridge"
		}
		if msg := run(network, n); msg != "" {
			t.Fatalf("%s\nengine: %s", msg, h.engineLog())
		}
	}
	var all sync.WaitGroup
	for n := range parallel {
		all.Go(func() {
			if msg := run("bridge", n); msg != "" {
				t.Error(msg)
			}
		})
	}
	all.Wait()
	h.checkLeft(before)
}

// checkLeft checks that nothing was added to a baseline.
func (h *host) checkLeft(before baseline) {
	h.t.Helper()
	for kind, list := range h.settled(before) {
		if more := gained(before[kind], list); len(more) > 0 {
			h.t.Errorf("%s were left:\n%s", kind, strings.Join(more, "\n"))
		}
	}
}

// gained returns what of after was not there before. What went meanwhile was
// not this engine's.
func gained(before, after []string) (more []string) {
	count := map[string]int{}
	for _, v := range before {
		count[v]++
	}
	for _, v := range after {
		if count[v]--; count[v] < 0 {
			more = append(more, v)
		}
	}
	return more
}

// baseline is what the kernel and the disk hold for an engine.
type baseline map[string][]string

// settled returns the baseline; given an earlier one, it waits until the two
// agree, and without one until nothing but the engine runs and no container's
// directory is left: the kernel takes links and namespaces down after the
// process that held them was reported gone, and the engine its directories
// after it has answered. Neither tells anybody.
func (h *host) settled(want baseline) baseline {
	h.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var got baseline
	for range 100 {
		got = h.baseline()
		if want == nil && h.idle(got) || want != nil && cmp.Equal(want, got) {
			break
		}
		<-tick.C
	}
	return got
}

func (h *host) idle(b baseline) bool {
	dirs, _ := filepath.Glob(h.dir + "/[ds]/containers/*")
	return len(b["processes"]) <= 1 && len(dirs) == 0
}

func (h *host) baseline() baseline {
	b := baseline{}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		b["mounts"] = append(b["mounts"], strings.Fields(line)[4])
	}
	for _, pattern := range []string{"/sys/fs/cgroup/*/lade", "/sys/fs/cgroup/*/lade/*", "/sys/fs/cgroup/lade/*"} {
		dirs, _ := filepath.Glob(pattern)
		for _, d := range dirs {
			if fi, err := os.Stat(d); err == nil && fi.IsDir() {
				b["cgroups"] = append(b["cgroups"], d)
			}
		}
	}
	for name, args := range map[string][]string{"links": {"ip", "-o", "link"}, "rules": {"nft", "list", "ruleset"}} {
		out, _ := exec.Command(args[0], args[1:]...).Output()
		for line := range strings.Lines(string(out)) {
			if name != "links" || strings.Contains(line, "lade") {
				b[name] = append(b[name], strings.Join(strings.Fields(line)[:min(2, len(strings.Fields(line)))], " "))
			}
		}
	}
	b["processes"] = h.processes()
	_ = filepath.WalkDir(h.dir, func(p string, d fs.DirEntry, err error) error {
		// A lade that finds no engine leaves its lock for the next one; events are
		// kept, up to a bound.
		if err == nil && !strings.HasSuffix(p, ".journal") && !strings.HasSuffix(p, "laded.log") && !strings.HasSuffix(p, "start.lock") {
			b["files"] = append(b["files"], p)
		}
		return nil
	})
	for _, list := range b {
		slices.Sort(list)
	}
	return b
}

// processes returns the command lines of all processes that belong to this
// engine, by its directory in their arguments or environment.
func (h *host) processes() (found []string) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		args, _ := os.ReadFile(d + "/cmdline")
		env, _ := os.ReadFile(d + "/environ")
		if bytes.Contains(args, []byte(h.dir)) || bytes.Contains(env, []byte("LADE_STATE_DIR="+h.dir)) {
			found = append(found, strings.ReplaceAll(string(args), "\x00", " "))
		}
	}
	return found
}
