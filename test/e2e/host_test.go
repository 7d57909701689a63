// Package e2e runs Lade as people do: its programs, a real engine, a real
// registry and a real Debian image made by tools that are not Lade's.
package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lade/test/kerneltest"
)

// TestMain makes the images while the machine's network is in reach; the tests
// have one of their own.
func TestMain(m *testing.M) {
	for _, name := range []string{"debian-image", "postgres-image"} {
		if out, err := exec.Command("../fixture/"+name, cacheDir()).CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "make the %s: %v\n%s", name, err, out)
			os.Exit(1)
		}
	}
	kerneltest.Main(m, kerneltest.Options{Net: true})
}

// cacheDir is where the Debian image is kept.
func cacheDir() string {
	if d := os.Getenv("LADE_TEST_CACHE"); d != "" {
		return d
	}
	d, err := os.UserCacheDir()
	if err != nil {
		d = os.TempDir()
	}
	return d + "/lade-test"
}

// host is one engine with its own directories, and the command line for it.
type host struct {
	t      *testing.T
	bin    string
	dir    string
	env    []string
	engine *exec.Cmd
}

// result is what a command printed and how it ended.
type result struct {
	stdout, stderr string
	code           int
}

// newHost starts an engine that ends with the test.
func newHost(t *testing.T) *host {
	t.Helper()
	kerneltest.Root(t)
	dir, err := os.MkdirTemp("", "lade") //nolint:usetesting // TempDir's path is too long for a Unix socket's 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	h := &host{t: t, bin: programs(t), dir: dir}
	h.env = append(os.Environ(), "LADE_DATA_ROOT="+dir+"/d", "LADE_STATE_DIR="+dir+"/s", "LADE_HOST=unix://"+dir+"/s/lade.sock", "NO_COLOR=1")
	t.Cleanup(func() {
		h.removeContainers()
		h.settled(nil)
		h.stopEngine()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	h.startEngine()
	return h
}

// programs returns the directory that holds Lade's programs: LADE_TEST_BIN, or
// one that is built once for the test binary.
func programs(t *testing.T) string {
	t.Helper()
	if d := os.Getenv("LADE_TEST_BIN"); d != "" {
		return d
	}
	d, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

var built = sync.OnceValues(func() (string, error) {
	d, err := filepath.Abs("../../bin")
	if err != nil {
		return "", err
	}
	c := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", d+"/", "./cmd/...")
	c.Dir = "../.."
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return d, nil
})

// startEngine returns when the engine serves.
func (h *host) startEngine(args ...string) {
	h.t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		h.t.Fatal(err)
	}
	defer r.Close()
	log, err := os.OpenFile(h.dir+"/laded.log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		h.t.Fatal(err)
	}
	defer log.Close()
	h.engine = exec.Command(h.bin+"/laded", args...)
	h.engine.Env = append(h.env, "LADE_READY_FD=3")
	h.engine.ExtraFiles = []*os.File{w}
	h.engine.Stdout, h.engine.Stderr = log, log
	err = h.engine.Start()
	_ = w.Close()
	if err != nil {
		h.t.Fatal(err)
	}
	said, _ := io.ReadAll(r)
	if strings.HasPrefix(string(said), "another engine is running") {
		// A command that found none was faster. That one serves as well.
		_ = h.engine.Wait()
		h.engine = nil
		return
	}
	if strings.TrimSpace(string(said)) != "ok" {
		h.t.Fatalf("the engine did not start: %s\n%s", said, h.engineLog())
	}
}

func (h *host) stopEngine() {
	if h.engine == nil {
		h.endOther(syscall.SIGTERM)
		return
	}
	_ = h.engine.Process.Signal(syscall.SIGTERM)
	_ = h.engine.Wait()
	h.engine = nil
}

// killEngine ends the engine as a crash would, also one that a command started.
func (h *host) killEngine() {
	if h.engine != nil {
		_ = h.engine.Process.Kill()
		_ = h.engine.Wait()
		h.engine = nil
		return
	}
	h.endOther(syscall.SIGKILL)
}

// killEngineIn kills the engine at a moment of its life, and waits for its end.
func (h *host) killEngineIn(d time.Duration) {
	ended := make(chan struct{})
	time.AfterFunc(d, func() {
		defer close(ended)
		h.killEngine()
	})
	<-ended
}

// endOther ends an engine that is no child of ours.
func (h *host) endOther(sig syscall.Signal) {
	raw, err := os.ReadFile(h.dir + "/s/laded.lock")
	pid, convErr := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil || convErr != nil {
		return
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if unix.PidfdSendSignal(fd, sig, nil, 0) == nil {
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10000)
	}
}

func (h *host) engineLog() string {
	b, _ := os.ReadFile(h.dir + "/laded.log")
	return string(b)
}

func (h *host) removeContainers() {
	if h.engine == nil {
		h.startEngine()
	}
	if ids := strings.Fields(h.lade("ps", "-aq").stdout); len(ids) > 0 {
		if r := h.lade(append([]string{"rm", "-f"}, ids...)...); r.code != 0 {
			h.t.Errorf("clean up: %s", r.stderr)
		}
	}
}

// command prepares lade with args.
func (h *host) command(ctx context.Context, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, h.bin+"/lade", args...)
	c.Env = h.env
	return c
}

// lade runs the command line to its end.
func (h *host) lade(args ...string) result {
	h.t.Helper()
	return h.ladeIn(nil, args...)
}

func (h *host) ladeIn(stdin io.Reader, args ...string) result {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	c := h.command(ctx, args...)
	var out, errs bytes.Buffer
	c.Stdin, c.Stdout, c.Stderr = stdin, &out, &errs
	err := c.Run()
	if ctx.Err() != nil {
		h.t.Fatalf("lade %s hangs\n%s%s\nengine: %s", strings.Join(args, " "), out.String(), errs.String(), h.engineLog())
	}
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		h.t.Fatal(err)
	}
	return result{out.String(), errs.String(), c.ProcessState.ExitCode()}
}

