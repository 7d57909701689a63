package dockerapi

import (
	"cmp"
	"context"
	"net/http"

	"github.com/moby/moby/api/types/network"

	"lade/api"
	"lade/internal/errdefs"
)

func (h *Handler) networkRoutes() []route {
	if h.s.Networks == nil { // nor Rules
		return nil
	}
	return []route{
		{http.MethodGet, "/networks", h.listNetworks},
		{http.MethodGet, "/networks/{name}", h.inspectNetwork},
		{http.MethodPost, "/networks/create", h.createNetwork},
		{http.MethodPost, "/networks/prune", h.pruneNetworks},
		{http.MethodPost, "/networks/{name}/connect", h.connectNetwork},
		{http.MethodPost, "/networks/{name}/disconnect", h.disconnectNetwork},
		{http.MethodDelete, "/networks/{name}", h.removeNetwork},
		{http.MethodGet, api.NetworkVerifyPath, func(c *call) error { return c.answer(h.s.Rules.Verify(c.Context())) }},
		{http.MethodGet, api.NetworkExplainPath, func(c *call) error {
			return c.answer(h.s.Rules.Explain(c.Context(), c.query.Get("port"), c.query.Get("protocol")))
		}},
	}
}

// listNetworks leaves out who is connected, as Docker does.
func (h *Handler) listNetworks(c *call) error {
	return filtered(c, func(ctx context.Context, filters map[string][]string) ([]network.Inspect, error) {
		list, err := h.s.Networks.List(ctx, filters)
		for i := range list {
			list[i].Containers, list[i].Status = map[string]network.EndpointResource{}, nil
		}
		return append([]network.Inspect{}, list...), err
	})
}

func (h *Handler) inspectNetwork(c *call) error {
	return c.answer(h.s.Networks.Inspect(c.Context(), c.name))
}

func (h *Handler) createNetwork(c *call) error {
	var r network.CreateRequest
	if err := c.decode(&r); err != nil {
		return err
	}
	made, err := h.s.Networks.Create(c.Context(), r)
	if err != nil {
		return err
	}
	return c.replyStatus(http.StatusCreated, made)
}

func (h *Handler) pruneNetworks(c *call) error { return filtered(c, h.s.Networks.Prune) }

func (h *Handler) connectNetwork(c *call) error {
	var r network.ConnectRequest
	if err := c.decode(&r); err != nil || r.Container == "" {
		return cmp.Or(err, noContainer(c))
	}
	return h.s.Networks.Connect(c.Context(), c.name, r)
}

func (h *Handler) disconnectNetwork(c *call) error {
	var r network.DisconnectRequest
	if err := c.decode(&r); err != nil || r.Container == "" {
		return cmp.Or(err, noContainer(c))
	}
	return h.s.Networks.Disconnect(c.Context(), c.name, r)
}

func noContainer(c *call) error {
	return errdefs.New(errdefs.Invalid, "connect or disconnect: no container is named for network %s", c.name)
}

func (h *Handler) removeNetwork(c *call) error {
	return c.done(h.s.Networks.Remove(c.Context(), c.name))
}
