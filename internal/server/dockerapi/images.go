package dockerapi

import (
	"context"
	"io"
	"net/http"

	api "github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/opencontainers/go-digest"

	"lade/internal/engine/image"
	"lade/internal/errdefs"
	"lade/internal/transfer"
)

// Images brings images in and tells about them. Its methods are those of
// image.Service, which says what their errors mean.
type Images interface {
	Pull(ctx context.Context, o image.PullOptions, progress func(transfer.Progress)) error
	Load(ctx context.Context, archive io.Reader, progress func(transfer.Progress)) error
	List(ctx context.Context, o image.ListOptions) ([]api.Summary, error)
	Inspect(ctx context.Context, ref string) (api.InspectResponse, error)
	Remove(ctx context.Context, ref string, o image.RemoveOptions) ([]api.DeleteResponse, error)
	Tag(ctx context.Context, source, target string) error
	History(ctx context.Context, ref string) ([]api.HistoryResponseItem, error)
	Prune(ctx context.Context, filters map[string][]string) (api.PruneReport, error)
}

func (h *Handler) imageRoutes() []route {
	if h.s.Images == nil {
		return nil
	}
	const one = "/images/{name}"
	return []route{
		{http.MethodPost, "/images/create", h.pullImage},
		{http.MethodPost, "/images/load", h.loadImages},
		{http.MethodGet, "/images/json", h.listImages},
		{http.MethodGet, one + "/json", h.inspectImage},
		{http.MethodGet, one + "/history", h.imageHistory},
		{http.MethodPost, one + "/tag", h.tagImage},
		{http.MethodPost, "/images/prune", h.pruneImages},
		{http.MethodDelete, one, h.removeImage},
	}
}

func (h *Handler) pullImage(c *call) error {
	name := c.query.Get("fromImage")
	if name == "" && h.s.Archives != nil {
		return h.importImage(c)
	}
	o := image.PullOptions{Ref: withTag(name, c.query.Get("tag")), Platform: c.query.Get("platform"), Auth: c.credentials()}
	return h.report(c, func(progress func(transfer.Progress)) error {
		return h.s.Images.Pull(c.Context(), o, progress)
	})
}

// withTag joins a name with what the query calls a tag, which may be a digest.
func withTag(name, tag string) string {
	if tag == "" {
		return name
	}
	if _, err := digest.Parse(tag); err == nil {
		return name + "@" + tag
	}
	return name + ":" + tag
}

func (h *Handler) loadImages(c *call) error {
	return h.report(c, func(progress func(transfer.Progress)) error {
		return h.s.Images.Load(c.Context(), c.Body, progress)
	})
}

// report runs a transfer and sends the client what it tells.
func (h *Handler) report(c *call, run func(func(transfer.Progress)) error) error {
	out := newMessages(c.w)
	quiet := c.boolean("quiet")
	return out.end(run(func(p transfer.Progress) {
		if p.Message != "" {
			out.send(jsonstream.Message{ID: p.ID, Stream: p.Message})
			return
		}
		if p.Aux != nil {
			out.aux(p.Aux)
			return
		}
		if quiet {
			return
		}
		m := jsonstream.Message{ID: p.ID, Status: p.Action}
		if p.ID != "" {
			m.Progress = &jsonstream.Progress{Current: p.Current, Total: p.Total}
		}
		out.send(m)
	}))
}

func (h *Handler) listImages(c *call) error {
	filters, err := c.filters()
	if err != nil {
		return err
	}
	list, err := h.s.Images.List(c.Context(), image.ListOptions{All: c.boolean("all"), Filters: filters})
	if err != nil {
		return err
	}
	if list == nil {
		list = []api.Summary{}
	}
	for i := range list {
		// Clients want lists.
		if list[i].RepoTags == nil {
			list[i].RepoTags = []string{}
		}
		if list[i].RepoDigests == nil {
			list[i].RepoDigests = []string{}
		}
	}
	return c.reply(list)
}

func (h *Handler) inspectImage(c *call) error {
	return c.answer(h.s.Images.Inspect(c.Context(), c.name))
}

func (h *Handler) tagImage(c *call) error {
	repo := c.query.Get("repo")
	if repo == "" {
		return errdefs.New(errdefs.Invalid, "tag %s: the query names no repo", c.name)
	}
	if err := h.s.Images.Tag(c.Context(), c.name, withTag(repo, c.query.Get("tag"))); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusCreated)
	return nil
}

func (h *Handler) removeImage(c *call) error {
	list, err := h.s.Images.Remove(c.Context(), c.name, image.RemoveOptions{Force: c.boolean("force"), NoPrune: c.boolean("noprune")})
	if err != nil {
		return err
	}
	if list == nil {
		list = []api.DeleteResponse{}
	}
	return c.reply(list)
}

func (h *Handler) imageHistory(c *call) error {
	list, err := h.s.Images.History(c.Context(), c.name)
	if err != nil {
		return err
	}
	if list == nil {
		list = []api.HistoryResponseItem{}
	}
	return c.reply(list)
}

func (h *Handler) pruneImages(c *call) error { return filtered(c, h.s.Images.Prune) }
