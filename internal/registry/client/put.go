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
	"lade/internal/reference"
	"lade/internal/registry/auth"
	"lade/internal/registry/wire"
)

// Deleter returns the repository of ref to delete from.
func (c *Client) Deleter(ref reference.Reference, cred auth.Credentials) (*Repository, error) {
	places, err := c.places(ref, true)
	if err != nil {
		return nil, err
	}
	return c.at(places[len(places)-1], ref, cred, "pull,push,delete")
}

// Delete removes a tag, or a manifest with all its tags. Many registries do
// not let tags go by themselves.
func (r *Repository) Delete(ctx context.Context, object string) error {
	q := request{method: http.MethodDelete, url: r.url("manifests", object)}
	return r.c.retry(ctx, func() error {
		resp, err := r.send(ctx, q)
		if err != nil {
			return err
		}
		defer drain(resp)
		switch resp.StatusCode {
		case http.StatusAccepted, http.StatusOK, http.StatusNoContent:
			return nil
		case http.StatusMethodNotAllowed, http.StatusBadRequest:
			err := r.refused(resp, "delete "+object)
			if strings.Contains(object, ":") {
				return errdefs.Hint(err, "the registry does not allow deletion")
			}
			return errdefs.Hint(err, "this registry deletes by digest only (NAME@DIGEST), and with it all tags that lead there")
		}
		return r.refused(resp, "manifest "+object)
	})
}

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
