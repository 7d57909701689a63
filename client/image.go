package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/api"
	"lade/internal/errdefs"
)

// PullOptions says what to pull.
type PullOptions struct {
	Ref      string // name, name:tag or name@digest
	Platform string // such as linux/arm64; empty is the engine's own
	Auth     string // base64url of a registry.AuthConfig; empty is anonymous
}

// PullImage fetches an image and calls progress for each message of the
// engine. An error of the pull comes back as the error.
func (c *Client) PullImage(ctx context.Context, o PullOptions, progress func(jsonstream.Message)) error {
	name, tag := splitRef(o.Ref)
	q := url.Values{"fromImage": {name}}
	if tag != "" {
		q.Set("tag", tag)
	}
	if o.Platform != "" {
		q.Set("platform", o.Platform)
	}
	r := call{method: http.MethodPost, path: path("images", "create"), query: q}
	if o.Auth != "" {
		r.header = http.Header{registry.AuthHeader: {o.Auth}}
	}
	resp, err := c.do(ctx, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return messages(r, resp.Body, progress)
}

// Login has the engine try credentials at the registry that they are for. The
// engine keeps nothing of them.
func (c *Client) Login(ctx context.Context, a registry.AuthConfig) (registry.AuthResponse, error) {
	return get[registry.AuthResponse](ctx, c, call{method: http.MethodPost, path: path("auth"), body: a})
}

// PushOptions says what to push.
type PushOptions struct {
	Ref      string            // name:tag, or a name for all its tags
	Platform *ocispec.Platform // one of a multi-platform image; nil is all of it
	Auth     string            // base64url of a registry.AuthConfig; empty is anonymous

	// Compression packs layers with gzip or zstd; empty: they go as they are.
	// Only Lade's engine knows it.
	Compression string
}

// PushImage sends an image to its registry and calls progress for each message
// of the engine. An error of the push comes back as the error.
func (c *Client) PushImage(ctx context.Context, o PushOptions, progress func(jsonstream.Message)) error {
	name, tag := splitRef(o.Ref)
	if strings.Contains(o.Ref, "@") {
		return errdefs.New(errdefs.Invalid, "cannot push a digest reference")
	}
	q := url.Values{}
	if tag != "" {
		q.Set("tag", tag)
	}
	if o.Platform != nil {
		p, err := json.Marshal(o.Platform)
		if err != nil {
			return fmt.Errorf("push %s: %w", o.Ref, err)
		}
		q.Set("platform", string(p))
	}
	if o.Compression != "" {
		q.Set("compression", o.Compression)
	}
	// Without the header older engines of Docker refuse.
	r := call{method: http.MethodPost, path: path("images", name, "push"), query: q, header: http.Header{registry.AuthHeader: {o.Auth}}}
	resp, err := c.do(ctx, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return messages(r, resp.Body, progress)
}

// LoadImages reads an archive of images, as `docker save` and OCI tools write
// them, and calls progress for each message of the engine.
func (c *Client) LoadImages(ctx context.Context, archive io.Reader, quiet bool, progress func(jsonstream.Message)) error {
	r := call{
		method: http.MethodPost, path: path("images", "load"), body: archive,
		query:  url.Values{"quiet": {map[bool]string{true: "1", false: "0"}[quiet]}},
		header: http.Header{"Content-Type": {"application/x-tar"}},
	}
	resp, err := c.do(ctx, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return messages(r, resp.Body, progress)
}

// SaveImages returns an archive of images, which the caller closes.
func (c *Client) SaveImages(ctx context.Context, refs []string, p *ocispec.Platform) (io.ReadCloser, error) {
	q := url.Values{"names": refs}
	if p != nil {
		text, err := json.Marshal(p)
		if err != nil {
			return nil, fmt.Errorf("save images: %w", err)
		}
		q.Set("platform", string(text))
	}
	resp, err := c.do(ctx, call{method: http.MethodGet, path: path("images", "get"), query: q})
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// ImportOptions says what becomes of an imported root file system.
type ImportOptions struct {
	Source   string   // "-": the body; or a URL
	Name     string   // name or name:tag; empty: the image has none
	Message  string   // of the history
	Changes  []string // instructions of a Dockerfile
	Platform string   // such as linux/arm64; empty is the engine's own
}

// ImportImage makes an image of a tar, and returns its id.
func (c *Client) ImportImage(ctx context.Context, tar io.Reader, o ImportOptions) (string, error) {
	q := url.Values{"fromSrc": {o.Source}}
	if o.Name != "" {
		name, tag := splitRef(o.Name)
		q.Set("repo", name)
		if tag != "" {
			q.Set("tag", tag)
		}
	}
	for key, value := range map[string]string{"message": o.Message, "platform": o.Platform} {
		if value != "" {
			q.Set(key, value)
		}
	}
	if len(o.Changes) > 0 {
		q["changes"] = o.Changes
	}
	r := call{method: http.MethodPost, path: path("images", "create"), query: q, body: tar, header: http.Header{"Content-Type": {"application/x-tar"}}}
	resp, err := c.do(ctx, r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	id := ""
	err = messages(r, resp.Body, func(m jsonstream.Message) {
		if m.Status != "" {
			id = m.Status
		}
	})
	return id, err
}

// CopyOptions says what to copy: places are docker://NAME, oci:DIRECTORY[:TAG],
// oci-archive:FILE[:TAG], docker-archive:FILE[:NAME], with absolute paths, or
// lade:NAME, the engine's store.
type CopyOptions struct {
	From, To, Platform string
	Auths              map[string]registry.AuthConfig // by registry
}

// CopyImage copies an image without unpacking it, and calls progress for each
// message of the engine.
func (c *Client) CopyImage(ctx context.Context, o CopyOptions, progress func(jsonstream.Message)) error {
	q := url.Values{"from": {o.From}, "to": {o.To}}
	if o.Platform != "" {
		q.Set("platform", o.Platform)
	}
	r := call{method: http.MethodPost, path: api.CopyPath, query: q}
	if len(o.Auths) > 0 {
		text, err := json.Marshal(o.Auths)
		if err != nil {
			return fmt.Errorf("copy %s: %w", o.From, err)
		}
		r.header = http.Header{api.HeaderAuths: {base64.URLEncoding.EncodeToString(text)}}
	}
	resp, err := c.do(ctx, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return messages(r, resp.Body, progress)
}

// RemoteTags returns the tags that a repository has in its registry.
func (c *Client) RemoteTags(ctx context.Context, name, auth string) (api.Tags, error) {
	return get[api.Tags](ctx, c, call{method: http.MethodGet, path: api.TagsPath, query: url.Values{"name": {name}}, header: http.Header{registry.AuthHeader: {auth}}})
}

// RemoteManifest returns a manifest or index as it is in the registry.
func (c *Client) RemoteManifest(ctx context.Context, name, auth string) (json.RawMessage, error) {
	return get[json.RawMessage](ctx, c, call{method: http.MethodGet, path: api.ManifestPath, query: url.Values{"name": {name}}, header: http.Header{registry.AuthHeader: {auth}}})
}

// PutManifest stores an index under a name in its registry, and returns its digest.
func (c *Client) PutManifest(ctx context.Context, name string, raw []byte, auth string) (string, error) {
	put, err := get[api.Put](ctx, c, call{method: http.MethodPut, path: api.ManifestPath, query: url.Values{"name": {name}}, body: bytes.NewReader(raw), header: http.Header{registry.AuthHeader: {auth}, "Content-Type": {"application/json"}}})
	return put.Digest, err
}

// DeleteManifest removes a tag or, by digest, a manifest from its registry.
func (c *Client) DeleteManifest(ctx context.Context, name, auth string) error {
	resp, err := c.do(ctx, call{method: http.MethodDelete, path: api.ManifestPath, query: url.Values{"name": {name}}, header: http.Header{registry.AuthHeader: {auth}}})
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// Distribution returns what a registry has under a name.
func (c *Client) Distribution(ctx context.Context, name, auth string) (registry.DistributionInspect, error) {
	return get[registry.DistributionInspect](ctx, c, call{method: http.MethodGet, path: path("distribution", name, "json"), header: http.Header{registry.AuthHeader: {auth}}})
}

// messages reads a stream of JSON messages up to its end or to the first that
// is an error.
func messages(r call, body io.Reader, progress func(jsonstream.Message)) error {
	dec := json.NewDecoder(bufio.NewReader(body))
	for {
		var m struct {
			jsonstream.Message
			OldError string `json:"error"` // what errdetail replaced; some servers send only this
		}
		switch err := dec.Decode(&m); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return bodyError(r, err)
		case m.Error != nil:
			return errdefs.New(classOf(m.Error.Code), "%s", m.Error.Message)
		case m.OldError != "":
			return errors.New(m.OldError)
		}
		progress(m.Message)
	}
}

// splitRef parts a reference before its tag or digest. A colon that comes
// before a slash belongs to the registry's port.
func splitRef(ref string) (name, tag string) {
	if name, digest, ok := strings.Cut(ref, "@"); ok {
		return name, digest
	}
	if i := strings.LastIndexByte(ref, ':'); i > strings.LastIndexByte(ref, '/') {
		return ref[:i], ref[i+1:]
	}
	return ref, ""
}

// ListImagesOptions says which images to list.
type ListImagesOptions struct {
	All     bool // also those without a name that others build upon
	Filters Filters
}

// ListImages returns images, the newest first.
func (c *Client) ListImages(ctx context.Context, o ListImagesOptions) ([]image.Summary, error) {
	q := truth(map[string]bool{"all": o.All})
	if err := o.Filters.query(q); err != nil {
		return nil, err
	}
	return get[[]image.Summary](ctx, c, call{method: http.MethodGet, path: path("images", "json"), query: q})
}

// InspectImageRaw returns all that the engine knows of an image, as it came.
func (c *Client) InspectImageRaw(ctx context.Context, ref string) (json.RawMessage, error) {
	return get[json.RawMessage](ctx, c, call{method: http.MethodGet, path: path("images", ref, "json")})
}

// RemoveImageOptions says how far to go.
type RemoveImageOptions struct {
	Force   bool // also if it has several names or stopped containers use it
	NoPrune bool // keep its parents that have no name
}

// RemoveImage takes a name from an image, and removes the image with its last.
func (c *Client) RemoveImage(ctx context.Context, ref string, o RemoveImageOptions) ([]image.DeleteResponse, error) {
	q := truth(map[string]bool{"force": o.Force, "noprune": o.NoPrune})
	return get[[]image.DeleteResponse](ctx, c, call{method: http.MethodDelete, path: path("images", ref), query: q})
}

// TagImage gives an image one more name.
func (c *Client) TagImage(ctx context.Context, source, target string) error {
	if strings.Contains(target, "@") {
		return errdefs.New(errdefs.Invalid, "tag %s: a tag cannot be a digest", target)
	}
	name, tag := splitRef(target)
	if name == "" {
		return errdefs.New(errdefs.Invalid, "tag %q: the name is empty", target)
	}
	q := url.Values{"repo": {name}}
	if tag != "" {
		q.Set("tag", tag)
	}
	if err := c.run(ctx, call{method: http.MethodPost, path: path("images", source, "tag"), query: q}); err != nil {
		return fmt.Errorf("tag %s: %w", source, err)
	}
	return nil
}
