// Package exec is the engine's noun "exec": a further process in a running
// container, with its own streams and exit code.
//
// An exec's life: Create checks the request and gives it an id; Start has the
// container's shim run it, with its client connected to it; the shim writes
// its exit record, from which Inspect answers. The shim keeps all that must
// survive the engine: an exec that runs is found again by its directory in the
// container's bundle.
package exec

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	api "github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/errdefs"
	"lade/internal/ident"
	"lade/internal/image/account"
	"lade/internal/shim"
)

// StartOptions says how an exec is started.
type StartOptions struct {
	Detach        bool // no client is connected
	Tty           bool // as in the request; what Create was told counts
	Height, Width uint // of the terminal; 0 means unknown
}

// Hijack takes the client's connection out of the hands of the protocol that
// brought the request; see package container.
type Hijack = func(tty bool) (f *os.File, buffered []byte, err error)

// Target is a running container, as an exec needs it.
type Target struct {
	ID     string
	Bundle string
	Shim   Shim
	Ended  <-chan struct{} // closed when the container has ended
	// Say tells what happens: an action, and pairs of a name and a value.
	Say     func(action string, pairs ...string)
	Process func(api.ExecCreateRequest) (*specs.Process, error)
}

// Shim runs further processes in its container.
type Shim interface {
	Exec(ctx context.Context, e shim.ExecConfig) (pid int, err error)
	ExecWait(ctx context.Context, exec string) (shim.Exit, error)
	Resize(ctx context.Context, exec string, width, height uint16) error
}

// Containers finds running containers.
type Containers interface {
	Target(ctx context.Context, ref string) (Target, error)
}

// Config is what a Service is made of.
type Config struct {
	Containers Containers
	// StateDir holds containers/ID, the bundles: execs of an engine before
	// this one are found in them.
	StateDir string
	// DetachKeys parses Docker's notation.
	DetachKeys func(string) ([]byte, error)
}

// Service creates and starts execs. Its methods may be called concurrently.
type Service struct {
	cfg Config

	mu   sync.Mutex
	byID map[string]*execution // guarded by mu
}

// execution is one exec. What is not guarded does not change.
type execution struct {
	id     string
	target Target
	req    api.ExecCreateRequest
	keys   []byte

	mu      sync.Mutex
	started bool      // guarded by mu
	pid     int       // guarded by mu
	exit    *int      // its code, when it has ended; guarded by mu
	ended   time.Time // guarded by mu
}

// New makes the service.
func New(cfg Config) *Service {
	return &Service{cfg: cfg, byID: map[string]*execution{}}
}

// keepEnded is how long an exec that has ended can be inspected.
const keepEnded = 5 * time.Minute

// Create checks a request and records an exec in a running container.
func (s *Service) Create(ctx context.Context, ref string, req api.ExecCreateRequest) (id string, err error) {
	keys, err := s.check(req)
	if err != nil {
		return "", err
	}
	t, err := s.cfg.Containers.Target(ctx, ref)
	if err != nil {
		return "", err
	}
	e := &execution{id: ident.New(), target: t, req: req, keys: keys}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(time.Now())
	s.byID[e.id] = e
	e.say("exec_create: " + strings.Join(req.Cmd, " "))
	return e.id, nil
}

func (s *Service) check(req api.ExecCreateRequest) ([]byte, error) {
	if len(req.Cmd) == 0 {
		return nil, errdefs.New(errdefs.Invalid, "No exec command specified")
	}
	for _, a := range slices.Concat(req.Cmd, req.Env) {
		if strings.ContainsRune(a, 0) {
			return nil, errdefs.New(errdefs.Invalid, "an argument or a variable holds a NUL byte")
		}
	}
	for _, e := range req.Env {
		if k, _, _ := strings.Cut(e, "="); k == "" {
			return nil, errdefs.New(errdefs.Invalid, "invalid environment variable: %s", e)
		}
	}
	if req.WorkingDir != "" && !filepath.IsAbs(req.WorkingDir) {
		return nil, errdefs.New(errdefs.Invalid, "the working directory %q is not absolute", req.WorkingDir)
	}
	if _, err := account.ParseUser(req.User); err != nil {
		return nil, err
	}
	return s.cfg.DetachKeys(req.DetachKeys)
}

