package dockerapi

import (
	"net/http"

	api "github.com/moby/moby/api/types/container"

	"lade/internal/engine/exec"
	"lade/internal/errdefs"
)

func (h *Handler) execRoutes() []route {
	if h.s.Execs == nil {
		return nil
	}
	return []route{
		{http.MethodPost, "/containers/{name}/exec", h.createExec},
		{http.MethodPost, "/exec/{name}/start", h.startExec},
		{http.MethodPost, "/exec/{name}/resize", h.resizeExec},
		{http.MethodGet, "/exec/{name}/json", h.inspectExec},
	}
}

func (h *Handler) createExec(c *call) error {
	var req api.ExecCreateRequest
	if err := c.decode(&req); err != nil {
		return err
	}
	if len(req.Cmd) == 0 {
		return errdefs.New(errdefs.Invalid, "no exec command specified")
	}
	id, err := h.s.Execs.Create(c.Context(), c.name, req)
	if err != nil {
		return err
	}
	return c.replyStatus(http.StatusCreated, api.ExecCreateResponse{ID: id})
}

func (h *Handler) startExec(c *call) error {
	var req api.ExecStartRequest
	if err := c.decode(&req); err != nil {
		return err
	}
	o := exec.StartOptions{Detach: req.Detach, Tty: req.Tty}
	if req.Tty && req.ConsoleSize != nil {
		o.Height, o.Width = req.ConsoleSize[0], req.ConsoleSize[1]
	}
	t := &takeover{c: c}
	if err := t.finish(h.s.Execs.Start(c.Context(), c.name, o, t.hijack)); err != nil {
		return err
	}
	if !t.done {
		c.w.WriteHeader(http.StatusOK)
	}
	return nil
}

func (h *Handler) resizeExec(c *call) error {
	height, width, err := c.size()
	if err != nil {
		return err
	}
	if err := h.s.Execs.Resize(c.Context(), c.name, height, width); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusOK)
	return nil
}

func (h *Handler) inspectExec(c *call) error {
	return c.answer(h.s.Execs.Inspect(c.Context(), c.name))
}
