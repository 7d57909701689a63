package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/registry/wire"
)

// Opener opens a blob that is to be uploaded, from offset on. It may be called
// more than once.
type Opener func(ctx context.Context, offset int64) (io.ReadCloser, error)

// UploadOptions says how to upload a blob.
type UploadOptions struct {
	// From names repositories of the same registry that may have the blob.
	From []string
	// Note, where set, is told how many bytes were sent.
	Note func(int64)
}

// firstChunk is the size of a part, where the registry takes no blob as a
// whole; smaller ones are tried down to the least.
const (
	firstChunk = 64 << 20
	leastChunk = 1 << 20
)

// HasBlob reports whether the repository has a blob.
func (r *Repository) HasBlob(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	return r.has(ctx, "blobs", string(desc.Digest), desc)
}

// HasManifest reports whether the repository has a manifest, by its digest.
func (r *Repository) HasManifest(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	return r.has(ctx, "manifests", string(desc.Digest), desc)
}

func (r *Repository) has(ctx context.Context, kind, object string, desc ocispec.Descriptor) (there bool, err error) {
	q := request{method: http.MethodHead, url: r.url(kind, object), header: http.Header{"Accept": {strings.Join(accept(), ", ")}}}
	if kind == "blobs" {
		q.header = http.Header{"Accept": {"*/*"}}
	}
	err = r.c.retry(ctx, func() error {
		resp, err := r.send(ctx, q)
		if err != nil {
			return err
		}
		defer drain(resp)
		switch resp.StatusCode {
		case http.StatusOK:
			// One of another size is no such blob, whatever the registry says.
			there = resp.ContentLength < 0 || resp.ContentLength == desc.Size
			return nil
		case http.StatusNotFound:
			return nil
		}
		return r.refused(resp, object)
	})
	return there, err
}

// Connect asks whether there is a registry, and settles how it is spoken to.
// It comes before requests that are sent at the same time.
func (r *Repository) Connect(ctx context.Context) error {
	u := *r.base
	u.Path = "/v2/"
	return r.c.retry(ctx, func() error {
		resp, err := r.get(ctx, u.String(), nil)
		if err != nil {
			return err
		}
		defer drain(resp)
		switch resp.StatusCode {
		case http.StatusOK:
			return nil
		case http.StatusNotFound:
			return errdefs.Hint(errdefs.New(errdefs.Unavailable, "%s is no registry: it does not know /v2/", r.base.Host), "check the name (what stands before the first slash is the registry)")
		}
		return r.refused(resp, "registry "+r.base.Host)
	})
}

// Upload brings a blob to the repository: mounted from another one, if that
// has it, and otherwise sent, as a whole or, where the registry wants that, in
// parts. After a broken connection it goes on with what the registry lacks.
// It returns the repository that the blob was mounted from, or "".
func (r *Repository) Upload(ctx context.Context, desc ocispec.Descriptor, open Opener, o UploadOptions) (mounted string, err error) {
	u := &upload{r: r, desc: desc, open: open, o: o}
	if u.o.Note == nil {
		u.o.Note = func(int64) {}
	}
	err = u.run(ctx)
	if err != nil && u.location != nil {
		u.cancel(ctx)
	}
	return u.mounted, err
}

// upload is one Upload under way.
type upload struct {
	r    *Repository
	desc ocispec.Descriptor
	open Opener
	o    UploadOptions

	location *url.URL // of the session; nil: there is none
	offset   int64    // what the registry has
	unsure   bool     // it may have more, or less
	chunk    int64    // 0: all in one
	mounted  string
	done     bool
}

// run tries until the blob is there, or nothing was achieved too often.
func (u *upload) run(ctx context.Context) error {
	for failed := 0; ; {
		had := u.offset
		err := u.try(ctx)
		t, passing := errors.AsType[*transient](err)
		if err == nil || !passing || ctx.Err() != nil || t.after > u.r.c.o.Patience {
			return err
		}
		if u.offset > had {
			failed = 0
		}
		if failed++; failed >= u.r.c.o.Attempts {
			return err
		}
		u.unsure = true
		if err := u.r.c.wait(ctx, max(t.after, u.r.c.o.Backoff<<(failed-1))); err != nil {
			return err
		}
	}
}

func (u *upload) try(ctx context.Context) error {
	if u.location != nil && u.unsure {
		if err := u.ask(ctx); err != nil {
			return err
		}
	}
	if u.location == nil {
		if err := u.begin(ctx); err != nil || u.done {
			return err
		}
	}
	if u.offset == 0 && u.chunk == 0 {
		return u.finish(ctx, u.desc.Size)
	}
	for u.offset < u.desc.Size {
		if err := u.part(ctx); err != nil {
			return err
		}
	}
	return u.finish(ctx, 0)
}