// forget drops execs that ended long ago or whose container has; s.mu is held.
func (s *Service) forget(now time.Time) {
	for id, e := range s.byID {
		gone := false
		select {
		case <-e.target.Ended:
			gone = true
		default:
		}
		e.mu.Lock()
		old := e.exit != nil && now.Sub(e.ended) > keepEnded
		never := !e.started
		e.mu.Unlock()
		if old || gone && never {
			delete(s.byID, id)
			_ = os.RemoveAll(e.dir()) // a record nobody can ask for; the bundle goes with the container anyway
		}
	}
}

func (e *execution) dir() string { return filepath.Join(e.target.Bundle, shim.ExecDir, e.id) }

// Start runs an exec, once. hijack is not called when it is detached. A
// command that cannot be started is told to the client in its stream, as
// Docker does, and by Inspect's exit code.
func (s *Service) Start(ctx context.Context, id string, o StartOptions, hijack Hijack) error {
	e, err := s.find(id)
	if err != nil {
		return err
	}
	if err := e.begin(); err != nil {
		return err
	}
	cfg := shim.ExecConfig{ID: e.id, Terminal: e.req.Tty, Stdin: e.req.AttachStdin && !o.Detach, Width: uint16(min(o.Width, 1<<16-1)), Height: uint16(min(o.Height, 1<<16-1))}
	req := e.req
	if o.Width > 0 && o.Height > 0 {
		req.ConsoleSize = &[2]uint{o.Height, o.Width}
	}
	p, err := e.target.Process(req)
	if err == nil {
		cfg.Process, err = json.Marshal(p)
	}
	if err != nil {
		e.failed(err)
		return err
	}
	var client *os.File
	if !o.Detach {
		f, buffered, err := hijack(e.req.Tty)
		if err != nil {
			e.failed(err)
			return err
		}
		defer f.Close()
		client = f
		cfg.Attach = []shim.Attach{{
			File: f, Buffered: buffered, Stdin: e.req.AttachStdin, Stdout: e.req.AttachStdout, Stderr: e.req.AttachStderr,
			Mux: !e.req.Tty, DetachKeys: e.keys,
		}}
	}
	// What was asked for happens also when the client leaves.
	ctx = context.WithoutCancel(ctx)
	pid, err := e.target.Shim.Exec(ctx, cfg)
	if err != nil {
		err = fmt.Errorf("OCI runtime exec failed: %w", err)
		e.failed(err)
		if client == nil {
			return errdefs.With(errdefs.Invalid, err)
		}
		_, _ = client.Write(frame(err.Error()+"\r\n", e.req.Tty)) // the client may have left
		return nil
	}
	e.mu.Lock()
	e.pid = pid
	e.mu.Unlock()
	e.say("exec_start: " + strings.Join(req.Cmd, " "))
	go e.wait(ctx)
	return nil
}

