// Package exec is the engine's noun "exec": a further process in a running
// container, with its own streams and exit code.
package exec

import (
	"context"
	"os"

	api "github.com/moby/moby/api/types/container"

	"lade/internal/errdefs"
)

// StartOptions says how an exec is started.
type StartOptions struct {
	Detach        bool // no client is connected
	Tty           bool
	Height, Width uint // of the terminal; 0 means unknown
}

// Hijack takes the client's connection out of the hands of the protocol that
// brought the request; see package container.
type Hijack = func(tty bool) (f *os.File, buffered []byte, err error)

// Service creates and starts execs. Its methods may be called concurrently.
type Service struct{}

// Create checks a request and records an exec in a running container.
func (s *Service) Create(ctx context.Context, ref string, req api.ExecCreateRequest) (id string, err error) {
	return "", todo()
}

// Start runs an exec, once. hijack is not called when it is detached.
func (s *Service) Start(ctx context.Context, id string, o StartOptions, hijack Hijack) error {
	return todo()
}

// Resize gives an exec's terminal another size.
func (s *Service) Resize(ctx context.Context, id string, height, width uint) error { return todo() }

// Inspect returns what is known about an exec.
func (s *Service) Inspect(ctx context.Context, id string) (api.ExecInspectResponse, error) {
	return api.ExecInspectResponse{}, todo()
}

func todo() error { return errdefs.New(errdefs.NotImplemented, "exec: not yet") }
