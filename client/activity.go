package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/moby/moby/api/types/container"
)

// Top returns the processes of a container, in the columns that arguments of
// ps(1) ask for.
func (c *Client) Top(ctx context.Context, id, args string) (container.TopResponse, error) {
	q := url.Values{}
	if args != "" {
		q.Set("ps_args", args)
	}
	return get[container.TopResponse](ctx, c, call{method: http.MethodGet, path: path("containers", id, "top"), query: q})
}

// Stats returns what a container uses at this moment.
func (c *Client) Stats(ctx context.Context, id string) (container.StatsResponse, error) {
	q := url.Values{"stream": {"0"}, "one-shot": {"1"}}
	return get[container.StatsResponse](ctx, c, call{method: http.MethodGet, path: path("containers", id, "stats"), query: q})
}
