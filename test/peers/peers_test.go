// Package peers puts lade-runtime under other people's engines: Podman with
// conmon, and containerd with its shim for runc. They run the Debian image of
// test/fixture, and must not notice whose runtime it is.
package peers

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lade/test/kerneltest"
)

// Podman keeps /run/libpod and its lock segment, containerd nothing.
func TestMain(m *testing.M) { kerneltest.Main(m, kerneltest.Options{}) }

// runtimeUnderTest returns the path of lade-runtime, or of the runtime that
// LADE_TEST_RUNTIME names: a way to see what a peer makes of runc.
func runtimeUnderTest(t *testing.T) string {
	t.Helper()
	kerneltest.Root(t)
	if r := os.Getenv("LADE_TEST_RUNTIME"); r != "" {
		return r
	}
	if bin := os.Getenv("LADE_TEST_BIN"); bin != "" {
		return bin + "/lade-runtime"
	}
	out := t.TempDir() + "/lade-runtime"
	c := exec.Command("go", "build", "-trimpath", "-o", out, "lade/cmd/lade-runtime")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := c.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, text)
	}
	return out
}

// engine is a peer's command line.
type engine struct {
	program string
	global  []string
	run     []string // what comes between "run" and the container's arguments
	image   string
}

type result struct {
	stdout, stderr string
	code           int
}

func (e engine) do(t *testing.T, stdin io.Reader, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, e.program, append(append([]string{}, e.global...), args...)...)
	var out, errs bytes.Buffer
	c.Stdin, c.Stdout, c.Stderr = stdin, &out, &errs
	// What inherits the pipes must not hold the test.
	c.WaitDelay = 5 * time.Second
	err := c.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited && !errors.Is(err, exec.ErrWaitDelay) {
		t.Fatalf("%s %q: %v\n%s", e.program, args, err, errs.String())
	}
	return result{out.String(), errs.String(), c.ProcessState.ExitCode()}
}

func (e engine) must(t *testing.T, args ...string) string {
	t.Helper()
	r := e.do(t, nil, args...)
	if r.code != 0 {
		t.Fatalf("%s %q: exit %d\n%s%s", filepath.Base(e.program), args, r.code, r.stdout, r.stderr)
	}
	return strings.TrimSpace(r.stdout)
}

// layout returns the OCI layout of the Debian image.
func layout(t *testing.T) string {
	t.Helper()
	cache := os.Getenv("LADE_TEST_CACHE")
	if cache == "" {
		d, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = d + "/lade-test"
	}
	if out, err := exec.Command("../fixture/debian-image", cache).CombinedOutput(); err != nil {
		t.Fatalf("make the Debian image: %v\n%s", err, out)
	}
	return cache + "/oci:bookworm"
}

func installed(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatalf("%v (script/setup installs it)", err)
	}
	return path
}
