package dockerapi

import (
	"context"
	"net/http"
	"strings"

	containerapi "github.com/moby/moby/api/types/container"
	"github.com/opencontainers/go-digest"

	"lade/internal/engine/commit"
	"lade/internal/errdefs"
)

// Commit makes images of containers. Its method is that of commit.Service.
type Commit interface {
	Commit(ctx context.Context, ref string, o commit.Options) (digest.Digest, error)
}

func (h *Handler) commitRoutes() []route {
	if h.s.Commit == nil {
		return nil
	}
	return []route{{http.MethodPost, "/commit", h.commit}}
}

func (h *Handler) commit(c *call) error {
	ref := c.query.Get("container")
	if ref == "" {
		return errdefs.New(errdefs.Invalid, "commit: the query names no container")
	}
	o := commit.Options{
		Author: c.query.Get("author"), Comment: c.query.Get("comment"),
		Pause: !c.query.Has("pause") || c.boolean("pause"),
	}
	for _, lines := range c.query["changes"] {
		for line := range strings.Lines(lines) {
			if line = strings.TrimSpace(line); line != "" {
				o.Changes = append(o.Changes, line)
			}
		}
	}
	if repo := c.query.Get("repo"); repo != "" {
		o.Name = withTag(repo, c.query.Get("tag"))
	}
	if err := c.decode(&o.Config); err != nil {
		return err
	}
	id, err := h.s.Commit.Commit(c.Context(), ref, o)
	if err != nil {
		return err
	}
	return c.replyStatus(http.StatusCreated, containerapi.CommitResponse{ID: string(id)})
}
