package client

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/errdefs"
	"lade/internal/registry/wire"
)

// PutManifest stores a manifest or an index under a tag, or under its digest
// if tag is empty. All that it refers to must be there.
func (r *Repository) PutManifest(ctx context.Context, tag string, desc ocispec.Descriptor, raw []byte) error {
	object := tag
	if tag == "" {
		object = string(desc.Digest)
	}
	q := request{
		method: http.MethodPut, url: r.url("manifests", object), header: http.Header{"Content-Type": {desc.MediaType}},
		size: int64(len(raw)), body: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil },
	}
	return r.c.retry(ctx, func() error {
		resp, err := r.send(ctx, q)
		if err != nil {
			return err
		}
		defer drain(resp)
		if resp.StatusCode < 200 || resp.StatusCode > 204 {
			return fmt.Errorf("put manifest %s: %w", object, r.refused(resp, "manifest "+object))
		}
		said := digest.Digest(resp.Header.Get("Docker-Content-Digest"))
		if strings.HasPrefix(string(said), string(desc.Digest.Algorithm())+":") && said != desc.Digest {
			return errdefs.New(errdefs.DataLoss, "registry %s took manifest %s for %q", r.base.Host, desc.Digest, wire.Clean(string(said), 80))
		}
		return nil
	})
}
