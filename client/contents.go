package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/moby/moby/api/types/image"

	"lade/api"
)

// ImageHistory returns the steps that made an image, the last first.
func (c *Client) ImageHistory(ctx context.Context, ref string) ([]image.HistoryResponseItem, error) {
	return get[[]image.HistoryResponseItem](ctx, c, call{method: http.MethodGet, path: path("images", ref, "history")})
}

// ImageTree returns which layers the images have, and share.
func (c *Client) ImageTree(ctx context.Context) (api.ImageTree, error) {
	return get[api.ImageTree](ctx, c, call{method: http.MethodGet, path: api.ImageTreePath})
}

// ImageFiles lists the files of an image, or of one of its layers.
func (c *Client) ImageFiles(ctx context.Context, ref, layer string) ([]api.ImageFile, error) {
	q := url.Values{}
	if layer != "" {
		q.Set("layer", layer)
	}
	return get[[]api.ImageFile](ctx, c, call{method: http.MethodGet, path: api.ImageFilesPath(url.PathEscape(ref)), query: q})
}

// ImageDiff returns how image b differs from image a.
func (c *Client) ImageDiff(ctx context.Context, a, b string) ([]api.ImageChange, error) {
	return get[[]api.ImageChange](ctx, c, call{method: http.MethodGet, path: api.ImageDiffPath(url.PathEscape(a)), query: url.Values{"to": {b}}})
}
