package dockerapi

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"

	"github.com/moby/moby/api/pkg/authconfig"
	"github.com/moby/moby/api/types/jsonstream"
	registrytypes "github.com/moby/moby/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/api"
	"lade/internal/engine/image"
	"lade/internal/engine/registry"
	"lade/internal/errdefs"
	"lade/internal/transfer"
)

// Registries does with registries what is not bringing images in. Its methods
// are those of registry.Service.
type Registries interface {
	Login(ctx context.Context, a registrytypes.AuthConfig) (registrytypes.AuthResponse, error)
	Push(ctx context.Context, o registry.PushOptions, progress func(transfer.Progress)) error
	Copy(ctx context.Context, o registry.CopyOptions, progress func(transfer.Progress)) (digest string, err error)
	Remote(ctx context.Context, name string, a *registrytypes.AuthConfig) ([]byte, ocispec.Descriptor, error)
	Distribution(ctx context.Context, name string, a *registrytypes.AuthConfig) (registrytypes.DistributionInspect, error)
	PutManifest(ctx context.Context, name string, raw []byte, a *registrytypes.AuthConfig) (digest string, err error)
	Delete(ctx context.Context, name string, a *registrytypes.AuthConfig) error
	Tags(ctx context.Context, name string, a *registrytypes.AuthConfig) ([]string, error)
}

// Archives brings images out into archives, and root file systems in. Its
// methods are those of image.Service.
type Archives interface {
	Save(ctx context.Context, refs []string, p *ocispec.Platform, w io.Writer) error
	Import(ctx context.Context, tar io.Reader, o image.ImportOptions) (id string, err error)
}

func (h *Handler) archiveRoutes() []route {
	if h.s.Archives == nil {
		return nil
	}
	return []route{
		{http.MethodGet, "/images/get", h.saveImages},
		{http.MethodGet, "/images/{name}/get", h.saveImages},
	}
}

// saveImages sends an archive. Its status goes out with the first byte: an
// image that is not there is answered as such, and an archive that breaks off
// later ends the connection, so that it cannot be taken for a whole one.
func (h *Handler) saveImages(c *call) error {
	p, err := c.platform()
	if err != nil {
		return err
	}
	names := c.query["names"]
	if c.name != "" {
		names = []string{c.name}
	}
	w := &archiveWriter{c: c}
	err = h.s.Archives.Save(c.Context(), names, p, w)
	if err != nil && w.began {
		h.log.Error("an archive was broken off", "images", names, "err", err)
		panic(http.ErrAbortHandler)
	}
	return err
}

type archiveWriter struct {
	c     *call
	began bool
}

func (w *archiveWriter) Write(p []byte) (int, error) {
	if !w.began {
		w.began = true
		w.c.w.Header().Set("Content-Type", "application/x-tar")
	}
	return w.c.w.Write(p)
}

func (h *Handler) importImage(c *call) error {
	if src := c.query.Get("fromSrc"); src != "-" {
		return errdefs.Hint(errdefs.New(errdefs.NotImplemented, "import %s: the engine fetches nothing from the network on its own", src), "download it, and pipe it in: curl -L %s | lade import - NAME", src)
	}
	o := image.ImportOptions{Message: c.query.Get("message"), Changes: c.query["changes"], Platform: c.query.Get("platform")}
	if repo := c.query.Get("repo"); repo != "" {
		o.Name = withTag(repo, c.query.Get("tag"))
	}
	id, err := h.s.Archives.Import(c.Context(), c.Body, o)
	if err != nil {
		return err
	}
	newMessages(c.w).send(jsonstream.Message{Status: id})
	return nil
}

func (h *Handler) registryRoutes() []route {
	if h.s.Registries == nil {
		return nil
	}
	return []route{
		{http.MethodPost, "/auth", h.login},
		{http.MethodPost, "/images/{name}/push", h.pushImage},
		{http.MethodGet, "/distribution/{name}/json", h.distribution},
		{http.MethodPost, api.CopyPath, h.copyImage},
		{http.MethodGet, api.TagsPath, h.remoteTags},
		{http.MethodGet, api.ManifestPath, h.remoteManifest},
		{http.MethodPut, api.ManifestPath, h.putManifest},
		{http.MethodDelete, api.ManifestPath, h.deleteManifest},
	}
}

