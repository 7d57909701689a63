package dockerapi

import (
	"io"
	"net/http"
)

func (h *Handler) systemRoutes() []route {
	rs := []route{
		{http.MethodGet, "/_ping", h.ping},
		{http.MethodHead, "/_ping", h.ping},
	}
	if h.s.Events != nil {
		rs = append(rs, route{http.MethodGet, "/events", h.events})
	}
	if h.s.System != nil {
		rs = append(rs,
			route{http.MethodGet, "/version", h.version},
			route{http.MethodGet, "/info", h.info},
		)
	}
	return rs
}

func (h *Handler) ping(c *call) error {
	head := c.w.Header()
	head.Set("Cache-Control", "no-cache, no-store, must-revalidate")
	head.Set("Pragma", "no-cache")
	head.Set("Builder-Version", "1")
	head.Set("Swarm", "inactive")
	head.Set("Content-Type", "text/plain; charset=utf-8")
	if c.Method == http.MethodHead {
		head.Set("Content-Length", "0")
		return nil
	}
	_, _ = io.WriteString(c.w, "OK")
	return nil
}

func (h *Handler) version(c *call) error {
	v, err := h.s.System.Version(c.Context())
	if err != nil {
		return err
	}
	v.APIVersion, v.MinAPIVersion = MaxVersion, MinVersion
	for _, part := range v.Components {
		if part.Name == "Engine" && part.Details != nil {
			part.Details["ApiVersion"], part.Details["MinAPIVersion"] = MaxVersion, MinVersion
		}
	}
	return c.reply(v)
}

func (h *Handler) info(c *call) error {
	return c.answer(h.s.System.Info(c.Context()))
}
