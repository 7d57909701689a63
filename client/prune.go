package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/moby/moby/api/types/image"
)

// The nouns that can be pruned.
const (
	Containers = "containers"
	Networks   = "networks"
	Volumes    = "volumes"
	Images     = "images"
	Build      = "build"
)

// Pruned is what a prune has removed; which list is filled depends on the noun.
type Pruned struct {
	ContainersDeleted []string
	NetworksDeleted   []string
	VolumesDeleted    []string
	CachesDeleted     []string
	ImagesDeleted     []image.DeleteResponse
	SpaceReclaimed    uint64
}

// Prune removes what nobody uses of one noun.
func (c *Client) Prune(ctx context.Context, noun string, f Filters) (Pruned, error) {
	q := url.Values{}
	if err := f.query(q); err != nil {
		return Pruned{}, err
	}
	return get[Pruned](ctx, c, call{method: http.MethodPost, path: path(noun, "prune"), query: q})
}
