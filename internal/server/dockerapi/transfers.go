package dockerapi

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/moby/moby/api/pkg/authconfig"
	registrytypes "github.com/moby/moby/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/engine/registry"
	"lade/internal/errdefs"
	"lade/internal/transfer"
)

// Registries does with registries what is not bringing images in. Its methods
// are those of registry.Service.
type Registries interface {
	Login(ctx context.Context, a registrytypes.AuthConfig) (registrytypes.AuthResponse, error)
	Push(ctx context.Context, o registry.PushOptions, progress func(transfer.Progress)) error
}

func (h *Handler) registryRoutes() []route {
	if h.s.Registries == nil {
		return nil
	}
	return []route{
		{http.MethodPost, "/auth", h.login},
		{http.MethodPost, "/images/{name}/push", h.pushImage},
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
	resp, err := h.s.Registries.Login(c.Context(), a)
	if err != nil {
		return err
	}
	return c.reply(resp)
}

func (h *Handler) pushImage(c *call) error {
	p, err := c.platform()
	if err != nil {
		return err
	}
	o := registry.PushOptions{Name: c.name, Tag: c.query.Get("tag"), Platform: p, Auth: c.credentials()}
	return h.report(c, func(progress func(transfer.Progress)) error {
		return h.s.Registries.Push(c.Context(), o, progress)
	})
}
