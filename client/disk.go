package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/moby/moby/api/types/system"

	"lade/api"
)

// DiskUsage returns how much disk images, containers and volumes take, with a
// list of them all.
func (c *Client) DiskUsage(ctx context.Context) (system.DiskUsage, error) {
	// The first version of the API that answers with sums.
	return get[system.DiskUsage](ctx, c, call{method: http.MethodGet, path: "/v1.53/system/df", query: url.Values{"verbose": {"1"}}})
}

// Check has the engine read all that is on disk, and with repair mend what it can.
func (c *Client) Check(ctx context.Context, repair bool) (api.CheckReport, error) {
	return get[api.CheckReport](ctx, c, call{method: http.MethodPost, path: api.CheckPath, query: truth(map[string]bool{"repair": repair})})
}

// Ledger returns whose every byte below the data root is.
func (c *Client) Ledger(ctx context.Context) (api.Ledger, error) {
	return get[api.Ledger](ctx, c, call{method: http.MethodGet, path: api.LedgerPath})
}
