package registry

import (
	"cmp"
	"context"
	"fmt"

	"github.com/moby/moby/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/platform"
	"lade/internal/reference"
	"lade/internal/transfer"
	"lade/internal/transfer/copy"
)

// CopyOptions says what to copy, and as whom.
type CopyOptions struct {
	// From and To are docker://NAME, oci:DIRECTORY[:TAG], oci-archive:FILE[:TAG],
	// docker-archive:FILE[:NAME] or lade:NAME; paths are absolute.
	From, To string
	Platform string                         // empty: all platforms of an index
	Auths    map[string]registry.AuthConfig // by registry
}

// Copy copies an image from one place to another, without unpacking it and
// without the store, and returns its digest.
func (s *Service) Copy(ctx context.Context, o CopyOptions, progress func(transfer.Progress)) (string, error) {
	var p *ocispec.Platform
	if o.Platform != "" {
		one, err := platform.Parse(o.Platform, ocispec.Platform{OS: "linux"})
		if err != nil {
			return "", err
		}
		p = &one
	}
	from, err := s.source(ctx, o)
	if err != nil {
		return "", err
	}
	defer from.close()
	if err := s.trusted(ctx, &from); err != nil {
		return "", fmt.Errorf("copy %s to %s: %w", o.From, o.To, err)
	}
	// The bytes that the policy spoke of, by digest, are those that go.
	if kind, name, _, _ := parsePlace(o.To); kind == inStore {
		return s.keep(ctx, name, transfer.PullOptions{Platform: p, From: from.source, Object: from.object}, progress)
	}
	to, err := s.target(ctx, o, from)
	if err != nil {
		return "", err
	}
	defer to.close()
	if to.single && p == nil {
		p = &s.c.Transfer.Platform
	}
	tag := cmp.Or(to.tag, from.tag)
	if to.byDigest {
		tag = ""
	}
	desc, err := copy.Copy(ctx, from.source, to.target, copy.Options{
		Object: from.object, Tag: tag, Platform: p, InOrder: to.inOrder, From: to.mount,
		Progress: func(d ocispec.Descriptor, action string, n int64) {
			progress(transfer.Progress{ID: image.ShortID(d.Digest), Action: action, Current: n, Total: d.Size})
		},
	})
	if err == nil {
		err = to.finish()
	}
	if err != nil {
		return "", fmt.Errorf("copy %s to %s: %w", o.From, o.To, err)
	}
	progress(transfer.Progress{Action: "Digest: " + string(desc.Digest)})
	return string(desc.Digest), nil
}

// keep brings an image into the engine's store.
func (s *Service) keep(ctx context.Context, name string, o transfer.PullOptions, progress func(transfer.Progress)) (string, error) {
	var err error
	if o.Ref, err = reference.Parse(name); err != nil {
		return "", err
	}
	if o.Ref.Digest != "" {
		return "", errdefs.New(errdefs.Invalid, "copy to %s: a digest cannot be chosen", name)
	}
	res, err := s.c.Transfer.Pull(ctx, o, progress)
	if err != nil {
		return "", fmt.Errorf("copy to the store: %w", err)
	}
	return string(res.Target), nil
}

// trusted asks the policy whether an image may be copied. What it was asked
// about, by digest, is what is copied.
func (s *Service) trusted(ctx context.Context, from *place) error {
	switch {
	case from.stored:
		return nil // it was asked when the image came in
	case from.ref == (reference.Reference{}):
		return s.c.Trust.CheckArchive()
	}
	_, desc, err := from.source.Manifest(ctx, from.object)
	if err != nil {
		return err
	}
	from.object = string(desc.Digest)
	return s.c.Trust.Check(ctx, from.ref, from.source, desc.Digest)
}
