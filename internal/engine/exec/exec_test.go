package exec

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	api "github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/errdefs"
	"lade/internal/ident"
	"lade/internal/shim"
)

// fake is a running container.
type fake struct {
	dir   string
	ended chan struct{}
	exit  chan shim.Exit
	err   error
	got   []shim.ExecConfig
}

func newFake(t *testing.T) (*fake, *Service) {
	t.Helper()
	f := &fake{dir: t.TempDir(), ended: make(chan struct{}), exit: make(chan shim.Exit, 1)}
	return f, New(Config{Containers: f, StateDir: f.dir, DetachKeys: func(string) ([]byte, error) { return []byte{16, 17}, nil }})
}

func (f *fake) bundle() string { return filepath.Join(f.dir, "containers", "c1") }

func (f *fake) Target(_ context.Context, ref string) (Target, error) {
	if ref != "c1" {
		return Target{}, errdefs.New(errdefs.NotFound, "No such container: %s", ref)
	}
	return Target{ID: "c1", Bundle: f.bundle(), Shim: f, Ended: f.ended, Process: func(r api.ExecCreateRequest) (*specs.Process, error) {
		return &specs.Process{Args: r.Cmd, Terminal: r.Tty}, nil
	}}, nil
}

func (f *fake) Exec(_ context.Context, e shim.ExecConfig) (int, error) {
	f.got = append(f.got, e)
	return 42, f.err
}

func (f *fake) ExecWait(context.Context, string) (shim.Exit, error) {
	select {
	case e := <-f.exit:
		return e, nil
	case <-f.ended:
		return shim.Exit{}, errors.New("the shim has left")
	}
}

func (f *fake) Resize(context.Context, string, uint16, uint16) error { return nil }

func TestExec(t *testing.T) {
	f, s := newFake(t)
	id, err := s.Create(t.Context(), "c1", api.ExecCreateRequest{Cmd: []string{"ls", "-l"}, AttachStdout: true})
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Inspect(t.Context(), id)
	if err != nil || r.Running || r.ExitCode != nil || r.ProcessConfig.Entrypoint != "ls" {
		t.Errorf("before the start: %+v, %v", r, err)
	}
	client, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	hijack := func(tty bool) (*os.File, []byte, error) { return theirs, nil, nil }
	if err := s.Start(t.Context(), id, StartOptions{}, hijack); err != nil {
		t.Fatal(err)
	}
	if r, _ := s.Inspect(t.Context(), id); !r.Running || r.Pid != 42 || r.ContainerID != "c1" {
		t.Errorf("running: %+v", r)
	}
	if err := s.Start(t.Context(), id, StartOptions{}, hijack); !errdefs.Is(err, errdefs.Conflict) {
		t.Errorf("second start: %v", err)
	}
	if d := cmp.Diff(`{"user":{"uid":0,"gid":0},"args":["ls","-l"],"cwd":""}`, string(f.got[0].Process)); d != "" {
		t.Error(d)
	}
	// The record is on disk before the stream ends, and the client may ask
	// before the service was told.
	dir := filepath.Join(f.bundle(), "exec", id)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "exit.json"), []byte(`{"code":3}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if r, _ := s.Inspect(t.Context(), id); r.Running || r.ExitCode == nil || *r.ExitCode != 3 {
		t.Errorf("ended: %+v", r)
	}
	close(f.ended)
}

func TestExecFails(t *testing.T) {
	for text, code := range map[string]int{
		`exec: "nosuch": executable file not found in $PATH`: 127,
		`exec: "/etc/passwd": permission denied`:             126,
	} {
		f, s := newFake(t)
		f.err = errors.New(text)
		id, err := s.Create(t.Context(), "c1", api.ExecCreateRequest{Cmd: []string{"x"}})
		if err != nil {
			t.Fatal(err)
		}
		client, theirs, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		err = s.Start(t.Context(), id, StartOptions{}, func(bool) (*os.File, []byte, error) { return theirs, nil, nil })
		if err != nil {
			t.Errorf("start: %v; the client was to be told in its stream", err)
		}
		said, _ := io.ReadAll(client)
		client.Close()
		if len(said) < 8 || said[0] != 2 || !strings.Contains(string(said[8:]), text) {
			t.Errorf("the client was told %q", said)
		}
		if r, _ := s.Inspect(t.Context(), id); r.Running || r.ExitCode == nil || *r.ExitCode != code {
			t.Errorf("%+v, want code %d", r, code)
		}
		id, err = s.Create(t.Context(), "c1", api.ExecCreateRequest{Cmd: []string{"x"}})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Start(t.Context(), id, StartOptions{Detach: true}, nil); !errdefs.Is(err, errdefs.Invalid) {
			t.Errorf("detached: %v", err)
		}
	}
}

func TestCreateRefuses(t *testing.T) {
	_, s := newFake(t)
	for want, r := range map[string]api.ExecCreateRequest{
		"No exec command specified":        {},
		"NUL":                              {Cmd: []string{"a\x00"}},
		"invalid environment variable: =x": {Cmd: []string{"a"}, Env: []string{"=x"}},
		"is not absolute":                  {Cmd: []string{"a"}, WorkingDir: "b"},
		"uids and gids must be in range":   {Cmd: []string{"a"}, User: "4294967296"},
	} {
		if _, err := s.Create(t.Context(), "c1", r); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v; want %s", r, err, want)
		}
	}
	if _, err := s.Create(t.Context(), "c2", api.ExecCreateRequest{Cmd: []string{"a"}}); !errdefs.Is(err, errdefs.NotFound) {
		t.Errorf("no such container: %v", err)
	}
	if _, err := s.Inspect(t.Context(), "nope"); !errdefs.Is(err, errdefs.NotFound) {
		t.Errorf("no such exec: %v", err)
	}
}

// TestEarlier: an exec that an engine before this one started.
func TestEarlier(t *testing.T) {
	f, s := newFake(t)
	id := ident.New()
	dir := filepath.Join(f.bundle(), "exec", id)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "process.json"), []byte(`{"args":["top","-b"],"terminal":true}`), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := s.Inspect(t.Context(), id)
	if err != nil || !r.Running || r.ContainerID != "c1" || r.ProcessConfig.Entrypoint != "top" || !r.ProcessConfig.Tty {
		t.Errorf("%+v, %v", r, err)
	}
	if err := s.Resize(t.Context(), id, 24, 80); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "exit.json"), []byte(`{"code":9}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if r, err := s.Inspect(t.Context(), id); err != nil || r.Running || *r.ExitCode != 9 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestForget(t *testing.T) {
	f, s := newFake(t)
	if _, err := s.Create(t.Context(), "c1", api.ExecCreateRequest{Cmd: []string{"a"}}); err != nil {
		t.Fatal(err)
	}
	close(f.ended)
	if _, err := s.Create(t.Context(), "c1", api.ExecCreateRequest{Cmd: []string{"a"}}); err != nil {
		t.Fatal(err)
	}
	if len(s.byID) != 1 {
		t.Errorf("%d execs are remembered of a container that has ended", len(s.byID))
	}
}
