package dockerapi

import (
	"context"
	"log/slog"

	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/system"

	ladeapi "lade/api"
	"lade/internal/engine/activity"
	"lade/internal/engine/container"
	"lade/internal/engine/event"
	"lade/internal/engine/exec"
)

// Services is what the handler translates to. A service that is nil answers
// 501 to everything it would serve.
type Services struct {
	Lifecycle  Lifecycle // of containers
	States     States    // of containers
	Streams    Streams   // of containers
	Execs      Execs
	Images     Images
	Registries Registries
	Archives   Archives
	System     System
	Networks   Networks
	Rules      Rules // of networks
	Disk       Disk
	Prune      Prune
	Volumes    Volumes
	Files      Files // of containers
	Check      Check
	Events     Events
	Activity   Activity
	Commit     Commit
	Contents   Contents
	// Log takes what only an operator can mend: faults of the engine. The
	// zero value is slog's default.
	Log *slog.Logger
}

// Lifecycle moves containers from one state to another. Its methods are those
// of container.Service, which says what their errors mean.
type Lifecycle interface {
	Create(ctx context.Context, name string, req api.CreateRequest, platform string) (api.CreateResponse, error)
	Start(ctx context.Context, ref string) error
	Stop(ctx context.Context, ref string, o container.StopOptions) error
	Restart(ctx context.Context, ref string, o container.StopOptions) error
	Kill(ctx context.Context, ref, signal string) error
	Pause(ctx context.Context, ref string) error
	Unpause(ctx context.Context, ref string) error
	Remove(ctx context.Context, ref string, o container.RemoveOptions) error
}

// States tells how containers are, and changes what is known of them.
type States interface {
	Rename(ctx context.Context, ref, name string) error
	Update(ctx context.Context, ref string, u api.UpdateConfig) (api.UpdateResponse, error)
	Wait(ctx context.Context, ref string, cond api.WaitCondition, since string) (container.Waiting, error)
	Inspect(ctx context.Context, ref string, size bool) (api.InspectResponse, error)
	List(ctx context.Context, o container.ListOptions) ([]api.Summary, error)
	Explain(ctx context.Context, ref, format string) ([]byte, error)
	Why(ctx context.Context, ref string) (string, error)
	End(ctx context.Context, ref string) (*ladeapi.ContainerEnd, error)
}

// Streams reads from and writes to containers.
type Streams interface {
	Logs(ctx context.Context, ref string, o container.LogsOptions) (*container.LogStream, error)
	Attach(ctx context.Context, ref string, o container.AttachOptions, hijack container.Hijack) error
	Resize(ctx context.Context, ref string, height, width uint) error
}

// Execs runs further processes in containers.
type Execs interface {
	Create(ctx context.Context, ref string, req api.ExecCreateRequest) (id string, err error)
	Start(ctx context.Context, id string, o exec.StartOptions, hijack exec.Hijack) error
	Resize(ctx context.Context, id string, height, width uint) error
	Inspect(ctx context.Context, id string) (api.ExecInspectResponse, error)
}

// System tells what the engine and its host are. The versions of the API in
// its answers are the handler's business.
type System interface {
	Version(ctx context.Context) (system.VersionResponse, error)
	Info(ctx context.Context) (system.Info, error)
}

// Activity tells what goes on in containers.
type Activity interface {
	Top(ctx context.Context, ref, args string) (api.TopResponse, error)
	Stats(ctx context.Context, ref string, o activity.StatsOptions, tell func(api.StatsResponse) error) error
}

// Events tells what happens.
type Events interface {
	Stream(o event.Options) (*event.Stream, error)
}

// Rules tells of the packet filter. Its methods are those of network.Service.
type Rules interface {
	Verify(ctx context.Context) (ladeapi.NetworkVerify, error)
	Explain(ctx context.Context, port, protocol string) ([]ladeapi.PortReach, error)
}

// Networks makes and removes networks, and tells which there are. filters are
// Docker's, by key.
type Networks interface {
	Create(ctx context.Context, r network.CreateRequest) (network.CreateResponse, error)
	Remove(ctx context.Context, ref string) error
	Prune(ctx context.Context, filters map[string][]string) (network.PruneReport, error)
	Connect(ctx context.Context, ref string, r network.ConnectRequest) error
	Disconnect(ctx context.Context, ref string, r network.DisconnectRequest) error
	List(ctx context.Context, filters map[string][]string) ([]network.Inspect, error)
	Inspect(ctx context.Context, ref string) (network.Inspect, error)
}
