package shim_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/linux/scm"
	"lade/internal/logs"
	"lade/internal/shim"
	"lade/test/kerneltest"
)

// rig makes bundles for one runtime.
type rig struct {
	t       testing.TB
	shim    string
	runtime string
	args    []string
	root    string     // of the runtime
	rootfs  string     // "" for the fake, which has none
	size    *specs.Box // of terminals
}

// onRuntimes runs a test with the fake runtime, and with each real one there is.
func onRuntimes(t *testing.T, test func(r *rig)) {
	t.Helper()
	t.Run("fake", func(t *testing.T) { test(fakeRig(t)) })
	if os.Geteuid() != 0 || testing.Short() {
		return
	}
	t.Run("lade-runtime", func(t *testing.T) { test(realRig(t, build(t, "lade-runtime"))) })
	// Not crun: on a machine with a hybrid layout, 1.8 leaves cgroups behind.
	if path, err := exec.LookPath("runc"); err == nil {
		t.Run("runc", func(t *testing.T) { test(realRig(t, path)) })
	}
}

// build returns a program of this module: that in LADE_TEST_BIN, if it is set.
func build(tb testing.TB, name string) string {
	tb.Helper()
	if dir := os.Getenv("LADE_TEST_BIN"); dir != "" {
		return filepath.Join(dir, name)
	}
	out := filepath.Join(tb.TempDir(), name)
	cmd := exec.CommandContext(tb.Context(), "go", "build", "-ldflags=-s -w", "-o", out, "lade/cmd/"+name)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("build %s: %v\n%s", name, err, b)
	}
	return out
}

func fakeRig(t *testing.T) *rig {
	t.Helper()
	return &rig{t: t, shim: play(t, "lade-shim"), runtime: play(t, "fake-runtime"), root: t.TempDir()}
}

func realRig(t *testing.T, path string) *rig {
	t.Helper()
	return &rig{t: t, shim: play(t, "lade-shim"), runtime: path, root: t.TempDir(), rootfs: kerneltest.Busybox(t)}
}

// config makes a bundle that runs a shell script.
func (r *rig) config(script string) shim.Config {
	r.t.Helper()
	dir := r.t.TempDir()
	cfg := shim.Config{
		ID: kerneltest.ID(r.t), Bundle: filepath.Join(dir, "bundle"), Runtime: r.runtime, RuntimeRoot: r.root,
		RuntimeArgs: r.args, Log: logs.Config{Dir: filepath.Join(dir, "log")}, StartNow: true,
	}
	if err := os.Mkdir(cfg.Bundle, 0o700); err != nil {
		r.t.Fatal(err)
	}
	r.write(cfg, script)
	return cfg
}

// write writes the bundle's config.json.
func (r *rig) write(cfg shim.Config, script string) {
	r.t.Helper()
	r.writeArgs(cfg, "sh", "-c", script)
}

func (r *rig) writeArgs(cfg shim.Config, args ...string) {
	r.t.Helper()
	spec := specs.Spec{Version: "1.0.2", Process: r.process(cfg.Terminal, args...), Hostname: "t"}
	if r.rootfs != "" {
		spec.Root = &specs.Root{Path: r.rootfs}
		spec.Mounts = []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "mode=755"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"newinstance", "ptmxmode=0666", "mode=0620"}},
		}
		spec.Linux = &specs.Linux{CgroupsPath: "/" + cfg.ID, Resources: &specs.LinuxResources{}}
		for _, ns := range []specs.LinuxNamespaceType{specs.PIDNamespace, specs.MountNamespace, specs.IPCNamespace, specs.UTSNamespace, specs.NetworkNamespace} {
			spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: ns})
		}
	}
	r.save(cfg, spec)
}

func (r *rig) save(cfg shim.Config, spec specs.Spec) {
	r.t.Helper()
	b, err := json.Marshal(spec)
	if err == nil {
		err = os.WriteFile(filepath.Join(cfg.Bundle, "config.json"), b, 0o600)
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) process(terminal bool, args ...string) *specs.Process {
	return &specs.Process{
		Args: args, Cwd: "/", Terminal: terminal, ConsoleSize: r.size, Env: []string{"PATH=/bin:/usr/bin"},
		Capabilities: &specs.LinuxCapabilities{Bounding: []string{"CAP_KILL"}, Effective: []string{"CAP_KILL"}, Permitted: []string{"CAP_KILL"}},
	}
}

func (r *rig) exec(tb testing.TB, id string, terminal bool, script string) shim.ExecConfig {
	tb.Helper()
	b, err := json.Marshal(r.process(terminal, "sh", "-c", script))
	if err != nil {
		tb.Fatal(err)
	}
	return shim.ExecConfig{ID: id, Process: b, Terminal: terminal}
}

// launch starts a shim and sees to it that nothing is left.
func launch(tb testing.TB, r *rig, cfg shim.Config, attach ...shim.Attach) *shim.Conn {
	tb.Helper()
	c, err := shim.Launch(tb.Context(), r.shim, cfg, attach)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := c.Signal(ctx, 9, "clean-up"); err != nil {
			_ = c.Close() // a fresh shim leaves
			return
		}
		select {
		case <-c.Done():
		case <-ctx.Done():
			tb.Error("the shim does not leave")
		}
		_ = c.Close()
		if b, _ := os.ReadFile(filepath.Join(cfg.Bundle, shim.StderrName)); len(b) > 0 {
			tb.Errorf("the shim complains: %s", b)
		}
	})
	return c
}

