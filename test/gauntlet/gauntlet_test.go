// Package gauntlet_test attacks the runtime as it is installed, by its command
// line alone.
package gauntlet_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"lade/internal/gauntlet"
	"lade/test/kerneltest"
)

func TestMain(m *testing.M) { kerneltest.Main(m, kerneltest.Options{}) }

// machine builds a runtime of its own, and returns it with a directory that
// users of containers can pass.
func machine(t *testing.T) (gauntlet.Runtime, string) {
	t.Helper()
	kerneltest.Root(t)
	dir, err := os.MkdirTemp("", "gauntlet-") //nolint:usetesting // that of t is closed to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	path := os.Getenv("LADE_GAUNTLET_RUNTIME")
	if path == "" {
		path = filepath.Join(t.TempDir(), "lade-runtime")
		if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", path, "lade/cmd/lade-runtime").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	r, err := gauntlet.Runtime{Path: path, Rootfs: gauntlet.Busybox}.Copy(dir)
	if err != nil {
		t.Fatal(err)
	}
	return r, dir
}

// TestRows: every attack fails, and its legal neighbour works.
func TestRows(t *testing.T) {
	r, dir := machine(t)
	for i, row := range gauntlet.Rows() {
		t.Run(fmt.Sprintf("%02d %s %s", row.Number, row.CVE, row.Name), func(t *testing.T) {
			o := gauntlet.Try(t.Context(), r, row, filepath.Join(dir, fmt.Sprint(i)))
			if o.Verdict() != "green" {
				t.Errorf("%s: %s %v", o.Verdict(), o.Harm, o.Error)
			}
		})
	}
}

// TestBroken: a runtime that refuses everything is not praised for it.
func TestBroken(t *testing.T) {
	_, dir := machine(t)
	refuses := filepath.Join(dir, "refuses")
	script := "#!/bin/sh\nfor a; do case $a in --version) echo refuses; exit;; spec) exec lade-runtime spec;; esac; done; echo no >&2; exit 1\n"
	if err := os.WriteFile(refuses, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if gauntlet.Scoreboard(t.Context(), &out, gauntlet.Runtime{Path: refuses, Rootfs: gauntlet.Busybox, Version: "refuses", Env: []string{"PATH=" + dir + ":" + os.Getenv("PATH")}}, filepath.Join(dir, "broken")) {
		t.Errorf("green:\n%s", &out)
	}
	if !strings.Contains(out.String(), fmt.Sprintf("\n0 green, 0 red, %d broken\n", len(gauntlet.Rows()))) {
		t.Errorf("not all are broken:\n%s", &out)
	}
}
