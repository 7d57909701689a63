package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/moby/moby/api/types/container"
)

// CommitOptions says what image to make of which container.
type CommitOptions struct {
	Container string
	Name      string // repository[:tag]; empty: none
	Author    string
	Comment   string
	Running   bool     // leave it running meanwhile
	Changes   []string // instructions of a Dockerfile
}

// Commit makes an image of a container and returns its id.
func (c *Client) Commit(ctx context.Context, o CommitOptions) (string, error) {
	q := url.Values{"container": {o.Container}, "author": {o.Author}, "comment": {o.Comment}, "changes": o.Changes}
	if o.Name != "" {
		name, tag := splitRef(o.Name)
		q.Set("repo", name)
		q.Set("tag", tag)
	}
	if o.Running {
		q.Set("pause", "0")
	}
	r, err := get[container.CommitResponse](ctx, c, call{method: http.MethodPost, path: path("commit"), query: q})
	return r.ID, err
}
