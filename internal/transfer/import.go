package transfer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	spec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/errdefs"
	"lade/internal/reference"
)

// Import makes an image of one layer: a tar of a root file system, as it is or
// packed with gzip or zstd, which is kept as it came. The configuration's
// RootFS is filled in.
func (t *Transfer) Import(ctx context.Context, tar io.Reader, config spec.DockerOCIImage, names ...reference.Reference) (Result, error) {
	l := &load{t: t, rep: newReporter(nil), lease: t.Images.Lease(), files: map[string]entry{}}
	res, err := l.importTar(ctx, tar, config, names)
	if err = errors.Join(err, l.lease.Discard()); err != nil {
		return Result{}, fmt.Errorf("import: %w", err)
	}
	return res, nil
}

func (l *load) importTar(ctx context.Context, tar io.Reader, config spec.DockerOCIImage, names []reference.Reference) (Result, error) {
	const layerName = "layer"
	e, err := l.unsized(ctx, tar)
	if err != nil {
		return Result{}, err
	}
	l.files[layerName] = e
	diffID, err := l.diffID(ctx, e)
	if err != nil {
		return Result{}, err
	}
	config.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{diffID}}
	raw, err := json.Marshal(config)
	if err != nil {
		return Result{}, err
	}
	c, err := l.bytes(configName, raw)
	if err != nil {
		return Result{}, err
	}
	l.files[configName] = c
	f, err := l.derive(dockerImage{Config: configName, Layers: []string{layerName}})
	if err != nil {
		return Result{}, err
	}
	f.names = names
	return l.store(ctx, f)
}

// diffID returns the digest of what a packed layer holds.
func (l *load) diffID(ctx context.Context, e entry) (digest.Digest, error) {
	b, err := l.t.Content.Open(e.digest)
	if err != nil {
		return "", err
	}
	defer b.Close()
	in := &counter{r: b}
	z, _, err := decompress(in)
	if err != nil {
		return "", err
	}
	defer z.Close()
	limits := l.t.Limits
	h := digest.SHA256.Digester()
	r := &budget{r: z, in: in, free: limits.Free, ratio: limits.Ratio, most: limits.Layer, object: "the archive"}
	if _, err := io.Copy(h.Hash(), readerFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return r.Read(p)
	})); err != nil {
		return "", truncated(err)
	}
	if r.out == 0 {
		return "", errdefs.Hint(errdefs.With(errdefs.Invalid, errors.New("the archive is empty")), "is the right file piped in?")
	}
	return h.Digest(), nil
}
