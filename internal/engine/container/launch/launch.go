// Package launch takes a container from its definition to a running process:
// it makes the bundle, has a shim started, furnishes the container and lets it
// go. What it took is given back where that does not succeed.
//
// It knows one container at a time, and neither names nor records; what it must
// know of others, it asks for. It also drives the runtime for what has no shim.
package launch

import (
	"context"
	"log/slog"
	"net/netip"
	"os"

	"github.com/opencontainers/go-digest"

	"lade/internal/cdi"
	"lade/internal/engine/container/hostfacts"
	"lade/internal/engine/container/record"
	"lade/internal/linux/fsat"
	"lade/internal/linux/mount"
	"lade/internal/shim"
	"lade/internal/snapshot"
)

// Snapshots makes and removes containers' writable layers.
type Snapshots interface {
	Prepare(id string, diffIDs []digest.Digest, o snapshot.PrepareOptions) (mount.Root, error)
	Remove(id string) error
	// Upper opens what a container has written: fs.ErrNotExist if it never ran.
	Upper(id string) (*fsat.Dir, error)
	// CheckSize returns why no writable layer can be bounded to size bytes.
	CheckSize(size int64) error
}

// Network connects containers that have a network namespace of their own.
type Network interface {
	// Attach connects the network namespace of process pid, before the
	// container's program runs, and publishes its ports. It returns the
	// container's addresses.
	Attach(ctx context.Context, d record.Definition, pid int) ([]netip.Addr, error)
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
	Create(ctx context.Context, root *os.File, mounts ...*os.File) (pid int, err error)
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

// Config is what a Launcher is made of.
type Config struct {
	Paths

	Snapshots Snapshots
	Shims     Shims
	Network   Network // nil: containers that ask for a bridge get no network
	// Roots puts a root together, as a mount that hangs nowhere and is handed to
	// the shim. Nil: the shim does it.
	Roots func(*mount.Root) (*os.File, error)

	// Look opens a root for the engine's own eyes, with mounts in it.
	Look func(*mount.Root, []mount.ViewMount) (*mount.View, error)

	CDI      *cdi.Registry  // nil: no devices are known by names
	Runtimes []Runtime      // the default first
	Init     string         // path of lade-init
	Host     hostfacts.Host // facts of the machine
	Log      *slog.Logger
}

// Others finds containers: those whose namespaces one is to share.
type Others func(ref string) (record.Definition, record.State, error)

// Launcher starts containers. It keeps nothing of them.
type Launcher struct {
	cfg    Config
	others Others
	log    *slog.Logger
}

// New makes a launcher.
func New(cfg Config, others Others) *Launcher {
	return &Launcher{cfg: cfg, others: others, log: cfg.Log}
}

// ownRuntime is the name of Lade's runtime.
const ownRuntime = "lade"

// Foreign reports whether a container's runtime is not Lade's.
func (l *Launcher) Foreign(name string) bool { return l.Runtime(name).Name != ownRuntime }

// Runtime returns the runtime of the given name; empty means the default.
func (l *Launcher) Runtime(name string) Runtime {
	for _, r := range l.cfg.Runtimes {
		if r.Name == name {
			return r
		}
	}
	return l.cfg.Runtimes[0]
}