// must runs lade and fails the test unless it succeeds. It returns the output
// without the last newline.
func (h *host) must(args ...string) string {
	h.t.Helper()
	r := h.lade(args...)
	if r.code != 0 {
		h.t.Fatalf("lade %s: exit %d\n%s%s\nengine: %s", strings.Join(args, " "), r.code, r.stdout, r.stderr, h.engineLog())
	}
	return strings.TrimSuffix(r.stdout, "\n")
}

// refused runs lade and checks its exit code and that the message holds want.
func (h *host) refused(code int, want string, args ...string) {
	h.t.Helper()
	r := h.lade(args...)
	if r.code != code || !strings.Contains(r.stderr, want) {
		h.t.Errorf("lade %s: exit %d, want %d and a message with %q\n%s", strings.Join(args, " "), r.code, code, want, r.stderr)
	}
}

// registry is Debian's docker-registry on loopback.
type registry struct{ addr string }

// newRegistry starts a registry that ends with the test, holding the Debian
// image as debian:bookworm.
func newRegistry(t *testing.T) registry {
	t.Helper()
	kerneltest.Root(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := registry{l.Addr().String()}
	_ = l.Close()
	dir := t.TempDir()
	config := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s}, delete: {enabled: true}}\nhttp: {addr: %q}\n", dir, r.addr)
	if err := os.WriteFile(dir+"/config.yml", []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("docker-registry", "serve", dir+"/config.yml")
	if err := c.Start(); err != nil {
		t.Fatalf("%v (script/setup installs it)", err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	r.await(t)
	out, err := exec.Command("skopeo", "--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false", "oci:"+cacheDir()+"/oci:bookworm", "docker://"+r.addr+"/debian:bookworm").CombinedOutput()
	if err != nil {
		t.Fatalf("skopeo: %v\n%s", err, out)
	}
	return r
}

// await returns when the registry answers. A server that somebody else wrote
// gives no event when it is ready, so it is asked until then.
func (r registry) await(t *testing.T) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 500 {
		if res, err := http.Get("http://" + r.addr + "/v2/"); err == nil {
			_ = res.Body.Close()
			return
		}
		<-tick.C
	}
	t.Fatal("the registry does not answer")
}
