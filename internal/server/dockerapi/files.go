package dockerapi

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	api "github.com/moby/moby/api/types/container"

	"lade/internal/engine/archive"
	"lade/internal/errdefs"
)

// Files copies files in and out of containers. Its methods are those of
// archive.Service, which says what their errors mean.
type Files interface {
	Stat(ctx context.Context, ref, path string) (api.PathStat, error)
	Get(ctx context.Context, ref, path string) (api.PathStat, io.ReadCloser, error)
	Put(ctx context.Context, ref, path string, content io.Reader, o archive.PutOptions) error
	Export(ctx context.Context, ref string) (io.ReadCloser, error)
	Diff(ctx context.Context, ref string) ([]api.FilesystemChange, error)
}

func (h *Handler) fileRoutes() []route {
	if h.s.Files == nil {
		return nil
	}
	const one = "/containers/{name}"
	return []route{
		{http.MethodHead, one + "/archive", h.statPath},
		{http.MethodGet, one + "/archive", h.getArchive},
		{http.MethodPut, one + "/archive", h.putArchive},
		{http.MethodGet, one + "/export", h.exportContainer},
		{http.MethodGet, one + "/changes", h.containerChanges},
	}
}

// statHeader tells of the path that an answer is about.
const statHeader = "X-Docker-Container-Path-Stat"

// path returns the query's path.
func (c *call) path() (string, error) {
	p := c.query.Get("path")
	if p == "" {
		return "", errdefs.New(errdefs.Invalid, "bad parameter: 'path' cannot be empty")
	}
	return p, nil
}

func (c *call) setStat(s api.PathStat) error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	c.w.Header().Set(statHeader, base64.StdEncoding.EncodeToString(text))
	return nil
}

func (h *Handler) statPath(c *call) error {
	p, err := c.path()
	if err != nil {
		return err
	}
	s, err := h.s.Files.Stat(c.Context(), c.name, p)
	if err != nil {
		return err
	}
	if err := c.setStat(s); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusOK)
	return nil
}

func (h *Handler) getArchive(c *call) error {
	p, err := c.path()
	if err != nil {
		return err
	}
	s, r, err := h.s.Files.Get(c.Context(), c.name, p)
	if err != nil {
		return err
	}
	if err := c.setStat(s); err != nil {
		return errors.Join(err, r.Close())
	}
	return c.tar(r)
}

// tar answers with an archive, and closes it.
func (c *call) tar(r io.ReadCloser) error {
	c.w.Header().Set("Content-Type", "application/x-tar")
	_, err := io.Copy(c.w, r)
	return errors.Join(err, r.Close())
}

func (h *Handler) putArchive(c *call) error {
	p, err := c.path()
	if err != nil {
		return err
	}
	o := archive.PutOptions{KeepKinds: c.boolean("noOverwriteDirNonDir"), ToUser: c.boolean("copyUIDGID")}
	if err := h.s.Files.Put(c.Context(), c.name, p, c.Body, o); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusOK)
	return nil
}

func (h *Handler) exportContainer(c *call) error {
	r, err := h.s.Files.Export(c.Context(), c.name)
	if err != nil {
		return err
	}
	return c.tar(r)
}

func (h *Handler) containerChanges(c *call) error {
	changes, err := h.s.Files.Diff(c.Context(), c.name)
	if err != nil {
		return err
	}
	return c.reply(changes)
}
