// Package registry is the engine's service for what is done with registries
// besides bringing images in: push, copy, login, and looking at what is there. Progress and messages are
// Docker's.
package registry

import (
	"context"
	"fmt"
	"slices"

	"github.com/moby/moby/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/errdefs"
	"lade/internal/imagestore"
	"lade/internal/reference"
	"lade/internal/registry/auth"
	"lade/internal/registry/client"
	"lade/internal/registry/policy"
	"lade/internal/transfer"
)

// Config is what a Service works with.
type Config struct {
	Images   *imagestore.Store
	Transfer *transfer.Transfer
	Client   *client.Client
	// Trust says which images may be copied.
	Trust policy.Files
	// Scratch is a directory on a disk with room, for files without names.
	Scratch string
}

// Service speaks to registries. Its methods may be called concurrently.
type Service struct{ c Config }

// New returns a service.
func New(c Config) *Service { return &Service{c} }

// PushOptions says what to push, and with whose credentials.
type PushOptions struct {
	Name     string               // of a repository, without a tag
	Tag      string               // empty: all tags of the repository
	Platform *ocispec.Platform    // nil: whatever the name leads to
	Auth     *registry.AuthConfig // nil: nobody's
	// Compression is gzip or zstd for layers that are to be packed so; empty: as
	// they are.
	Compression string
}

// Push brings images to the registry that their name says. The error is of
// class NotFound if nothing has the name. progress may be nil.
func (s *Service) Push(ctx context.Context, o PushOptions, progress func(transfer.Progress)) error {
	ref, err := reference.ParseName(o.Name)
	switch {
	case err != nil:
		return err
	case ref.Digest != "":
		return errdefs.New(errdefs.Invalid, "cannot push a digest reference")
	case ref.Tag != "" && o.Tag != "":
		return errdefs.New(errdefs.Invalid, "push %s: two tags: %s and %s", o.Name, ref.Tag, o.Tag)
	}
	if o.Tag != "" {
		if ref, err = reference.ParseName(ref.Name() + ":" + o.Tag); err != nil {
			return err
		}
	}
	compression, err := transfer.ParseCompression(o.Compression)
	if err != nil {
		return err
	}
	cred, err := auth.FromDocker(o.Auth, ref.Domain)
	if err != nil {
		return err
	}
	found, err := s.named(ref)
	if err != nil {
		return err
	}
	for _, f := range found {
		f.Platform, f.Credentials, f.Compression = o.Platform, cred, compression
		if _, err := s.c.Transfer.Push(ctx, f, progress); err != nil {
			return err
		}
	}
	return nil
}

// Login tries credentials at the registry that they are for. Nothing of them is
// kept: that is the client's business.
func (s *Service) Login(ctx context.Context, a registry.AuthConfig) (registry.AuthResponse, error) {
	domain := auth.ServerDomain(a.ServerAddress)
	ref, err := reference.ParseName(domain + "/x")
	if err != nil || ref.Domain != domain {
		return registry.AuthResponse{}, errdefs.New(errdefs.Invalid, "log in: %q is no registry", a.ServerAddress)
	}
	cred, err := auth.FromDocker(&a, domain)
	if err != nil {
		return registry.AuthResponse{}, err
	}
	token, err := s.c.Client.Login(ctx, domain, cred)
	if err != nil {
		return registry.AuthResponse{}, fmt.Errorf("log in to %s: %w", domain, err)
	}
	return registry.AuthResponse{Status: "Login Succeeded", IdentityToken: token}, nil
}

// named returns the images that have the name, or, of a name without a tag,
// those of all its tags.
func (s *Service) named(ref reference.Reference) ([]transfer.PushOptions, error) {
	list, err := s.c.Images.List()
	if err != nil {
		return nil, err
	}
	var found []transfer.PushOptions
	for _, e := range list {
		for _, r := range e.Refs {
			if r.Ref == ref || ref.Tag == "" && r.Ref.Tag != "" && r.Ref.Domain == ref.Domain && r.Ref.Path == ref.Path {
				found = append(found, transfer.PushOptions{Ref: r.Ref, Entry: e, Manifest: r.Manifest, Target: r.Target})
			}
		}
	}
	if len(found) == 0 {
		if ref.Tag == "" {
			return nil, errdefs.New(errdefs.NotFound, "An image does not exist locally with the name: %s", ref.FamiliarName())
		}
		return nil, errdefs.Hint(errdefs.New(errdefs.NotFound, "An image does not exist locally with the tag: %s", ref.FamiliarName()), "see lade images; lade tag gives an image one more name")
	}
	slices.SortFunc(found, func(a, b transfer.PushOptions) int {
		if a.Ref.Tag < b.Ref.Tag {
			return -1
		}
		return 1
	})
	return found, nil
}