// begin lets an exec be started once.
func (e *execution) begin() error {
	select {
	case <-e.target.Ended:
		return errdefs.New(errdefs.Conflict, "container %s is not running", e.target.ID)
	default:
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.started {
		return errdefs.New(errdefs.Conflict, "exec instance %s has already run", e.id)
	}
	e.started = true
	return nil
}

// failed records that an exec never ran.
func (e *execution) failed(err error) {
	code := 126
	if text := err.Error(); strings.Contains(text, "executable file not found") || strings.Contains(text, "no such file or directory") {
		code = 127
	}
	e.ends(code)
}

func (e *execution) ends(code int) {
	e.mu.Lock()
	first := e.exit == nil
	if first {
		e.exit, e.ended = &code, time.Now()
	}
	e.mu.Unlock()
	if first {
		e.say("exec_die", "exitCode", strconv.Itoa(code))
	}
}

// say tells what happens to the exec.
func (e *execution) say(action string, pairs ...string) {
	if e.target.Say != nil {
		e.target.Say(action, append(pairs, "execID", e.id)...)
	}
}

// wait records the end of an exec. Without a connection to the shim any more,
// its record on disk or the end of the container has the answer.
func (e *execution) wait(ctx context.Context) {
	exit, err := e.target.Shim.ExecWait(ctx, e.id)
	if err == nil {
		e.ends(exit.Code)
		return
	}
	if exit, err := shim.ReadExit(shim.ExecExitPath(e.target.Bundle, e.id)); err == nil {
		e.ends(exit.Code)
		return
	}
	<-e.target.Ended
	e.ends(137) // it was killed with its container
}

// frame is a message in the client's stream: on standard error, or as it is to
// a terminal.
func frame(text string, tty bool) []byte {
	if tty {
		return []byte(text)
	}
	n := len(text)
	return append([]byte{2, 0, 0, 0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, text...)
}

// find returns an exec of this engine.
func (s *Service) find(id string) (*execution, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.byID[id]; e != nil {
		return e, nil
	}
	return nil, noSuchExec(id)
}

func noSuchExec(id string) error {
	return errdefs.New(errdefs.NotFound, "No such exec instance: %s", id)
}

// Resize gives an exec's terminal another size.
func (s *Service) Resize(ctx context.Context, id string, height, width uint) error {
	if height > 1<<16-1 || width > 1<<16-1 {
		return errdefs.New(errdefs.Invalid, "invalid terminal size %dx%d", width, height)
	}
	e, err := s.find(id)
	if err != nil {
		old, _, found := s.earlier(id)
		if !found {
			return err
		}
		t, err := s.cfg.Containers.Target(ctx, old)
		if err != nil {
			return err
		}
		return t.Shim.Resize(ctx, id, uint16(width), uint16(height))
	}
	return e.target.Shim.Resize(ctx, id, uint16(width), uint16(height))
}

// earlier finds an exec that an engine before this one started, and returns
// its container and its directory.
func (s *Service) earlier(id string) (container, dir string, ok bool) {
	if !ident.IsID(id) {
		return "", "", false
	}
	found, err := filepath.Glob(filepath.Join(s.cfg.StateDir, "containers", "*", shim.ExecDir, id))
	if err != nil || len(found) != 1 {
		return "", "", false
	}
	return filepath.Base(filepath.Dir(filepath.Dir(found[0]))), found[0], true
}

// Inspect returns what is known about an exec.
func (s *Service) Inspect(_ context.Context, id string) (api.ExecInspectResponse, error) {
	e, err := s.find(id)
	if err != nil {
		return s.inspectEarlier(id)
	}
	e.mu.Lock()
	pid, code, running := e.pid, e.exit, e.started && e.exit == nil
	e.mu.Unlock()
	if running && pid != 0 {
		// The client may have seen the end of the stream before us.
		if exit, err := shim.ReadExit(shim.ExecExitPath(e.target.Bundle, e.id)); err == nil {
			e.ends(exit.Code)
			code, running = &exit.Code, false
		}
	}
	return api.ExecInspectResponse{
		ID: e.id, Running: running, ExitCode: code, Pid: pid, ContainerID: e.target.ID,
		ProcessConfig: &api.ExecProcessConfig{Tty: e.req.Tty, Entrypoint: e.req.Cmd[0], Arguments: e.req.Cmd[1:], Privileged: &e.req.Privileged, User: e.req.User},
		OpenStdin:     e.req.AttachStdin, OpenStderr: e.req.AttachStderr, OpenStdout: e.req.AttachStdout, DetachKeys: e.keys,
		CanRemove: code != nil,
	}, nil
}

func (s *Service) inspectEarlier(id string) (api.ExecInspectResponse, error) {
	container, dir, ok := s.earlier(id)
	if !ok {
		return api.ExecInspectResponse{}, noSuchExec(id)
	}
	r := api.ExecInspectResponse{ID: id, ContainerID: container, Running: true, ProcessConfig: &api.ExecProcessConfig{}}
	var p specs.Process
	if raw, err := os.ReadFile(filepath.Join(dir, shim.ProcessName)); err == nil && json.Unmarshal(raw, &p) == nil && len(p.Args) > 0 {
		r.ProcessConfig.Entrypoint, r.ProcessConfig.Arguments, r.ProcessConfig.Tty = p.Args[0], p.Args[1:], p.Terminal
	}
	exit, err := shim.ReadExit(filepath.Join(dir, shim.ExitName))
	switch {
	case err == nil:
		r.Running, r.ExitCode, r.CanRemove = false, &exit.Code, true
	case !errdefs.Is(err, errdefs.NotFound):
		return r, errors.Join(noSuchExec(id), err)
	}
	return r, nil
}