// credentials returns what a client sent along. As in Docker, what cannot be
// read counts as no credentials: some clients send the header whether they have
// any or not.
func (c *call) credentials() *registrytypes.AuthConfig {
	auth, err := authconfig.Decode(c.Header.Get(registrytypes.AuthHeader))
	if err != nil || *auth == (registrytypes.AuthConfig{}) {
		return nil
	}
	return auth
}

// platform returns the query's "platform", which newer calls write as JSON.
func (c *call) platform() (*ocispec.Platform, error) {
	text := c.query.Get("platform")
	if text == "" {
		return nil, nil
	}
	var p ocispec.Platform
	if err := json.Unmarshal([]byte(text), &p); err != nil || p.OS == "" || p.Architecture == "" {
		return nil, errdefs.New(errdefs.Invalid, `invalid platform %.100q: want JSON such as {"os":"linux","architecture":"arm64"}`, text)
	}
	return &p, nil
}

func (h *Handler) login(c *call) error {
	var a registrytypes.AuthConfig
	if err := c.decode(&a); err != nil {
		return err
	}
	return c.answer(h.s.Registries.Login(c.Context(), a))
}

func (h *Handler) distribution(c *call) error {
	return c.answer(h.s.Registries.Distribution(c.Context(), c.name, c.credentials()))
}

func (h *Handler) remoteTags(c *call) error {
	tags, err := h.s.Registries.Tags(c.Context(), c.query.Get("name"), c.credentials())
	if err != nil {
		return err
	}
	if tags == nil {
		tags = []string{}
	}
	return c.reply(api.Tags{Repository: c.query.Get("name"), Tags: tags})
}

func (h *Handler) remoteManifest(c *call) error {
	raw, desc, err := h.s.Registries.Remote(c.Context(), c.query.Get("name"), c.credentials())
	if err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", desc.MediaType)
	c.w.Header().Set("Docker-Content-Digest", string(desc.Digest))
	_, err = c.w.Write(raw)
	return err
}

func (h *Handler) putManifest(c *call) error {
	const most = 4 << 20 // no registry takes more
	raw, err := io.ReadAll(io.LimitReader(c.Body, most+1))
	if err != nil {
		return errdefs.New(errdefs.Invalid, "read the manifest: %w", err)
	}
	if len(raw) > most {
		return errdefs.New(errdefs.Exhausted, "the manifest has more than %d bytes", most)
	}
	digest, err := h.s.Registries.PutManifest(c.Context(), c.query.Get("name"), raw, c.credentials())
	if err != nil {
		return err
	}
	return c.reply(api.Put{Digest: digest})
}

func (h *Handler) deleteManifest(c *call) error {
	if err := h.s.Registries.Delete(c.Context(), c.query.Get("name"), c.credentials()); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

func (h *Handler) copyImage(c *call) error {
	o := registry.CopyOptions{From: c.query.Get("from"), To: c.query.Get("to"), Platform: c.query.Get("platform")}
	if text := c.Header.Get(api.HeaderAuths); text != "" {
		raw, err := base64.URLEncoding.DecodeString(text)
		if err == nil {
			err = json.Unmarshal(raw, &o.Auths)
		}
		if err != nil {
			return errdefs.New(errdefs.Invalid, "header %s: want base64 of JSON", api.HeaderAuths)
		}
	}
	return h.report(c, func(progress func(transfer.Progress)) error {
		_, err := h.s.Registries.Copy(c.Context(), o, progress)
		return err
	})
}

func (h *Handler) pushImage(c *call) error {
	p, err := c.platform()
	if err != nil {
		return err
	}
	o := registry.PushOptions{Name: c.name, Tag: c.query.Get("tag"), Platform: p, Auth: c.credentials(), Compression: c.query.Get("compression")}
	return h.report(c, func(progress func(transfer.Progress)) error {
		return h.s.Registries.Push(c.Context(), o, progress)
	})
}
