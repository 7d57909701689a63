package transfer

import (
	"context"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/content"
	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/imagestore"
	"lade/internal/reference"
)

// Stored is one image of the store to copy from. What was read of it stays in
// the store until Close.
type Stored struct {
	t     *Transfer
	lease *imagestore.Lease
	top   digest.Digest
}

// Stored opens the image that ref means in the store: with the index that its
// name leads to, if all of that is there, and otherwise without.
func (t *Transfer) Stored(ref string) (*Stored, error) {
	e, err := t.Images.Resolve(ref)
	if err != nil {
		return nil, err
	}
	s := &Stored{t: t, lease: t.Images.Lease(), top: e.Record.Descriptor.Digest}
	name, err := reference.Parse(ref)
	if i := slices.IndexFunc(e.Refs, func(r imagestore.Ref) bool { return err == nil && r.Ref == name }); i >= 0 {
		s.top = e.Refs[i].Manifest
		whole, err := t.complete(s.lease, e.Refs[i].Target)
		if err != nil {
			s.lease.Release()
			return nil, err
		}
		if whole {
			s.top = e.Refs[i].Target
		}
	}
	return s, nil
}

// complete reports whether all that a manifest or index leads to is there.
func (t *Transfer) complete(lease *imagestore.Lease, d digest.Digest) (bool, error) {
	lease.Hold(d)
	raw, err := t.Content.ReadAll(d, image.MaxManifest)
	if err != nil {
		return false, err
	}
	_, members, err := image.Refers(raw, "")
	if err != nil {
		return false, err
	}
	for _, m := range members {
		if ok, err := t.whole(lease, m); err != nil || !ok {
			return false, err
		}
	}
	return true, nil
}

// Close lets the store remove what nobody else needs.
func (s *Stored) Close() error {
	s.lease.Release()
	return nil
}

// Manifest returns the image's manifest or index, or one by its digest.
func (s *Stored) Manifest(_ context.Context, object string) ([]byte, ocispec.Descriptor, error) {
	d := digest.Digest(object)
	if object == "" {
		d = s.top
	}
	if err := reference.CheckDigest(d); err != nil {
		return nil, ocispec.Descriptor{}, err
	}
	s.lease.Hold(d)
	raw, err := s.t.Content.ReadAll(d, image.MaxManifest)
	if err != nil {
		return nil, ocispec.Descriptor{}, err
	}
	mt, err := image.MediaTypeOf(raw, "")
	return raw, ocispec.Descriptor{MediaType: mt, Digest: d, Size: int64(len(raw))}, err
}

// Blob returns a blob from an offset on.
func (s *Stored) Blob(_ context.Context, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	s.lease.Hold(desc.Digest)
	return openBlob(s.t.Content, desc, offset)
}

// openBlob opens a blob of the store, which must be as long as it should be.
func openBlob(store *content.Store, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	b, err := store.Open(desc.Digest)
	if err != nil {
		return nil, err
	}
	if b.Size() != desc.Size {
		_ = b.Close()
		return nil, errdefs.New(errdefs.DataLoss, "blob %s is damaged: it has %d bytes, not %d", desc.Digest, b.Size(), desc.Size)
	}
	if _, err := b.Seek(offset, io.SeekStart); err != nil {
		_ = b.Close()
		return nil, err
	}
	return b, nil
}
