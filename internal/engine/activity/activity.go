// Package activity tells what goes on in a container: its processes (top) and
// what they use (stats). All of it is read from the kernel's files, by the
// engine: no program is run, neither the host's nor one of the container's.
package activity

import (
	"context"

	"lade/internal/errdefs"
	"lade/internal/linux/cgroup"
)

// Target is a container whose activity is asked for.
type Target struct {
	ID   string
	Name string
	PID  int // of its first process; 0 if it does not run
}

// Containers finds containers.
type Containers interface {
	Find(ctx context.Context, ref string) (Target, error)
}

// Service reads what containers do.
type Service struct {
	containers Containers
	cgroups    cgroup.Layout
}

// New returns a service.
func New(c Containers) (*Service, error) {
	l, err := cgroup.Detect()
	if err != nil {
		return nil, err
	}
	return &Service{c, l}, nil
}

// group returns the cgroups of a container that runs.
func (s *Service) group(t Target) (cgroup.Group, error) {
	if t.PID == 0 {
		return cgroup.Group{}, errdefs.New(errdefs.Conflict, "container %s is not running", t.ID)
	}
	return s.cgroups.Of(t.PID)
}
