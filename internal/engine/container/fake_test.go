package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	api "github.com/moby/moby/api/types/container"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/atomicfile"
	"lade/internal/engine/container/hostfacts"
	"lade/internal/engine/container/launch"
	"lade/internal/engine/container/record"
	"lade/internal/engine/event"
	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/journal"
	"lade/internal/linux/fsat"
	"lade/internal/linux/mount"
	"lade/internal/metadata"
	"lade/internal/shim"
	"lade/internal/snapshot"
)

// machine is everything around a Service, which survives it as the real things
// survive an engine.
type machine struct {
	t     *testing.T
	dir   string
	boot  string
	shims *fakeShims
	pins  map[string]bool
	nets  *fakeNetwork
	vols  *fakeVolumes

	health  *api.HealthConfig // of all images
	service *Service
	voice   *voice
	events  *event.Service
	durable *metadata.DB
	bootDB  *metadata.DB
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{t: t, dir: t.TempDir(), boot: "boot-1", pins: map[string]bool{}, nets: &fakeNetwork{attached: map[string]int{}}, vols: &fakeVolumes{dir: t.TempDir(), has: map[string][]string{}, mounted: map[string]bool{}}}
	m.shims = &fakeShims{byBundle: map[string]*fakeShim{}}
	// The runtime is only called for what shims left; that it was is enough.
	program := "#!/bin/sh\necho \"$@\" >> " + m.dir + "/runtime.log\n"
	if err := os.WriteFile(filepath.Join(m.dir, "runtime"), []byte(program), 0o700); err != nil {
		t.Fatal(err)
	}
	m.start()
	t.Cleanup(func() {
		m.crash()
		for _, s := range slices.Collect(maps.Values(m.shims.byBundle)) {
			m.shims.gone(s)
		}
	})
	return m
}

// start runs an engine on the machine.
func (m *machine) start() {
	m.t.Helper()
	var err error
	m.durable, err = metadata.Open(filepath.Join(m.dir, "lade.db"), metadata.Options{})
	if err != nil {
		m.t.Fatal(err)
	}
	m.bootDB, err = metadata.Open(filepath.Join(m.dir, "boot.db"), metadata.Options{Boot: true, BootID: m.boot})
	if err != nil {
		m.t.Fatal(err)
	}
	m.pins = map[string]bool{}
	m.voice = &voice{to: m.t.Output()}
	m.service, err = New(Config{
		Config: launch.Config{
			Paths:     launch.Paths{DataDir: filepath.Join(m.dir, "data"), StateDir: filepath.Join(m.dir, "state")},
			Snapshots: fakeSnapshots{filepath.Join(m.dir, "data", "containers")}, Shims: m.shims, Network: m.nets,
			Runtimes: []launch.Runtime{{Name: "lade", Program: filepath.Join(m.dir, "runtime")}, {Name: "runc", Program: filepath.Join(m.dir, "runtime")}},
			Init:     "/usr/bin/lade-init", Host: hostfacts.Host{CPUs: 4, Hostname: "host", UserNamespaces: os.Geteuid() == 0},
			Log: slog.New(slog.NewTextHandler(m.voice, nil)),
		},
		Volumes: m.vols, Durable: m.durable, Boot: m.bootDB, Images: m, Events: m.heard(),
	})
	if err != nil {
		m.t.Fatal(err)
	}
	if err := m.service.Adopt(m.t.Context()); err != nil {
		m.t.Fatal(err)
	}
	m.service.Resume(m.t.Context())
}

// crash ends the engine as kill -9 would: what was to be written later is not.
func (m *machine) crash() {
	if m.service == nil {
		return
	}
	close(m.service.quit)
	m.voice.still()
	m.service.running.Wait()
	_ = m.events.Close()
	_ = m.durable.Close()
	_ = m.bootDB.Close()
	m.service = nil
}

// voice is where a service logs to, until it has crashed: what it was about to
// do by itself then fails, perhaps after the test's end.
type voice struct {
	mu sync.Mutex
	to io.Writer // guarded by mu; nil: it is still
}

func (v *voice) Write(b []byte) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.to == nil {
		return len(b), nil
	}
	return v.to.Write(b)
}

func (v *voice) still() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.to = nil
}

func (m *machine) restart() { m.t.Helper(); m.crash(); m.start() }

