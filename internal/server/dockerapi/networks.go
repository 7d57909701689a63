package dockerapi

import (
	"net/http"

	"github.com/moby/moby/api/types/network"
)

func (h *Handler) networkRoutes() []route {
	if h.s.Networks == nil {
		return nil
	}
	return []route{
		{http.MethodGet, "/networks", h.listNetworks},
		{http.MethodGet, "/networks/{name}", h.inspectNetwork},
	}
}

func (h *Handler) listNetworks(c *call) error {
	filters, err := c.filters()
	if err != nil {
		return err
	}
	list, err := h.s.Networks.List(c.Context(), filters)
	if err != nil {
		return err
	}
	if list == nil {
		list = []network.Inspect{}
	}
	return c.reply(list)
}

func (h *Handler) inspectNetwork(c *call) error {
	n, err := h.s.Networks.Inspect(c.Context(), c.name)
	if err != nil {
		return err
	}
	return c.reply(n)
}
