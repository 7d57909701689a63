package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/content"
	"lade/internal/ident"
	"lade/internal/image"
	"lade/internal/reference"
	"lade/internal/registry/auth"
)

// RefetchOptions says what to fetch again, and from where.
type RefetchOptions struct {
	Blob ocispec.Descriptor // its size may be unknown
	// Manifest is set for what registries keep among manifests.
	Manifest    bool
	From        reference.Reference
	Credentials auth.Credentials
}

// Refetch puts the blob that a registry has under a digest in the place of what
// the store has, whole or not at all.
func (t *Transfer) Refetch(ctx context.Context, o RefetchOptions) error {
	lease := t.Images.Lease()
	defer lease.Release()
	lease.Hold(o.Blob.Digest)
	if err := t.refetch(ctx, o); err != nil {
		return fmt.Errorf("fetch %s again from %s: %w", o.Blob.Digest, o.From.Name(), err)
	}
	return nil
}

func (t *Transfer) refetch(ctx context.Context, o RefetchOptions) error {
	repo, err := t.Client.Source(o.From, o.Credentials)
	if err != nil {
		return err
	}
	if o.Manifest {
		raw, _, err := repo.Manifest(ctx, string(o.Blob.Digest))
		if err != nil {
			return err
		}
		return t.replace(o.Blob.Digest, raw)
	}
	body, err := repo.Blob(ctx, o.Blob, 0)
	if err != nil {
		return err
	}
	defer body.Close()
	return t.replaceBy(o.Blob, body)
}

func (t *Transfer) replace(d digest.Digest, raw []byte) error {
	return t.replaceBy(ocispec.Descriptor{Digest: d, Size: int64(len(raw))}, bytes.NewReader(raw))
}

// replaceBy writes a blob over the one of its name.
func (t *Transfer) replaceBy(desc ocispec.Descriptor, r io.Reader) error {
	// A name of its own: nothing that is there can be gone on with.
	w, err := t.Content.Ingest(content.Expect{Name: ident.New(), Digest: desc.Digest, Size: desc.Size, Limit: t.Limits.Layer})
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, r); err != nil {
		return errors.Join(err, w.Abort())
	}
	_, err = w.Commit()
	return err
}

// Remake makes the layer of a blob that is in the store anew; into is what
// takes its tar.
func (t *Transfer) Remake(ctx context.Context, blob ocispec.Descriptor, diffID digest.Digest, into func(context.Context, digest.Digest, io.Reader) error) error {
	b, err := t.Content.Open(blob.Digest)
	if err != nil {
		return err
	}
	defer b.Close()
	if err := t.unpackInto(ctx, layer{blob, diffID}, b, func(int64) {}, into); err != nil {
		return fmt.Errorf("layer %s: %w", image.ShortID(diffID), err)
	}
	return nil
}

// Repack makes a blob of a layer's tar: as it is, or packed as Lade packs layers that
// it makes itself. Of a layer that somebody else packed that is another blob, and an
// error.
func (t *Transfer) Repack(blob ocispec.Descriptor, tar io.Reader, packed bool) error {
	if !packed {
		return t.replaceBy(blob, tar)
	}
	r, w := io.Pipe()
	go func() {
		z, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
		if err == nil {
			_, err = io.Copy(z, tar)
			err = errors.Join(err, z.Close())
		}
		_ = w.CloseWithError(err)
	}()
	err := t.replaceBy(blob, r)
	_ = r.Close() // or the other end would wait
	return err
}
