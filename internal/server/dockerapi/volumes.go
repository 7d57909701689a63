package dockerapi

import (
	"context"
	"net/http"

	"github.com/moby/moby/api/types/volume"

	"lade/internal/errdefs"
)

// Volumes makes, shows and removes volumes. Its methods are those of
// volume.Service, which says what their errors mean.
type Volumes interface {
	Create(ctx context.Context, req volume.CreateRequest) (volume.Volume, error)
	List(ctx context.Context, filters map[string][]string) (volume.ListResponse, error)
	Inspect(ctx context.Context, name string) (volume.Volume, error)
	Remove(ctx context.Context, name string, force bool) error
	Prune(ctx context.Context, filters map[string][]string) (volume.PruneReport, error)
}

func (h *Handler) volumeRoutes() []route {
	if h.s.Volumes == nil {
		return nil
	}
	const one = "/volumes/{name}"
	return []route{
		{http.MethodGet, "/volumes", h.listVolumes},
		{http.MethodPost, "/volumes/create", h.createVolume},
		{http.MethodPost, "/volumes/prune", h.pruneVolumes},
		{http.MethodGet, one, h.inspectVolume},
		{http.MethodPut, one, h.updateVolume},
		{http.MethodDelete, one, h.removeVolume},
	}
}

func (h *Handler) listVolumes(c *call) error { return filtered(c, h.s.Volumes.List) }

func (h *Handler) createVolume(c *call) error {
	var req volume.CreateRequest
	if err := c.decode(&req); err != nil {
		return err
	}
	v, err := h.s.Volumes.Create(c.Context(), req)
	if err != nil {
		return err
	}
	return c.replyStatus(http.StatusCreated, v)
}

func (h *Handler) inspectVolume(c *call) error {
	return c.answer(h.s.Volumes.Inspect(c.Context(), c.name))
}

// updateVolume changes what only volumes of a cluster have.
func (h *Handler) updateVolume(*call) error {
	return errdefs.New(errdefs.Unavailable, "volume update only valid for cluster volumes, but swarm is unavailable")
}

func (h *Handler) removeVolume(c *call) error {
	return c.done(h.s.Volumes.Remove(c.Context(), c.name, c.boolean("force")))
}

func (h *Handler) pruneVolumes(c *call) error {
	return filtered(c, func(ctx context.Context, filters map[string][]string) (volume.PruneReport, error) {
		if c.version.before(42) { // all were pruned, whoever had named them
			if filters == nil {
				filters = map[string][]string{}
			}
			filters["all"] = []string{"true"}
		}
		return h.s.Volumes.Prune(ctx, filters)
	})
}
