package dockerapi

import (
	"context"
	"net/http"

	"lade/api"
	"lade/internal/errdefs"
)

// Contents looks into images. Its methods are those of contents.Service.
type Contents interface {
	Tree(ctx context.Context) (api.ImageTree, error)
	Files(ctx context.Context, ref, layer string) ([]api.ImageFile, error)
	Diff(ctx context.Context, a, b string) ([]api.ImageChange, error)
}

func (h *Handler) contentsRoutes() []route {
	if h.s.Contents == nil {
		return nil
	}
	return []route{
		{http.MethodGet, api.ImageTreePath, h.imageTree},
		{http.MethodGet, api.ImageFilesPattern, h.imageFiles},
		{http.MethodGet, api.ImageDiffPattern, h.imageDiff},
	}
}

func (h *Handler) imageTree(c *call) error {
	return c.answer(h.s.Contents.Tree(c.Context()))
}

func (h *Handler) imageFiles(c *call) error {
	return c.answer(h.s.Contents.Files(c.Context(), c.name, c.query.Get("layer")))
}

func (h *Handler) imageDiff(c *call) error {
	to := c.query.Get("to")
	if to == "" {
		return errdefs.New(errdefs.Invalid, "compare %s: the query names no other image (to)", c.name)
	}
	return c.answer(h.s.Contents.Diff(c.Context(), c.name, to))
}
