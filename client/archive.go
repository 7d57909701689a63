package client

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"

	"github.com/moby/moby/api/types/container"

	"lade/internal/errdefs"
)

// StatPath returns what is to know of a path in a container.
func (c *Client) StatPath(ctx context.Context, ref, p string) (container.PathStat, error) {
	resp, err := c.do(ctx, call{method: http.MethodHead, path: path("containers", ref, "archive"), query: url.Values{"path": {p}}})
	if errdefs.Is(err, errdefs.NotFound) { // an answer to HEAD has no text
		return container.PathStat{}, errdefs.New(errdefs.NotFound, "Could not find the file %s in container %s", p, ref)
	}
	if err != nil {
		return container.PathStat{}, err
	}
	defer resp.Body.Close()
	return pathStat(resp)
}

func pathStat(resp *http.Response) (container.PathStat, error) {
	var s container.PathStat
	text, err := base64.StdEncoding.DecodeString(resp.Header.Get("X-Docker-Container-Path-Stat"))
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil {
		return s, errdefs.New(errdefs.DataLoss, "the engine's answer about a path in a container: %w", err)
	}
	return s, nil
}

// CopyFrom returns an archive of a path in a container. The caller closes it.
func (c *Client) CopyFrom(ctx context.Context, ref, p string) (io.ReadCloser, container.PathStat, error) {
	resp, err := c.do(ctx, call{method: http.MethodGet, path: path("containers", ref, "archive"), query: url.Values{"path": {p}}})
	if err != nil {
		return nil, container.PathStat{}, err
	}
	s, err := pathStat(resp)
	if err != nil {
		_ = resp.Body.Close()
		return nil, s, err
	}
	return resp.Body, s, nil
}

// CopyToOptions say how an archive is unpacked in a container.
type CopyToOptions struct {
	KeepKinds bool // a directory is not replaced by another file, nor the other way round
	ToUser    bool // all files go to the user that the container runs as
}

// CopyTo unpacks an archive in a directory of a container.
func (c *Client) CopyTo(ctx context.Context, ref, p string, archive io.Reader, o CopyToOptions) error {
	q := truth(map[string]bool{"noOverwriteDirNonDir": o.KeepKinds, "copyUIDGID": o.ToUser})
	q.Set("path", p)
	return c.run(ctx, call{
		method: http.MethodPut, path: path("containers", ref, "archive"), query: q, body: archive,
		header: http.Header{"Content-Type": {"application/x-tar"}},
	})
}

// Export returns an archive of a container's root. The caller closes it.
func (c *Client) Export(ctx context.Context, ref string) (io.ReadCloser, error) {
	resp, err := c.do(ctx, call{method: http.MethodGet, path: path("containers", ref, "export")})
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// Diff returns what has changed in a container's root.
func (c *Client) Diff(ctx context.Context, ref string) ([]container.FilesystemChange, error) {
	return get[[]container.FilesystemChange](ctx, c, call{method: http.MethodGet, path: path("containers", ref, "changes")})
}