func (m *machine) Resolve(_ context.Context, ref string) (image.Image, error) {
	if ref == "missing" {
		return image.Image{}, errdefs.New(errdefs.NotFound, "No such image: %s", ref)
	}
	img := image.Image{ID: digest.FromString("config of " + ref), Manifest: digest.FromString("manifest")}
	img.Config.OS, img.Config.Architecture = "linux", "amd64"
	img.Config.RootFS.DiffIDs = []digest.Digest{digest.FromString("layer")}
	img.Config.Config = ocispec.ImageConfig{
		Cmd: []string{"sh"}, Env: []string{"PATH=/bin", "SECRET", "=x", "*", ""}, Labels: map[string]string{"of": "image"},
		StopSignal: "SIGQUIT", ExposedPorts: map[string]struct{}{"80/tcp": {}},
	}
	return img, nil
}

func (m *machine) Pin(_ context.Context, id string, _ image.Image) error {
	m.pins[id] = true
	return nil
}

func (m *machine) Health(context.Context, image.Image) (*api.HealthConfig, error) {
	return m.health, nil
}

func (m *machine) Unpin(_ context.Context, id string) error {
	delete(m.pins, id)
	return nil
}

type fakeSnapshots struct{ dir string }

func (f fakeSnapshots) Prepare(id string, _ []digest.Digest, o snapshot.PrepareOptions) (mount.Root, error) {
	upper := filepath.Join(f.dir, id, "upper")
	return mount.Root{Upper: upper, UIDMap: o.UIDMap, GIDMap: o.GIDMap}, os.MkdirAll(upper, 0o700)
}

func (f fakeSnapshots) Upper(id string) (*fsat.Dir, error) {
	return fsat.Open(filepath.Join(f.dir, id, "upper"))
}

func (f fakeSnapshots) CheckSize(int64) error { return nil }

func (f fakeSnapshots) Remove(id string) error {
	return os.RemoveAll(filepath.Join(f.dir, id, "upper"))
}

type fakeNetwork struct {
	mu       sync.Mutex
	attached map[string]int
	fail     error
}

func (f *fakeNetwork) Attach(_ context.Context, d record.Definition, pid int) ([]netip.Addr, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return nil, f.fail
	}
	f.attached[d.ID] = pid
	return []netip.Addr{netip.MustParseAddr("10.76.0.2")}, nil
}

func (f *fakeNetwork) Detach(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.attached, id)
	return nil
}

// fakeShims are shims without processes. They stay when an engine goes.
type fakeShims struct {
	mu       sync.Mutex
	byBundle map[string]*fakeShim
	launches int
	failAt   string // launch, create or start
	fail     error
	checks   *checks // what execs come to; nil: there are none
	mute     error   // what a dial comes to
}

// fakeShim is one shim; fakeConn a connection to it.
type fakeShim struct {
	cfg     shim.Config
	process *exec.Cmd // that stands for it
	mu      sync.Mutex
	status  string
	exit    shim.Exit
	ended   chan struct{} // the record is written
	left    chan struct{} // the shim is gone
	got     []int         // signals
	ignore  bool          // SIGTERM
	attach  []shim.Attach
}

type fakeConn struct {
	*fakeShim
	shims *fakeShims
}

func (f *fakeShims) Launch(_ context.Context, cfg shim.Config, attach []shim.Attach) (launch.Shim, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.launches++
	if f.failAt == "launch" {
		return nil, f.fail
	}
	if err := os.MkdirAll(filepath.Join(cfg.Bundle, "rootfs", "etc"), 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(cfg.Bundle, "rootfs/etc/passwd"), []byte("root:x:0:0::/root:\napp:x:1000:1000::/home/app:\n"), 0o600); err != nil {
		return nil, err
	}
	process := exec.Command("sleep", "1000")
	if err := process.Start(); err != nil {
		return nil, err
	}
	s := &fakeShim{cfg: cfg, process: process, status: shim.StatusFresh, ended: make(chan struct{}), left: make(chan struct{}), attach: attach}
	f.byBundle[cfg.Bundle] = s
	return &fakeConn{s, f}, nil
}

func (f *fakeShims) Dial(_ context.Context, bundle string) (launch.Shim, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.byBundle[bundle]
	if f.mute != nil {
		return nil, f.mute
	}
	if s == nil {
		return nil, errdefs.New(errdefs.NotFound, "no shim")
	}
	return &fakeConn{s, f}, nil
}

