package dockerapi

import (
	"io"
	"net/http"
	"runtime"
	"runtime/pprof"
	"time"

	"lade/api"
	"lade/internal/errdefs"
	"lade/internal/version"
)

func (h *Handler) ladeRoutes() []route {
	return []route{
		{http.MethodGet, "/lade/healthz", h.health},
		{http.MethodGet, "/lade/dump", h.dump},
	}
}

// health answers as soon as requests are served at all.
func (h *Handler) health(c *call) error {
	c.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(c.w, "ok\n")
	return nil
}

// dump tells what the engine is doing: every request that is being served,
// since when, and, for stacks=1, where each goroutine stands.
func (h *Handler) dump(c *call) error {
	if c.boolean("stacks") {
		c.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		return pprof.Lookup("goroutine").WriteTo(c.w, 2)
	}
	return c.reply(struct {
		Version    string      `json:"version"`
		Now        time.Time   `json:"now"`
		Goroutines int         `json:"goroutines"`
		Operations []operation `json:"operations"`
	}{version.Version, time.Now(), runtime.NumGoroutine(), h.flight.list()})
}

func (h *Handler) explainContainer(c *call) error {
	format := c.query.Get("format")
	media := "application/json"
	switch format {
	case "", api.ExplainText:
		format, media = api.ExplainText, "text/plain; charset=utf-8"
	case api.ExplainJSON:
	default:
		return errdefs.New(errdefs.Invalid, "invalid format %q: want %s or %s", format, api.ExplainText, api.ExplainJSON)
	}
	text, err := h.s.States.Explain(c.Context(), c.name, format)
	if err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", media)
	_, _ = c.w.Write(text)
	return nil
}

// whyContainer says in words how a container is.
func (h *Handler) whyContainer(c *call) error {
	text, err := h.s.States.Why(c.Context(), c.name)
	if err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(c.w, text)
	return nil
}