// begin opens a session, or finds that the registry needs none.
func (u *upload) begin(ctx context.Context) error {
	target := u.r.url("blobs", "uploads/")
	for _, from := range u.o.From {
		q := url.Values{"mount": {string(u.desc.Digest)}, "from": {from}}
		if err := u.post(ctx, target+"?"+q.Encode()); err != nil {
			return err
		}
		if u.done {
			u.mounted = from
			return nil
		}
	}
	u.o.From = nil // what failed once is not tried again
	if u.location != nil {
		return nil // a mount that came to nothing is the beginning of an upload
	}
	return u.post(ctx, target)
}

func (u *upload) post(ctx context.Context, target string) error {
	if u.location != nil {
		u.cancel(ctx)
	}
	resp, err := u.r.send(ctx, request{method: http.MethodPost, url: target, body: nothing})
	if err != nil {
		return err
	}
	defer drain(resp)
	switch resp.StatusCode {
	case http.StatusCreated:
		u.done = true
		return nil
	case http.StatusAccepted:
		if least, err := strconv.ParseInt(resp.Header.Get("OCI-Chunk-Min-Length"), 10, 64); err == nil && u.chunk > 0 {
			u.chunk = max(u.chunk, least)
		}
		u.offset, u.unsure = 0, false
		return u.follow(resp)
	}
	return u.r.refused(resp, "upload to "+u.r.name)
}

func nothing() (io.ReadCloser, error) { return http.NoBody, nil }

// follow takes over where the session is. A registry behind a proxy that
// speaks TLS may not know of it: what it calls http is https then. The bytes
// of an image go nowhere without TLS where the registry has it.
func (u *upload) follow(resp *http.Response) error {
	said := resp.Header.Get("Location")
	if said == "" {
		if u.location != nil {
			return nil // it stays where it was
		}
		return errdefs.New(errdefs.Unavailable, "registry %s opened an upload and does not say where", u.r.base.Host)
	}
	l, err := resp.Request.URL.Parse(said)
	switch {
	case err != nil || l.Host == "" || l.User != nil || l.Scheme != "http" && l.Scheme != "https":
		return errdefs.New(errdefs.Denied, "registry %s opened an upload at %q: not a place to send to", u.r.base.Host, wire.Clean(said, 200))
	case u.r.base.Scheme == "https" && l.Scheme == "http" && l.Hostname() == u.r.base.Hostname():
		l.Scheme, l.Host = "https", u.r.base.Host
	case u.r.base.Scheme == "https" && l.Scheme == "http":
		return errdefs.New(errdefs.Denied, "registry %s opened an upload without TLS at %s: not sent", u.r.base.Host, l.Host)
	}
	u.location = l
	return nil
}

// ask finds out how much of the blob the registry has.
func (u *upload) ask(ctx context.Context) error {
	resp, err := u.r.get(ctx, u.location.String(), nil)
	if err != nil {
		return err
	}
	defer drain(resp)
	if resp.StatusCode != http.StatusNoContent {
		u.location, u.offset = nil, 0 // the session is gone: begin again
		return nil
	}
	u.offset, u.unsure = 0, false
	return u.received(resp)
}

// received reads how far the registry says that it is.
func (u *upload) received(resp *http.Response) error {
	if v := resp.Header.Get("Range"); v != "" {
		first, last, ok := strings.Cut(strings.TrimPrefix(v, "bytes="), "-")
		n, err := strconv.ParseInt(last, 10, 64)
		// Some say 0-0 for nothing; a blob of one byte does not get here twice.
		if !ok || first != "0" || err != nil || n < -1 || n >= u.desc.Size {
			return errdefs.New(errdefs.DataLoss, "registry %s says that it has the bytes %q of %d", u.r.base.Host, wire.Clean(v, 80), u.desc.Size)
		}
		u.offset = n + 1
		if n == 0 {
			u.offset = 0
		}
	}
	return u.follow(resp)
}