// run launches and creates.
func run(tb testing.TB, r *rig, cfg shim.Config, attach ...shim.Attach) *shim.Conn {
	tb.Helper()
	c := launch(tb, r, cfg, attach...)
	if pid, err := c.Create(tb.Context(), nil); err != nil || pid <= 0 {
		tb.Fatalf("create: pid %d, %v", pid, err)
	}
	return c
}

// gone waits until the shim has left and returns the exit record.
func gone(tb testing.TB, c *shim.Conn, cfg shim.Config) shim.Exit {
	tb.Helper()
	within(tb, "the shim's end", c.Done())
	e, err := shim.ReadExit(cfg.ExitPath())
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

func within[T any](tb testing.TB, what string, c <-chan T) T {
	tb.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(30 * time.Second):
		tb.Fatalf("waited too long for %s", what)
		panic("unreachable")
	}
}

// session is a client's side of an attachment.
type session struct {
	*net.UnixConn
}

// client returns a client and what to give to the shim for it.
func client(tb testing.TB, a shim.Attach) (session, shim.Attach) {
	tb.Helper()
	ours, theirs, err := scm.Pair()
	if err != nil {
		tb.Fatal(err)
	}
	a.File = os.NewFile(uintptr(theirs), "client")
	f := os.NewFile(uintptr(ours), "client")
	conn, err := net.FileConn(f)
	if err != nil {
		tb.Fatal(err)
	}
	_ = f.Close()
	tb.Cleanup(func() { _ = conn.Close(); _ = a.File.Close() })
	return session{conn.(*net.UnixConn)}, a
}

var (
	interactive = shim.Attach{Stdin: true, Stdout: true, Stderr: true, Mux: true}
	terminal    = shim.Attach{Stdin: true, Stdout: true}
)

// all reads to the end.
func (s session) all(tb testing.TB) string {
	tb.Helper()
	_ = s.SetReadDeadline(time.Now().Add(30 * time.Second))
	b, err := io.ReadAll(s)
	if err != nil {
		tb.Fatalf("read from container: %v (after %.200q)", err, b)
	}
	return string(b)
}

// until reads until the text has come.
func (s session) until(tb testing.TB, text string) string {
	tb.Helper()
	var got []byte
	b := make([]byte, 1000)
	_ = s.SetReadDeadline(time.Now().Add(30 * time.Second))
	for !strings.Contains(string(got), text) {
		n, err := s.Read(b)
		got = append(got, b[:n]...)
		if err != nil {
			tb.Fatalf("waiting for %q: %v (after %.500q)", text, err, got)
		}
	}
	return string(got)
}

func (s session) say(tb testing.TB, text string) {
	tb.Helper()
	if _, err := io.WriteString(s, text); err != nil {
		tb.Fatal(err)
	}
}

// demux takes Docker's frames apart.
func demux(tb testing.TB, b string) (stdout, stderr string) {
	tb.Helper()
	var out [3]bytes.Buffer
	for len(b) > 0 {
		if len(b) < 8 || b[0] < 1 || b[0] > 2 || b[1:4] != "\x00\x00\x00" {
			tb.Fatalf("no frame: %.20q", b)
		}
		n := int(b[4])<<24 | int(b[5])<<16 | int(b[6])<<8 | int(b[7])
		if len(b) < 8+n {
			tb.Fatalf("frame of %d bytes ends after %d", n, len(b)-8)
		}
		out[b[0]].WriteString(b[8 : 8+n])
		b = b[8+n:]
	}
	return out[1].String(), out[2].String()
}

// logged returns the log's lines, e: in front of those of standard error.
func logged(tb testing.TB, cfg shim.Config) []string {
	tb.Helper()
	r, err := logs.Open(cfg.Log.Dir, logs.ReadOptions{Tail: -1, Stdout: true, Stderr: true})
	if err != nil {
		tb.Fatal(err)
	}
	defer r.Close()
	var lines []string
	for {
		e, err := r.Next(context.Background())
		if errors.Is(err, io.EOF) {
			return lines
		}
		if err != nil {
			tb.Fatal(err)
		}
		s := string(e.Data)
		if e.Stream == logs.Stderr {
			s = "e:" + s
		}
		lines = append(lines, s)
	}
}

func numbered(n int) (lines []string) {
	for i := range n {
		lines = append(lines, fmt.Sprint(i))
	}
	return lines
}

const (
	sigTerm = syscall.SIGTERM
	sigHup  = syscall.SIGHUP
	sigInt  = syscall.SIGINT
	sigPipe = syscall.SIGPIPE
)