// of returns the shim of a container.
func (m *machine) shimOf(id string) *fakeShim {
	m.t.Helper()
	m.shims.mu.Lock()
	defer m.shims.mu.Unlock()
	s := m.shims.byBundle[filepath.Join(m.dir, "state", "containers", id)]
	if s == nil {
		m.t.Fatalf("container %s has no shim", id)
	}
	return s
}

// ends lets a shim's container end: record, then leave.
func (m *machine) ends(id string, exit shim.Exit) {
	m.t.Helper()
	s := m.shimOf(id)
	s.finish(exit)
	m.shims.gone(s)
}

// dies kills a shim, without a record.
func (m *machine) dies(id string) {
	m.t.Helper()
	s := m.shimOf(id)
	m.shims.gone(s)
}

func (f *fakeShims) gone(s *fakeShim) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.byBundle[s.cfg.Bundle] == s {
		delete(f.byBundle, s.cfg.Bundle)
		_ = s.process.Process.Kill()
		_ = s.process.Wait()
		close(s.left)
	}
}

func (s *fakeShim) finish(exit shim.Exit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.status == shim.StatusExited {
		return
	}
	if exit.ExitedAt.IsZero() {
		exit.ExitedAt = time.Now()
	}
	s.status, s.exit = shim.StatusExited, exit
	text := fmt.Sprintf(`{"code":%d,"exitedAt":%q,"oomKilled":%t}`, exit.Code, exit.ExitedAt.Format(time.RFC3339Nano), exit.OOMKilled)
	if err := atomicfile.Write(s.cfg.ExitFile, []byte(text), atomicfile.Options{}); err != nil {
		panic(err)
	}
	close(s.ended)
}

func (c *fakeConn) Create(context.Context, *os.File, ...*os.File) (int, error) {
	if c.shims.failAt == "create" {
		c.shims.gone(c.fakeShim)
		return 0, c.shims.fail
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status = shim.StatusCreated
	if c.cfg.StartNow {
		c.status = shim.StatusRunning
	}
	return os.Getpid(), nil
}

func (c *fakeConn) Start(context.Context) error {
	if c.shims.failAt == "start" {
		return c.shims.fail
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status = shim.StatusRunning
	return nil
}

func (c *fakeConn) Signal(_ context.Context, sig int, _ string) error {
	c.mu.Lock()
	c.got = append(c.got, sig)
	running := c.status == shim.StatusRunning || c.status == shim.StatusCreated
	ignored := c.ignore && sig != 9
	c.mu.Unlock()
	if running && !ignored {
		c.finish(shim.Exit{Code: 128 + sig})
	}
	if !ignored {
		c.shims.gone(c.fakeShim)
	}
	return nil
}

func (c *fakeConn) State(context.Context) (shim.State, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return shim.State{Status: c.status, PID: os.Getpid(), StartedAt: time.Now()}, nil
}

func (c *fakeConn) Attach(_ context.Context, a shim.Attach) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.attach = append(c.attach, a)
	return nil
}

func (c *fakeConn) Resize(context.Context, string, uint16, uint16) error { return nil }

func (c *fakeConn) Exec(ctx context.Context, e shim.ExecConfig) (int, error) {
	if k := c.shims.checks; k != nil {
		return k.exec(ctx, e)
	}
	return 0, errors.New("not here")
}

func (c *fakeConn) ExecWait(ctx context.Context, _ string) (shim.Exit, error) {
	if k := c.shims.checks; k != nil {
		return k.wait(ctx)
	}
	return shim.Exit{}, errors.New("not here")
}

func (c *fakeConn) PID() int                { return c.process.Process.Pid }
func (c *fakeConn) Exited() <-chan struct{} { return c.ended }
func (c *fakeConn) Done() <-chan struct{}   { return c.left }
func (c *fakeConn) Close() error {
	c.mu.Lock()
	fresh := c.status == shim.StatusFresh
	c.mu.Unlock()
	if fresh {
		c.shims.gone(c.fakeShim)
	}
	return nil
}

func (c *fakeConn) Exit() (shim.Exit, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.exit, c.status == shim.StatusExited
}

// create makes a container and fails the test if it cannot.
func (m *machine) create(name string, change func(*api.CreateRequest)) string {
	m.t.Helper()
	req := api.CreateRequest{Config: &api.Config{Image: "app"}, HostConfig: &api.HostConfig{NetworkMode: "none"}}
	if change != nil {
		change(&req)
	}
	r, err := m.service.Create(m.t.Context(), name, req, "")
	if err != nil {
		m.t.Fatalf("create: %v", err)
	}
	return r.ID
}

func (m *machine) run(name string, change func(*api.CreateRequest)) string {
	m.t.Helper()
	id := m.create(name, change)
	if err := m.service.Start(m.t.Context(), id); err != nil {
		m.t.Fatalf("start: %v", err)
	}
	return id
}

func (m *machine) state(ref string) *api.State {
	m.t.Helper()
	r, err := m.service.Inspect(m.t.Context(), ref, false)
	if err != nil {
		m.t.Fatal(err)
	}
	return r.State
}

func (m *machine) wait(ref string, cond api.WaitCondition) <-chan api.WaitResponse {
	m.t.Helper()
	w, err := m.service.Wait(m.t.Context(), ref, cond, "")
	if err != nil {
		m.t.Fatal(err)
	}
	return w.Answer
}

// receive returns an answer that must come.
func receive(t *testing.T, ch <-chan api.WaitResponse) api.WaitResponse {
	t.Helper()
	select {
	case r := <-ch:
		return r
	case <-time.After(10 * time.Second):
		t.Fatal("no answer")
		return api.WaitResponse{}
	}
}

// settled waits until a container has ended, and what it had is given back.
func (m *machine) settled(id string) {
	m.t.Helper()
	receive(m.t, m.wait(id, api.WaitConditionNotRunning))
	c, err := m.service.acquire(m.t.Context(), id)
	if errdefs.Is(err, errdefs.NotFound) {
		return
	}
	if err != nil {
		m.t.Fatal(err)
	}
	c.op.unlock()
}

// left returns what is on disk of containers.
func (m *machine) left() []string {
	m.t.Helper()
	var out []string
	for _, d := range []string{"data/containers", "state/containers"} {
		entries, err := os.ReadDir(filepath.Join(m.dir, d))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			m.t.Fatal(err)
		}
		for _, e := range entries {
			out = append(out, d+"/"+e.Name())
		}
	}
	return out
}

