package registry

import (
	"context"
	"fmt"
	"io"

	"github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/reference"
	"lade/internal/registry/auth"
	"lade/internal/registry/client"
)

// remote returns a repository to read from.
func (s *Service) remote(name string, a *registry.AuthConfig) (reference.Reference, *client.Source, error) {
	ref, err := reference.Parse(name)
	if err != nil {
		return ref, nil, err
	}
	cred, err := auth.FromDocker(a, ref.Domain)
	if err != nil {
		return ref, nil, err
	}
	src, err := s.c.Client.Source(ref, cred)
	return ref, src, err
}

// Remote returns a manifest or index as the registry has it.
func (s *Service) Remote(ctx context.Context, name string, a *registry.AuthConfig) ([]byte, ocispec.Descriptor, error) {
	ref, src, err := s.remote(name, a)
	if err != nil {
		return nil, ocispec.Descriptor{}, err
	}
	raw, desc, err := src.Manifest(ctx, ref.Object())
	if err == nil && desc.MediaType == "" {
		desc.MediaType, err = image.MediaTypeOf(raw, "")
	}
	return raw, desc, err
}

// Distribution returns what a registry has under a name, in Docker's form.
func (s *Service) Distribution(ctx context.Context, name string, a *registry.AuthConfig) (registry.DistributionInspect, error) {
	ref, src, err := s.remote(name, a)
	if err != nil {
		return registry.DistributionInspect{}, err
	}
	raw, desc, err := src.Manifest(ctx, ref.Object())
	if err != nil {
		return registry.DistributionInspect{}, err
	}
	if desc.MediaType, err = image.MediaTypeOf(raw, desc.MediaType); err != nil {
		return registry.DistributionInspect{}, err
	}
	d := registry.DistributionInspect{Descriptor: desc, Platforms: []ocispec.Platform{}}
	if image.IsIndex(desc.MediaType) {
		ix, err := image.ParseIndex(raw, desc.MediaType)
		for _, m := range ix.Manifests {
			if m.Platform != nil {
				d.Platforms = append(d.Platforms, *m.Platform)
			}
		}
		return d, err
	}
	m, err := image.ParseManifest(raw, desc.MediaType)
	if err != nil {
		return d, nil // an artifact has no platform
	}
	body, err := src.Blob(ctx, m.Config, 0)
	if err != nil {
		return d, err
	}
	defer body.Close()
	config, err := io.ReadAll(io.LimitReader(body, image.MaxConfig))
	if err != nil {
		return d, err
	}
	if got := m.Config.Digest.Algorithm().FromBytes(config); got != m.Config.Digest {
		return d, errdefs.New(errdefs.DataLoss, "configuration %s came with the digest %s", m.Config.Digest, got)
	}
	c, err := image.ParseConfig(config)
	if err == nil {
		d.Platforms = append(d.Platforms, c.Platform)
	}
	return d, err
}

// Tags returns the tags that a repository has in its registry.
func (s *Service) Tags(ctx context.Context, name string, a *registry.AuthConfig) ([]string, error) {
	_, src, err := s.remote(name, a)
	if err != nil {
		return nil, err
	}
	return src.Registry().Tags(ctx)
}

// PutManifest stores an index under a name in its registry and returns its digest.
// All that it lists must be in that repository.
func (s *Service) PutManifest(ctx context.Context, name string, raw []byte, a *registry.AuthConfig) (string, error) {
	ref, err := reference.Parse(name)
	if err != nil {
		return "", err
	}
	if ref.Digest != "" {
		return "", errdefs.New(errdefs.Invalid, "put %s: a digest cannot be chosen", name)
	}
	cred, err := auth.FromDocker(a, ref.Domain)
	if err != nil {
		return "", err
	}
	ix, err := image.ParseIndex(raw, "")
	if err != nil {
		return "", fmt.Errorf("put %s: %w", name, err)
	}
	repo, err := s.c.Client.Target(ref, cred)
	if err != nil {
		return "", err
	}
	for _, m := range ix.Manifests {
		switch there, err := repo.HasManifest(ctx, m); {
		case err != nil:
			return "", err
		case !there:
			return "", errdefs.New(errdefs.NotFound, "put %s: the repository lacks manifest %s", name, m.Digest)
		}
	}
	d := ocispec.Descriptor{MediaType: ix.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	return string(d.Digest), repo.PutManifest(ctx, ref.Tag, d, raw)
}

// Delete removes a tag from its registry, or a manifest, by digest, with all
// its tags.
func (s *Service) Delete(ctx context.Context, name string, a *registry.AuthConfig) error {
	ref, err := reference.ParseName(name)
	if err != nil {
		return err
	}
	if ref.Tag == "" && ref.Digest == "" {
		return errdefs.Hint(errdefs.New(errdefs.Invalid, "delete %s: it has neither tag nor digest", name), "say which: NAME:TAG or NAME@DIGEST")
	}
	cred, err := auth.FromDocker(a, ref.Domain)
	if err != nil {
		return err
	}
	repo, err := s.c.Client.Deleter(ref, cred)
	if err != nil {
		return err
	}
	if err := repo.Delete(ctx, ref.Object()); err != nil {
		return fmt.Errorf("delete %s: %w", ref.Familiar(), err)
	}
	return nil
}