// part sends the next part, or all the rest.
func (u *upload) part(ctx context.Context) error {
	n := u.desc.Size - u.offset
	if u.chunk > 0 {
		n = min(n, u.chunk)
	}
	h := http.Header{"Content-Type": {"application/octet-stream"}, "Content-Range": {fmt.Sprintf("%d-%d", u.offset, u.offset+n-1)}}
	resp, err := u.transmit(ctx, request{method: http.MethodPatch, url: u.location.String(), header: h}, n)
	if err != nil {
		return err
	}
	defer drain(resp)
	switch resp.StatusCode {
	case http.StatusAccepted, http.StatusNoContent:
		u.offset += n
		sent := u.offset
		if err := u.received(resp); err != nil {
			return err
		}
		if u.offset <= sent-n {
			return again(errdefs.New(errdefs.Unavailable, "registry %s did not keep what it was sent", u.r.base.Host))
		}
		return nil
	case http.StatusRequestedRangeNotSatisfiable:
		return again(errdefs.New(errdefs.Unavailable, "registry %s lost its place in %s", u.r.base.Host, u.desc.Digest))
	}
	return u.refused(resp)
}

// finish sends the last n bytes, and the digest that all must have.
func (u *upload) finish(ctx context.Context, n int64) error {
	to := *u.location
	query := to.RawQuery // as it came: it may be signed
	if query != "" {
		query += "&"
	}
	to.RawQuery = query + "digest=" + url.QueryEscape(string(u.desc.Digest))
	h := http.Header{"Content-Type": {"application/octet-stream"}}
	resp, err := u.transmit(ctx, request{method: http.MethodPut, url: to.String(), header: h}, n)
	if err != nil {
		return err
	}
	defer drain(resp)
	if resp.StatusCode != http.StatusCreated && resp.StatusCode != http.StatusNoContent {
		return u.refused(resp)
	}
	if said := resp.Header.Get("Docker-Content-Digest"); said != "" && said != string(u.desc.Digest) {
		return errdefs.New(errdefs.DataLoss, "registry %s took blob %s for %q", u.r.base.Host, u.desc.Digest, wire.Clean(said, 80))
	}
	u.o.Note(u.desc.Size)
	u.done, u.location = true, nil
	return nil
}

// refused reads an answer to bytes that were sent. A registry, or a proxy in
// front of it, that does not take so many at once is sent fewer.
func (u *upload) refused(resp *http.Response) error {
	if resp.StatusCode == http.StatusRequestEntityTooLarge && u.chunk != leastChunk && u.desc.Size > leastChunk {
		if u.chunk == 0 {
			u.chunk = 2 * firstChunk
		}
		u.chunk = max(leastChunk, min(u.chunk, u.desc.Size)/2)
		return again(errdefs.New(errdefs.Exhausted, "registry %s does not take %d bytes", u.r.base.Host, u.desc.Size))
	}
	return u.r.refused(resp, "layer "+image.ShortID(u.desc.Digest))
}

// transmit sends n bytes of the blob from the offset on. It gives up when the
// other end takes none for too long.
func (u *upload) transmit(ctx context.Context, q request, n int64) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	stall := u.r.c.o.Stall
	silent := time.AfterFunc(stall, func() {
		cancel(again(errdefs.New(errdefs.Unavailable, "registry %s takes no more bytes", u.r.base.Host)))
	})
	defer silent.Stop()
	start := u.offset
	q.size = n
	q.body = func() (io.ReadCloser, error) {
		if n == 0 {
			return http.NoBody, nil
		}
		body, err := u.open(ctx, start)
		if err != nil {
			return nil, err
		}
		silent.Reset(stall)
		return &sending{ReadCloser: body, left: n, read: func(left int64) {
			if left > 0 {
				silent.Reset(stall)
			} else {
				// It has all, and may have to hash and move it.
				silent.Reset(10 * stall)
			}
			u.o.Note(start + n - left)
		}}, nil
	}
	resp, err := u.r.send(ctx, q)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		cancel(nil)
		return nil, err
	}
	resp.Body = closing{resp.Body, func() { cancel(nil) }}
	return resp, nil
}

type closing struct {
	io.ReadCloser
	then func()
}

func (c closing) Close() error {
	defer c.then()
	return c.ReadCloser.Close()
}

// sending is a body of an exact length that tells how much of it is left.
type sending struct {
	io.ReadCloser
	left int64
	read func(left int64)
}

func (s *sending) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	n, err := s.ReadCloser.Read(p[:min(int64(len(p)), s.left)])
	s.left -= int64(n)
	s.read(s.left)
	if errors.Is(err, io.EOF) && s.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// cancel ends a session that came to nothing, so that the registry need not
// keep what it has of it. Nothing depends on whether that works.
func (u *upload) cancel(ctx context.Context) {
	ctx, done := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer done()
	if resp, err := u.r.send(ctx, request{method: http.MethodDelete, url: u.location.String()}); err == nil {
		drain(resp)
	}
	u.location, u.offset = nil, 0
}
