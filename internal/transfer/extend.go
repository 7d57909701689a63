package transfer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/content"
	"lade/internal/ident"
	"lade/internal/image"
	"lade/internal/imagestore"
	"lade/internal/reference"
)

// Extension is what makes a new image of another one.
type Extension struct {
	Base imagestore.Manifest
	// Layer writes the tar of the layer on top, and returns false if there is
	// to be none. The same tar gives the same blob.
	Layer func(io.Writer) (bool, error)
	// Config returns the configuration, given the DiffID of the layer on top,
	// or "".
	Config func(top digest.Digest) ([]byte, error)
	Names  []reference.Reference
}

// Extend makes an image of another one, with one layer more and a configuration
// of its own.
func (t *Transfer) Extend(ctx context.Context, x Extension) (Result, error) {
	l := &load{t: t, rep: newReporter(nil), lease: t.Images.Lease()}
	res, err := l.extend(ctx, x)
	if err = finish(l.lease, err); err != nil {
		return Result{}, fmt.Errorf("extend image %s: %w", image.ShortID(x.Base.Config), err)
	}
	return res, nil
}

func (l *load) extend(ctx context.Context, x Extension) (Result, error) {
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Layers: []ocispec.Descriptor{}}
	m.SchemaVersion = 2
	for _, b := range x.Base.Layers {
		l.lease.Hold(b.Blob, b.DiffID)
		packed, err := image.LayerCompression(b.MediaType)
		if err != nil {
			return Result{}, err
		}
		m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: entry{packed: packed}.layerType(), Digest: b.Blob, Size: b.Size})
	}
	top, desc, err := l.pack(x.Layer)
	if err != nil {
		return Result{}, err
	}
	if top != "" {
		m.Layers = append(m.Layers, desc)
	}
	config, err := x.Config(top)
	if err != nil {
		return Result{}, err
	}
	m.Config = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromBytes(config), Size: int64(len(config))}
	raw, err := json.Marshal(m)
	if err != nil {
		return Result{}, err
	}
	f := found{desc: ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}, names: x.Names}
	f.target = f.desc.Digest
	if f.m, err = image.ParseManifest(raw, m.MediaType); err != nil {
		return Result{}, err
	}
	l.lease.Hold(m.Config.Digest, f.target)
	if err := errors.Join(l.t.Content.PutAs(m.Config.Digest, config), l.t.Content.PutAs(f.target, raw)); err != nil {
		return Result{}, err
	}
	return l.store(ctx, f)
}

// pack stores a tar as a compressed blob, and returns the digest of the tar
// and the blob. Both are leased. The digest is empty if there was no tar.
func (l *load) pack(write func(io.Writer) (bool, error)) (digest.Digest, ocispec.Descriptor, error) {
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip}
	w, err := l.t.Content.Ingest(content.Expect{Name: ident.New(), Limit: l.t.Limits.Layer})
	if err != nil {
		return "", desc, err
	}
	plain := digest.SHA256.Digester()
	z, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return "", desc, errors.Join(err, w.Abort())
	}
	any, err := write(io.MultiWriter(plain.Hash(), z))
	if err == nil {
		err = z.Close()
	}
	if err != nil || !any {
		return "", desc, errors.Join(err, w.Abort())
	}
	// Before they are there: nobody else may know them yet, and remove them.
	l.lease.Hold(w.Sum(), plain.Digest())
	info, err := w.Commit()
	desc.Digest, desc.Size = info.Digest, info.Size
	return plain.Digest(), desc, err
}
