package container

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	api "github.com/moby/moby/api/types/container"

	"lade/internal/engine/container/idrange"
	"lade/internal/engine/container/launch"
	"lade/internal/engine/container/pending"
	"lade/internal/engine/container/place"
	"lade/internal/engine/container/record"
	"lade/internal/engine/container/table"
	"lade/internal/engine/container/volumes"
	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/metadata"
)

// Images is what the service asks of the image store.
type Images interface {
	// Resolve finds a local image by name, digest or id.
	Resolve(ctx context.Context, ref string) (image.Image, error)
	// Pin keeps an image's layers while the container exists.
	Pin(ctx context.Context, containerID string, img image.Image) error
	Unpin(ctx context.Context, containerID string) error
	// Health returns the health check of an image, or nil.
	Health(ctx context.Context, img image.Image) (*api.HealthConfig, error)
}

// Config is what a Service is made of.
type Config struct {
	launch.Config // what starts need

	Volumes volumes.Volumes // nil: containers cannot have any

	Durable *metadata.DB
	Boot    *metadata.DB
	Images  Images
	Events  record.Events
	// Networks are nil where the engine has no right to make any.
	Networks place.Networks
}

// Service is the engine's containers: it creates, starts, watches and removes
// them. Its methods may be called concurrently; none waits for a container
// other than its own.
type Service struct {
	cfg     Config
	log     *slog.Logger
	records *record.Store
	// launcher starts containers; it asks back for those whose namespaces one
	// is to share.
	launcher *launch.Launcher
	volumes  *volumes.Keeper
	ids      *idrange.Ranges
	checks   chan struct{}  // a place for each health check that runs
	quit     chan struct{}  // closed when the service closes; containers run on
	running  sync.WaitGroup // the goroutines that watch containers

	table *table.Table[*container]
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
	s := &Service{cfg: cfg, log: cfg.Log, table: table.New[*container]()}
	s.ids = idrange.New()
	s.checks = make(chan struct{}, maxChecks)
	s.quit = make(chan struct{})
	s.launcher = launch.New(cfg.Config, s.known)
	s.volumes = &volumes.Keeper{Volumes: cfg.Volumes, Image: s.launcher.ImageRoot, Known: s.known}
	s.records = record.New(cfg.Durable, cfg.Boot, cfg.Events, s.log)
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
	op *operation

	// rec is held while a change of the state is recorded, so that records are
	// written in the order of changes. It is taken before mu.
	rec sync.Mutex

	mu      sync.Mutex
	def     record.Definition // guarded by mu; the pointers in it are never written through
	state   record.State      // guarded by mu
	run     *run              // the shim, while there is one; guarded by mu
	waiters []*waiter         // guarded by mu
	news    chan struct{}     // closed when the state changes, for who waits for that; guarded by mu
	attempt uint64            // number of the start that a policy asked for last; guarded by mu
	oldBoot bool              // nothing was recorded of it since the machine started; set before it is used
	gone    bool              // removed; guarded by mu

	keepVolumes bool // when it is removed; guarded by op

	pending pending.Clients
}

// run is one execution of a container, from start to exit.
type run struct {
	shim  launch.Shim   // nil if the shim died before its container
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
type operation struct {
	held    chan struct{}
	waiting atomic.Int32
}

func newOperation() *operation { return &operation{held: make(chan struct{}, 1)} }

func (o *operation) lock(ctx context.Context) error {
	o.waiting.Add(1)
	defer o.waiting.Add(-1)
	select {
	case o.held <- struct{}{}:
		return nil
	case <-ctx.Done():
		return errdefs.New(errdefs.Cancelled, "wait for another operation on this container: %w", context.Cause(ctx))
	}
}

func (o *operation) unlock() { <-o.held }

// wanted reports whether somebody waits for the holder to unlock.
func (o *operation) wanted() bool { return o.waiting.Load() > 0 }

// known returns what is known of a container.
func (s *Service) known(ref string) (record.Definition, record.State, error) {
	c, err := s.lookup(ref)
	if err != nil {
		return record.Definition{}, record.State{}, err
	}
	def, st := c.view()
	return def, st, nil
}
