package dockerapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/network"
	registrytypes "github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/system"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	ladeapi "lade/api"
	"lade/internal/engine/container"
	"lade/internal/engine/event"
	"lade/internal/engine/exec"
	engineimage "lade/internal/engine/image"
	"lade/internal/engine/registry"
	"lade/internal/errdefs"
	"lade/internal/server/socket"
	"lade/internal/transfer"
)

// fake is every service at once. A function that is nil answers that the
// object is not there; called notes what came in.
type fake struct {
	create   func(name string, req api.CreateRequest, platform string) (api.CreateResponse, error)
	start    func(ref string) error
	stop     func(ref string, o container.StopOptions) error
	kill     func(ref, signal string) error
	remove   func(ref string, o container.RemoveOptions) error
	rename   func(ref, name string) error
	wait     func(ctx context.Context, ref string, cond api.WaitCondition) (<-chan api.WaitResponse, error)
	inspect  func(ref string, size bool) (api.InspectResponse, error)
	list     func(o container.ListOptions) ([]api.Summary, error)
	logs     func(ref string, o container.LogsOptions) (*container.LogStream, error)
	attach   func(ref string, o container.AttachOptions, hijack container.Hijack) error
	resize   func(ref string, h, w uint) error
	version  func() (system.VersionResponse, error)
	networks []network.Inspect
	images   fakeImages
	execs    *fakeExecs
	events   *event.Service
}

var errNone = errdefs.New(errdefs.NotFound, "no such thing")

func (f *fake) Create(_ context.Context, name string, req api.CreateRequest, platform string) (api.CreateResponse, error) {
	if f.create == nil {
		return api.CreateResponse{}, errNone
	}
	return f.create(name, req, platform)
}

func (f *fake) Start(_ context.Context, ref string) error { return call1(f.start, ref) }
func (f *fake) Stop(_ context.Context, ref string, o container.StopOptions) error {
	return call2(f.stop, ref, o)
}

func (f *fake) Restart(_ context.Context, ref string, o container.StopOptions) error {
	return call2(f.stop, ref, o)
}

func (f *fake) Kill(_ context.Context, ref, signal string) error { return call2(f.kill, ref, signal) }
func (f *fake) Pause(_ context.Context, ref string) error        { return call1(f.start, ref) }
func (f *fake) Unpause(_ context.Context, ref string) error      { return call1(f.start, ref) }
func (f *fake) Rename(_ context.Context, ref, name string) error { return call2(f.rename, ref, name) }

func (f *fake) Update(_ context.Context, ref string, u api.UpdateConfig) (api.UpdateResponse, error) {
	return api.UpdateResponse{Warnings: []string{fmt.Sprintf("%s %d %s", ref, u.Memory, u.RestartPolicy.Name)}}, nil
}

func (f *fake) Remove(_ context.Context, ref string, o container.RemoveOptions) error {
	return call2(f.remove, ref, o)
}

func (f *fake) Wait(ctx context.Context, ref string, cond api.WaitCondition, since string) (container.Waiting, error) {
	if f.wait == nil {
		return container.Waiting{}, errNone
	}
	answer, err := f.wait(ctx, ref, cond)
	return container.Waiting{ID: ref, Answer: answer, Since: since + "+"}, err
}

func (f *fake) Inspect(_ context.Context, ref string, size bool) (api.InspectResponse, error) {
	if f.inspect == nil {
		return api.InspectResponse{}, errNone
	}
	return f.inspect(ref, size)
}

func (f *fake) List(_ context.Context, o container.ListOptions) ([]api.Summary, error) {
	if f.list == nil {
		return nil, nil
	}
	return f.list(o)
}

func (f *fake) Explain(_ context.Context, ref, format string) ([]byte, error) {
	return []byte("explain " + ref + " as " + format), nil
}

func (f *fake) End(context.Context, string) (*ladeapi.ContainerEnd, error) {
	return &ladeapi.ContainerEnd{Signal: 9}, nil
}

func (f *fake) Why(_ context.Context, ref string) (string, error) {
	return "why " + ref, nil
}

func (f *fake) Logs(_ context.Context, ref string, o container.LogsOptions) (*container.LogStream, error) {
	if f.logs == nil {
		return nil, errNone
	}
	return f.logs(ref, o)
}

func (f *fake) Attach(_ context.Context, ref string, o container.AttachOptions, hijack container.Hijack) error {
	if f.attach == nil {
		return errNone
	}
	return f.attach(ref, o, hijack)
}

func (f *fake) Resize(_ context.Context, ref string, h, w uint) error {
	if f.resize == nil {
		return errNone
	}
	return f.resize(ref, h, w)
}

