package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"

	"github.com/moby/moby/api/types/network"

	"lade/api"
)

// ListNetworks returns the networks, without who is connected to them.
func (c *Client) ListNetworks(ctx context.Context, f Filters) ([]network.Inspect, error) {
	q := url.Values{}
	if len(f) > 0 {
		raw, err := json.Marshal(f)
		if err != nil {
			return nil, err
		}
		q.Set("filters", string(raw))
	}
	return get[[]network.Inspect](ctx, c, call{method: http.MethodGet, path: path("networks"), query: q})
}

// InspectNetworkRaw returns all that is known about a network, as it came.
func (c *Client) InspectNetworkRaw(ctx context.Context, ref string) (json.RawMessage, error) {
	return get[json.RawMessage](ctx, c, call{method: http.MethodGet, path: path("networks", ref)})
}

// CreateNetwork makes a network.
func (c *Client) CreateNetwork(ctx context.Context, r network.CreateRequest) (network.CreateResponse, error) {
	return get[network.CreateResponse](ctx, c, call{method: http.MethodPost, path: path("networks", "create"), body: r})
}

// RemoveNetwork removes a network.
func (c *Client) RemoveNetwork(ctx context.Context, ref string) error {
	return c.run(ctx, call{method: http.MethodDelete, path: path("networks", ref)})
}

// ConnectNetwork puts a container in a network.
func (c *Client) ConnectNetwork(ctx context.Context, ref string, r network.ConnectRequest) error {
	return c.run(ctx, call{method: http.MethodPost, path: path("networks", ref, "connect"), body: r})
}

// DisconnectNetwork takes a container out of a network.
func (c *Client) DisconnectNetwork(ctx context.Context, ref string, r network.DisconnectRequest) error {
	return c.run(ctx, call{method: http.MethodPost, path: path("networks", ref, "disconnect"), body: r})
}

// VerifyNetworks compares the packet filter's rules with what they should be.
func (c *Client) VerifyNetworks(ctx context.Context) (api.NetworkVerify, error) {
	return get[api.NetworkVerify](ctx, c, call{method: http.MethodGet, path: api.NetworkVerifyPath})
}

// ExplainPort says who reaches a port of the host; protocol may be empty: any.
func (c *Client) ExplainPort(ctx context.Context, port uint16, protocol string) ([]api.PortReach, error) {
	q := url.Values{"port": {strconv.Itoa(int(port))}}
	if protocol != "" {
		q.Set("protocol", protocol)
	}
	return get[[]api.PortReach](ctx, c, call{method: http.MethodGet, path: api.NetworkExplainPath, query: q})
}