// runtimeCalls returns the commands that the runtime got.
func (m *machine) runtimeCalls() string {
	raw, _ := os.ReadFile(filepath.Join(m.dir, "runtime.log"))
	return strings.ReplaceAll(string(raw), filepath.Join(m.dir, "state", "runtime"), "ROOT")
}

// heard opens the events of the machine.
func (m *machine) heard() record.Events {
	m.t.Helper()
	j, err := journal.Open(filepath.Join(m.dir, "events"), journal.Options{})
	if err != nil {
		m.t.Fatal(err)
	}
	m.events, err = event.New(event.Config{Journal: j, Durable: m.durable, Boot: m.bootDB, BootID: m.boot})
	if err != nil {
		m.t.Fatal(err)
	}
	return m.events
}

// happened returns the actions of all events of a container, and checks that
// they are numbered without gaps.
func (m *machine) happened(id string) string { return m.listen(id, "") }

// listen returns the actions of a container's events, once they are as wanted,
// or all there are where nothing is.
func (m *machine) listen(id, want string) string {
	m.t.Helper()
	o := event.Options{After: new(uint64)}
	ctx, cancel := context.WithTimeout(m.t.Context(), 20*time.Second)
	defer cancel()
	if want == "" {
		o.Until = time.Now()
	}
	st, err := m.events.Stream(o)
	if err != nil {
		m.t.Fatal(err)
	}
	defer st.Close()
	var out []string
	for last := uint64(0); ; last++ {
		e, err := st.Next(ctx, func() error { return nil })
		if errors.Is(err, io.EOF) {
			return strings.Join(out, " ")
		}
		if err != nil {
			m.t.Fatalf("%v after %q, want %q", err, out, want)
		}
		if e.Number != last+1 {
			m.t.Errorf("event %d follows %d", e.Number, last)
		}
		if e.Actor.ID == id {
			if out = append(out, string(e.Action)); strings.Join(out, " ") == want {
				return want
			}
		}
	}
}