func (f *fake) Version(context.Context) (system.VersionResponse, error) {
	if f.version == nil {
		return system.VersionResponse{}, errNone
	}
	return f.version()
}

func (f *fake) Info(context.Context) (system.Info, error) {
	return system.Info{Name: "host", ServerVersion: "0.1.0"}, nil
}

func call1[T any](fn func(T) error, v T) error {
	if fn == nil {
		return errNone
	}
	return fn(v)
}

func call2[T, U any](fn func(T, U) error, v T, u U) error {
	if fn == nil {
		return errNone
	}
	return fn(v, u)
}

type fakeExecs struct {
	create  func(ref string, req api.ExecCreateRequest) (string, error)
	start   func(id string, o exec.StartOptions, hijack exec.Hijack) error
	inspect func(id string) (api.ExecInspectResponse, error)
}

func (f *fakeExecs) Create(_ context.Context, ref string, req api.ExecCreateRequest) (string, error) {
	return f.create(ref, req)
}

func (f *fakeExecs) Start(_ context.Context, id string, o exec.StartOptions, hijack exec.Hijack) error {
	return f.start(id, o, hijack)
}
func (f *fakeExecs) Resize(context.Context, string, uint, uint) error { return nil }
func (f *fakeExecs) Inspect(_ context.Context, id string) (api.ExecInspectResponse, error) {
	return f.inspect(id)
}

type fakeNetworks []network.Inspect

func (f fakeNetworks) List(context.Context, map[string][]string) ([]network.Inspect, error) {
	return f, nil
}

func (f fakeNetworks) Inspect(_ context.Context, ref string) (network.Inspect, error) {
	for _, n := range f {
		if n.Name == ref || n.ID == ref {
			return n, nil
		}
	}
	return network.Inspect{}, errdefs.New(errdefs.NotFound, "network %s not found", ref)
}

func (fakeNetworks) Create(_ context.Context, r network.CreateRequest) (network.CreateResponse, error) {
	if r.Name == "" {
		return network.CreateResponse{}, errdefs.New(errdefs.Invalid, "a network needs a name")
	}
	return network.CreateResponse{ID: "id of " + r.Name}, nil
}

func (f fakeNetworks) Remove(ctx context.Context, ref string) error {
	_, err := f.Inspect(ctx, ref)
	return err
}

func (fakeNetworks) Prune(context.Context, map[string][]string) (network.PruneReport, error) {
	return network.PruneReport{NetworksDeleted: []string{"old"}}, nil
}

func (f fakeNetworks) Connect(ctx context.Context, ref string, _ network.ConnectRequest) error {
	return f.Remove(ctx, ref)
}

func (f fakeNetworks) Disconnect(ctx context.Context, ref string, _ network.DisconnectRequest) error {
	return f.Remove(ctx, ref)
}

func handler(f *fake) *Handler {
	execs := f.execs
	if execs == nil {
		execs = &fakeExecs{}
	}
	s := Services{
		Lifecycle: f, States: f, Streams: f, System: f, Execs: execs, Networks: fakeNetworks(f.networks), Images: &f.images, Registries: &f.images, Archives: &f.images,
		Log: slog.New(slog.DiscardHandler),
	}
	if f.events != nil {
		s.Events = f.events
	}
	return New(s)
}

// do sends one request to a handler.
func do(t *testing.T, f *fake, method, target, body string) *httptest.ResponseRecorder {
	t.Helper()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req := httptest.NewRequestWithContext(t.Context(), method, target, r)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	w := httptest.NewRecorder()
	handler(f).ServeHTTP(w, req)
	return w
}

// serve serves f on a Unix socket and returns its path.
func serve(t *testing.T, f *fake) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := socket.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	run(t, l, handler(f))
	return path
}

func run(t *testing.T, l net.Listener, h http.Handler) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	srv := Server(ctx, h, slog.New(slog.DiscardHandler))
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() {
		cancel()
		_ = srv.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
}

// askAs reports whether a process of a user gets an answer from the server at
// path. A thread has a user of its own as far as the kernel is concerned; this
// one ends with the goroutine.
func askAs(t *testing.T, uid uintptr, path string) bool {
	t.Helper()
	answer := make(chan bool)
	go func() {
		runtime.LockOSThread()
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, uid, uid, uid); errno != 0 {
			t.Errorf("setresuid: %v", errno)
		}
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Errorf("user %d: %v", uid, err)
			answer <- false
			return
		}
		defer c.Close()
		_, _ = io.WriteString(c, "GET /_ping HTTP/1.0\r\n\r\n")
		got, _ := io.ReadAll(c)
		answer <- strings.HasSuffix(string(got), "OK")
	}()
	return <-answer
}

