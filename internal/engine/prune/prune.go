// Package prune removes stopped containers, in Docker's manner. Images, networks
// and volumes are pruned by their own services; what comes with a container's
// removal is the container service's business.
package prune

import (
	"context"
	"time"

	api "github.com/moby/moby/api/types/container"

	"lade/internal/errdefs"
	"lade/internal/filter"
)

// Containers lists and removes containers.
type Containers interface {
	// Stopped returns the containers that have no process, with their sizes.
	Stopped(ctx context.Context) ([]api.Summary, error)
	// Remove removes one, unless it runs.
	Remove(ctx context.Context, id string) error
}

// Service prunes containers.
type Service struct{ containers Containers }

// New returns a service.
func New(c Containers) *Service { return &Service{c} }

// Containers removes the stopped containers that the filters let go. One that
// somebody starts or removes meanwhile is left to them.
func (s *Service) Containers(ctx context.Context, filters map[string][]string) (api.PruneReport, error) {
	p, err := filter.Prunes(filters, time.Now())
	if err != nil {
		return api.PruneReport{}, err
	}
	list, err := s.containers.Stopped(ctx)
	if err != nil {
		return api.PruneReport{}, err
	}
	r := api.PruneReport{ContainersDeleted: []string{}}
	for _, c := range list {
		if err := ctx.Err(); err != nil {
			return r, errdefs.With(errdefs.Cancelled, err)
		}
		if !p.Match(time.Unix(c.Created, 0), c.Labels) {
			continue
		}
		switch err := s.containers.Remove(ctx, c.ID); {
		case err == nil:
			r.ContainersDeleted = append(r.ContainersDeleted, c.ID)
			r.SpaceReclaimed += uint64(max(0, c.SizeRw))
		case !errdefs.Is(err, errdefs.NotFound) && !errdefs.Is(err, errdefs.Conflict):
			return r, err
		}
	}
	return r, nil
}
