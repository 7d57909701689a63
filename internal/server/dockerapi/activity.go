package dockerapi

import (
	"encoding/json"
	"net/http"

	api "github.com/moby/moby/api/types/container"

	"lade/internal/engine/activity"
	"lade/internal/errdefs"
)

func (h *Handler) activityRoutes() []route {
	if h.s.Activity == nil {
		return nil
	}
	return []route{
		{http.MethodGet, "/containers/{name}/top", h.topContainer},
		{http.MethodGet, "/containers/{name}/stats", h.containerStats},
	}
}

func (h *Handler) topContainer(c *call) error {
	return c.answer(h.s.Activity.Top(c.Context(), c.name, c.query.Get("ps_args")))
}

func (h *Handler) containerStats(c *call) error {
	o := activity.StatsOptions{Stream: !c.query.Has("stream") || c.boolean("stream"), OneShot: c.boolean("one-shot")}
	if o.Stream && o.OneShot {
		return errdefs.New(errdefs.Invalid, "cannot have stream=true and one-shot=true")
	}
	flush := http.NewResponseController(c.w).Flush
	enc := json.NewEncoder(c.w)
	return h.s.Activity.Stats(c.Context(), c.name, o, func(r api.StatsResponse) error {
		c.w.Header().Set("Content-Type", "application/json")
		if err := enc.Encode(r); err != nil {
			return err
		}
		return flush()
	})
}