// fakeImages notes what was asked for, and reports what it is told to.
type fakeImages struct {
	asked    string
	progress []transfer.Progress
	err      error
	list     []image.Summary
	loaded   string
}

func (f *fakeImages) note(format string, args ...any) error {
	f.asked = fmt.Sprintf(format, args...)
	return f.err
}

func (f *fakeImages) Pull(_ context.Context, o engineimage.PullOptions, progress func(transfer.Progress)) error {
	user := ""
	if o.Auth != nil {
		user = o.Auth.Username
	}
	for _, p := range f.progress {
		progress(p)
	}
	return f.note("pull %s %s %s", o.Ref, o.Platform, user)
}

func (f *fakeImages) Save(_ context.Context, refs []string, p *ocispec.Platform, w io.Writer) error {
	arch := ""
	if p != nil {
		arch = p.Architecture
	}
	if f.err == nil || f.loaded != "" {
		_, _ = io.WriteString(w, "an archive")
	}
	return f.note("save %s %s", refs, arch)
}

func (f *fakeImages) Import(_ context.Context, tar io.Reader, o engineimage.ImportOptions) (string, error) {
	b, err := io.ReadAll(tar)
	if err != nil {
		return "", err
	}
	return "sha256:1", f.note("import %s %+v", b, o)
}

func (f *fakeImages) Copy(_ context.Context, o registry.CopyOptions, progress func(transfer.Progress)) (string, error) {
	progress(transfer.Progress{Action: "Digest: sha256:1"})
	return "", f.note("copy %s %s %s %d", o.From, o.To, o.Platform, len(o.Auths))
}

func (f *fakeImages) Remote(_ context.Context, name string, _ *registrytypes.AuthConfig) ([]byte, ocispec.Descriptor, error) {
	return []byte("{}"), ocispec.Descriptor{MediaType: "a/b", Digest: "sha256:1"}, f.note("manifest %s", name)
}

func (f *fakeImages) Distribution(_ context.Context, name string, _ *registrytypes.AuthConfig) (registrytypes.DistributionInspect, error) {
	return registrytypes.DistributionInspect{}, f.note("distribution %s", name)
}

func (f *fakeImages) PutManifest(_ context.Context, name string, raw []byte, _ *registrytypes.AuthConfig) (string, error) {
	return "sha256:put", f.note("put %s %s", name, raw)
}

func (f *fakeImages) Delete(_ context.Context, name string, _ *registrytypes.AuthConfig) error {
	return f.note("delete %s", name)
}

func (f *fakeImages) Tags(_ context.Context, name string, _ *registrytypes.AuthConfig) ([]string, error) {
	return nil, f.note("tags %s", name)
}

func (f *fakeImages) Login(_ context.Context, a registrytypes.AuthConfig) (registrytypes.AuthResponse, error) {
	return registrytypes.AuthResponse{Status: "Login Succeeded", IdentityToken: "t"}, f.note("login %s %s %s", a.Username, a.Password, a.ServerAddress)
}

func (f *fakeImages) Push(_ context.Context, o registry.PushOptions, progress func(transfer.Progress)) error {
	user, arch := "", ""
	if o.Auth != nil {
		user = o.Auth.Username
	}
	if o.Platform != nil {
		arch = o.Platform.Architecture
	}
	for _, p := range f.progress {
		progress(p)
	}
	return f.note("push %s %s %s %s", o.Name, o.Tag, arch, user)
}

func (f *fakeImages) Load(_ context.Context, r io.Reader, progress func(transfer.Progress)) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	f.loaded = string(b)
	for _, p := range f.progress {
		progress(p)
	}
	return f.note("load")
}

func (f *fakeImages) List(_ context.Context, o engineimage.ListOptions) ([]image.Summary, error) {
	return f.list, f.note("list %v %v", o.All, o.Filters)
}

func (f *fakeImages) Inspect(_ context.Context, ref string) (image.InspectResponse, error) {
	return image.InspectResponse{ID: "sha256:1", RepoTags: []string{ref}}, f.note("inspect %s", ref)
}

func (f *fakeImages) Remove(_ context.Context, ref string, o engineimage.RemoveOptions) ([]image.DeleteResponse, error) {
	return []image.DeleteResponse{{Untagged: ref}}, f.note("remove %s %v %v", ref, o.Force, o.NoPrune)
}

func (f *fakeImages) Tag(_ context.Context, source, target string) error {
	return f.note("tag %s %s", source, target)
}

func (f *fakeImages) History(_ context.Context, ref string) ([]image.HistoryResponseItem, error) {
	return nil, f.note("history %s", ref)
}

func (f *fakeImages) Prune(_ context.Context, filters map[string][]string) (image.PruneReport, error) {
	return image.PruneReport{SpaceReclaimed: 5}, f.note("prune %v", filters)
}
