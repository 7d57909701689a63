package container

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"lade/internal/engine/container/hostfacts"
	"lade/internal/engine/container/idrange"
	"lade/internal/engine/container/pending"
	"lade/internal/engine/container/record"
	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/linux/mount"
	"lade/internal/metadata"
	"lade/internal/shim"
	"lade/internal/snapshot"
)

// Images is what the service asks of the image store.
type Images interface {
	// Resolve finds a local image by name, digest or id.
	Resolve(ctx context.Context, ref string) (image.Image, error)
	// Pin keeps an image's layers while the container exists.
	Pin(ctx context.Context, containerID string, img image.Image) error
	Unpin(ctx context.Context, containerID string) error
}

// Snapshots makes and removes containers' writable layers.
type Snapshots interface {
	Prepare(id string, diffIDs []digest.Digest, o snapshot.PrepareOptions) (mount.Root, error)
	Remove(id string) error
}

// Endpoint is a container's place in a network.
type Endpoint = record.Endpoint

// Network connects containers that have a network namespace of their own.
type Network interface {
	// Attach connects the network namespace of process pid, before the
	// container's program runs.
	Attach(ctx context.Context, id string, pid int) (Endpoint, error)
	// Detach releases what Attach took. A container that is not attached is
	// no error.
	Detach(ctx context.Context, id string) error
}

// Shim is the engine's side of one container's shim; see package shim.
type Shim interface {
	Control
	Streams
	// PID is the shim's own process.
	PID() int
	// Exited is closed when the exit record is on disk, Done when the shim has
	// removed the container and left.
	Exited() <-chan struct{}
	Exit() (shim.Exit, bool)
	Done() <-chan struct{}
	Close() error
}

// Control moves a container through its life.
type Control interface {
	Create(ctx context.Context, root *os.File) (pid int, err error)
	Start(ctx context.Context) error
	Signal(ctx context.Context, sig int, by string) error
	State(ctx context.Context) (shim.State, error)
}

// Streams connects clients, and runs further processes.
type Streams interface {
	Attach(ctx context.Context, a shim.Attach) error
	Resize(ctx context.Context, exec string, width, height uint16) error
	Exec(ctx context.Context, e shim.ExecConfig) (pid int, err error)
	ExecWait(ctx context.Context, exec string) (shim.Exit, error)
}

// Shims starts and finds shims.
type Shims interface {
	Launch(ctx context.Context, cfg shim.Config, attach []shim.Attach) (Shim, error)
	Dial(ctx context.Context, bundle string) (Shim, error)
}

// Runtime is an OCI runtime's command line.
type Runtime struct {
	Name    string // as --runtime gives it
	Program string // its path
	Args    []string
}

// Config is what a Service is made of.
type Config struct {
	DataDir  string // holds containers/ID: what survives a reboot
	StateDir string // holds containers/ID: the bundles
	Durable  *metadata.DB
	Boot     *metadata.DB

	Images    Images
	Snapshots Snapshots
	Shims     Shims
	Network   Network // nil: containers that ask for a bridge get no network
	// Roots puts a root together, as a mount that hangs nowhere and is handed to
	// the shim. Nil: the shim does it.
	Roots func(*mount.Root) (*os.File, error)

	Runtimes []Runtime      // the default first
	Init     string         // path of lade-init
	Host     hostfacts.Host // facts of the machine
	Log      *slog.Logger
}

// Service is the engine's containers: it creates, starts, watches and removes
// them. Its methods may be called concurrently; none waits for a container
// other than its own.
type Service struct {
	cfg     Config
	log     *slog.Logger
	records *record.Store
	ids     *idrange.Ranges
	quit    chan struct{}  // closed when the service closes; containers run on
	running sync.WaitGroup // the goroutines that watch containers

	mu    sync.Mutex
	byID  map[string]*container // guarded by mu
	names map[string]string     // name -> id; guarded by mu
}

// New makes the service from its records. Adopt must be called before
// anything else.
func New(cfg Config) (*Service, error) {
	if len(cfg.Runtimes) == 0 {
		return nil, errors.New("no OCI runtime is configured")
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	s := &Service{cfg: cfg, log: cfg.Log, byID: map[string]*container{}, names: map[string]string{}}
	s.ids = idrange.New()
	s.quit = make(chan struct{})
	s.records = record.New(cfg.Durable, cfg.Boot, s.log)
	return s, nil
}

// Close leaves all containers alone and writes what is not yet written.
func (s *Service) Close() error {
	close(s.quit)
	s.running.Wait()
	return s.records.Close()
}

// container is one container in memory. Its record on disk is never behind
// what was reported of it.
type container struct {
	id      string
	created time.Time
	// op is held by whoever changes what the container is: starts it, cleans
	// up after it, removes it. It may be held for long; reading needs only mu.
	op operation

	mu      sync.Mutex
	def     record.Definition // guarded by mu; the pointers in it are never written through
	state   record.State      // guarded by mu
	run     *run              // the shim, while there is one; guarded by mu
	waiters []*waiter         // guarded by mu
	gone    bool              // removed; guarded by mu

	pending pending.Clients
}

// run is one execution of a container, from start to exit.
type run struct {
	shim  Shim          // nil if the shim died before its container
	ended chan struct{} // closed when the exit is recorded
}

// view returns copies of what is known.
func (c *container) view() (record.Definition, record.State) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.def, c.state
}

// current returns the running execution, or nil.
func (c *container) current() *run {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.run
}

// operation is a lock that a caller can stop waiting for.
type operation chan struct{}

func newOperation() operation { return make(operation, 1) }

func (o operation) lock(ctx context.Context) error {
	select {
	case o <- struct{}{}:
		return nil
	case <-ctx.Done():
		return errdefs.New(errdefs.Cancelled, "wait for another operation on this container: %w", context.Cause(ctx))
	}
}

func (o operation) unlock() { <-o }

// dataDir is where a container's files that survive a reboot are.
func (s *Service) dataDir(id string) string { return filepath.Join(s.cfg.DataDir, "containers", id) }

// bundle is the container's OCI bundle.
func (s *Service) bundle(id string) string { return filepath.Join(s.cfg.StateDir, "containers", id) }

func (s *Service) exitFile(id string) string { return filepath.Join(s.dataDir(id), "exit.json") }

func (s *Service) logDir(id string) string { return filepath.Join(s.dataDir(id), "log") }

func (s *Service) runtimeRoot() string { return filepath.Join(s.cfg.StateDir, "runtime") }

// ownRuntime is the name of Lade's runtime.
const ownRuntime = "lade"

// foreign reports whether a container's runtime is not Lade's.
func (s *Service) foreign(name string) bool { return s.runtime(name).Name != ownRuntime }

// runtime returns the runtime of the given name; empty means the default.
func (s *Service) runtime(name string) Runtime {
	for _, r := range s.cfg.Runtimes {
		if r.Name == name {
			return r
		}
	}
	return s.cfg.Runtimes[0]
}
