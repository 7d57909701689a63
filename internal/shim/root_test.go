package shim_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lade/internal/linux/mount"
	"lade/internal/shim"
	"lade/test/kerneltest"
)

// The root is mounted where the shim and the container see it, and nobody else,
// whoever puts it together.
func TestRoot(t *testing.T) {
	kerneltest.Root(t)
	runtime := build(t, "lade-runtime")
	for _, tt := range []struct {
		name         string
		comes, given bool
	}{
		{"the shim's at its start", false, false},
		{"given to a shim that has its own", false, true}, // as to a shim of an earlier version
		{"given", true, true},
		{"to come, but not given", true, false},
	} {
		t.Run(tt.name, func(t *testing.T) { testRoot(t, realRig(t, runtime), tt.comes, tt.given) })
	}
}

func testRoot(t *testing.T, r *rig, comes, given bool) {
	t.Helper()
	const script = "echo kept >/file; cat /file; read x"
	cfg := r.config(script)
	cfg.Stdin, cfg.RootComes = true, comes
	work := t.TempDir()
	cfg.Root = &mount.Root{
		Layers: []mount.Layer{{Path: r.rootfs, Kind: mount.Directory}},
		Upper:  filepath.Join(work, "upper"), Work: filepath.Join(work, "work"),
	}
	for _, d := range []string{cfg.Root.Upper, cfg.Root.Work, filepath.Join(cfg.Bundle, shim.RootName)} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r.rootfs = shim.RootName
	r.write(cfg, script)
	s, a := client(t, interactive)
	c, err := shim.Begin(r.shim, cfg, []shim.Attach{a})
	if err != nil {
		t.Fatal(err)
	}
	var root *os.File
	if given {
		other := *cfg.Root
		if !comes { // the shim mounts its own: the same upper twice is an error
			other.Upper, other.Work = "", ""
		}
		if root, err = new(mount.Pool).File(&other); err != nil {
			t.Skipf("detached layers: %v", err)
		}
	}
	pid, err := c.Create(t.Context(), root)
	if root != nil {
		root.Close()
	}
	if err != nil || pid <= 0 {
		t.Fatalf("create: %d, %v", pid, err)
	}
	s.until(t, "kept")
	if b, err := os.ReadFile(filepath.Join(cfg.Root.Upper, "file")); err != nil || string(b) != "kept\n" {
		t.Errorf("the writable layer has %q, %v", b, err)
	}
	ours, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(ours), cfg.Bundle) {
		t.Errorf("the root is mounted here: %v", err)
	}
	at := filepath.Join(cfg.Bundle, shim.RootName)
	if es, err := os.ReadDir(at); err != nil || len(es) != 0 {
		t.Errorf("the root is seen here: %v, %v", es, err)
	}
	// But the engine can look into it.
	if _, err := os.Stat(fmt.Sprintf("/proc/%d/root%s/bin/sh", c.PID(), at)); err != nil {
		t.Error(err)
	}
	s.say(t, "\n")
	gone(t, c, cfg)
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := os.RemoveAll(work); err != nil {
		t.Error(err)
	}
}

// A root that cannot be mounted is told of, and the shim leaves.
func TestRootFails(t *testing.T) {
	kerneltest.Root(t)
	for _, comes := range []bool{false, true} {
		r := fakeRig(t)
		cfg := r.config("true")
		cfg.Root = &mount.Root{Layers: []mount.Layer{{Path: "/no/such/layer", Kind: mount.Directory}}}
		cfg.RootComes = comes
		c, err := shim.Begin(r.shim, cfg, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Create(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "/no/such/layer") {
			t.Errorf("comes %t: error %v", comes, err)
		}
		within(t, "the shim's end", c.Done())
		_ = c.Close()
	}
}
