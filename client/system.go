package client

import (
	"context"
	"net/http"

	"github.com/moby/moby/api/types/system"

	"lade/internal/errdefs"
)

// Ping returns nil if the engine answers.
func (c *Client) Ping(ctx context.Context) error {
	return c.run(ctx, call{method: http.MethodGet, path: "/_ping"})
}

// Version returns the versions of the engine and its parts.
func (c *Client) Version(ctx context.Context) (system.VersionResponse, error) {
	return get[system.VersionResponse](ctx, c, call{method: http.MethodGet, path: path("version")})
}

// Info returns what the engine knows of itself and the machine.
func (c *Client) Info(ctx context.Context) (system.Info, error) {
	return get[system.Info](ctx, c, call{method: http.MethodGet, path: path("info")})
}

// notModifiedIsFine drops an error that says that all is already as wanted.
func notModifiedIsFine(err error) error {
	if errdefs.Is(err, errdefs.NotModified) {
		return nil
	}
	return err
}
