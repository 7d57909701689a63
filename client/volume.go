package client

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/moby/moby/api/types/volume"
)

// CreateVolume makes a volume. One of that name that is there is returned as it
// is.
func (c *Client) CreateVolume(ctx context.Context, req volume.CreateRequest) (volume.Volume, error) {
	return get[volume.Volume](ctx, c, call{method: http.MethodPost, path: path("volumes", "create"), body: req})
}

// ListVolumes returns volumes, by name.
func (c *Client) ListVolumes(ctx context.Context, filters Filters) (volume.ListResponse, error) {
	q := truth(nil)
	if err := filters.query(q); err != nil {
		return volume.ListResponse{}, err
	}
	return get[volume.ListResponse](ctx, c, call{method: http.MethodGet, path: path("volumes"), query: q})
}

// InspectVolumeRaw returns all that the engine knows of a volume, as it came.
func (c *Client) InspectVolumeRaw(ctx context.Context, name string) (json.RawMessage, error) {
	return get[json.RawMessage](ctx, c, call{method: http.MethodGet, path: path("volumes", name)})
}

// RemoveVolume removes a volume that no container has. With force, one that is
// not there is no error.
func (c *Client) RemoveVolume(ctx context.Context, name string, force bool) error {
	return c.run(ctx, call{method: http.MethodDelete, path: path("volumes", name), query: truth(map[string]bool{"force": force})})
}

// PruneVolumes removes volumes that no container has.
func (c *Client) PruneVolumes(ctx context.Context, filters Filters) (volume.PruneReport, error) {
	q := truth(nil)
	if err := filters.query(q); err != nil {
		return volume.PruneReport{}, err
	}
	return get[volume.PruneReport](ctx, c, call{method: http.MethodPost, path: path("volumes", "prune"), query: q})
}

// UpdateVolume changes what only volumes of a cluster have: an engine without
// one refuses.
func (c *Client) UpdateVolume(ctx context.Context, name string, req any) error {
	return c.run(ctx, call{method: http.MethodPut, path: path("volumes", name), body: req})
}
