// Package system is the engine's noun "system": what the engine and its host
// are.
package system

import (
	"context"

	api "github.com/moby/moby/api/types/system"

	"lade/internal/errdefs"
)

// The versions of Docker's API that the engine speaks.
const (
	APIVersion    = "1.51"
	MinAPIVersion = "1.24"
)

// Ping is what every client asks first.
type Ping struct {
	APIVersion     string
	OSType         string
	BuilderVersion string
	Swarm          string
	Server         string // for the Server header
}

// Service answers questions about the engine and its host.
type Service struct{}

// Ping returns what every client asks first. It does no I/O.
func (s *Service) Ping() Ping {
	return Ping{APIVersion: APIVersion, OSType: "linux", BuilderVersion: "1", Swarm: "inactive", Server: "Lade"}
}

// Version returns which engine this is, and on which kernel.
func (s *Service) Version(ctx context.Context) (api.VersionResponse, error) {
	return api.VersionResponse{}, errdefs.New(errdefs.NotImplemented, "version: not yet")
}

// Info returns the state of the engine and of its host.
func (s *Service) Info(ctx context.Context) (api.Info, error) {
	return api.Info{}, errdefs.New(errdefs.NotImplemented, "info: not yet")
}
