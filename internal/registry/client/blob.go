package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/reference"
	"lade/internal/registry/wire"
)

// Blob opens a blob from offset on. When the connection breaks, the reader
// goes on where it broke off. It returns exactly the bytes that the descriptor
// announces, or an error; whether they are the right ones is for the caller to
// check. Only the registry is asked: what URLs a descriptor names, counts for
// nothing.
func (r *Repository) Blob(ctx context.Context, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	if err := reference.CheckDigest(desc.Digest); err != nil {
		return nil, err
	}
	b := &blob{ctx: ctx, repo: r, desc: desc, offset: offset}
	if offset == desc.Size {
		return b, nil // nothing to ask for
	}
	if err := r.c.retry(ctx, b.open); err != nil {
		return nil, err
	}
	return b, nil
}

// blob reads one blob over as many connections as it takes. It holds its
// context as a reader must: Read has no other way to be cancelled.
type blob struct {
	ctx    context.Context //nolint:containedctx // io.Reader has no argument for it
	repo   *Repository
	desc   ocispec.Descriptor
	offset int64
	body   io.ReadCloser
	broken int // attempts since the last byte
}

// open asks for the blob from the offset on.
func (b *blob) open() error {
	h := http.Header{"Accept": {"*/*"}}
	if b.offset > 0 {
		h.Set("Range", fmt.Sprintf("bytes=%d-", b.offset))
	}
	resp, err := b.repo.get(b.ctx, b.repo.url("blobs", string(b.desc.Digest)), h)
	if err != nil {
		return err
	}
	switch resp.StatusCode {
	case http.StatusOK:
		if resp.ContentLength >= 0 && resp.ContentLength != b.desc.Size {
			drain(resp)
			return errdefs.New(errdefs.DataLoss, "layer %s: the registry has %d bytes, the manifest says %d", image.ShortID(b.desc.Digest), resp.ContentLength, b.desc.Size)
		}
		// A server that knows no ranges sends all; what is here is skipped.
		if _, err := io.CopyN(io.Discard, resp.Body, b.offset); err != nil {
			_ = resp.Body.Close()
			return again(err)
		}
	case http.StatusPartialContent:
		start, total, ok := wire.ContentRange(resp.Header.Get("Content-Range"))
		if !ok || start != b.offset || total >= 0 && total != b.desc.Size {
			drain(resp)
			return errdefs.New(errdefs.DataLoss, "layer %s: the registry answers the range %q to one from %d of %d", image.ShortID(b.desc.Digest), wire.Clean(resp.Header.Get("Content-Range"), 80), b.offset, b.desc.Size)
		}
	default:
		defer resp.Body.Close()
		return b.repo.refused(resp, "blob "+string(b.desc.Digest)+" of "+b.repo.name)
	}
	b.body = newStallReader(resp.Body, b.repo.c.o.Stall)
	return nil
}

// Read implements io.Reader.
func (b *blob) Read(p []byte) (int, error) {
	for {
		if b.offset >= b.desc.Size {
			return 0, io.EOF
		}
		if b.body == nil {
			if err := b.repo.c.retry(b.ctx, b.open); err != nil {
				return 0, err
			}
		}
		n, err := b.body.Read(p[:min(int64(len(p)), b.desc.Size-b.offset)])
		b.offset += int64(n)
		if n > 0 {
			b.broken = 0
		}
		if err == nil || n > 0 {
			return n, nil // an error comes again
		}
		if err := b.reopen(err); err != nil {
			return 0, err
		}
	}
}

// reopen decides whether a broken connection is worth another.
func (b *blob) reopen(cause error) error {
	_ = b.body.Close()
	b.body = nil
	if err := b.ctx.Err(); err != nil {
		return err
	}
	if errors.Is(cause, io.EOF) {
		cause = io.ErrUnexpectedEOF
	}
	if b.broken++; b.broken >= b.repo.c.o.Attempts {
		return errdefs.Hint(errdefs.New(errdefs.DataLoss, "layer %s is truncated: the registry sent %d of %d bytes, %d times: %w", image.ShortID(b.desc.Digest), b.offset, b.desc.Size, b.broken, cause), "try again; if it stays, the registry's copy is damaged")
	}
	return b.repo.c.wait(b.ctx, b.repo.c.o.Backoff<<(b.broken-1))
}

// Close implements io.Closer.
func (b *blob) Close() error {
	if b.body == nil {
		return nil
	}
	return b.body.Close()
}

// stallReader closes a body that is silent for too long: a connection whose
// other end vanished never ends by itself.
type stallReader struct {
	io.ReadCloser
	timer *time.Timer
	limit time.Duration
}

func newStallReader(body io.ReadCloser, limit time.Duration) *stallReader {
	t := time.AfterFunc(limit, func() { _ = body.Close() })
	t.Stop() // it runs only while somebody waits in Read
	return &stallReader{body, t, limit}
}

func (s *stallReader) Read(p []byte) (int, error) {
	s.timer.Reset(s.limit)
	n, err := s.ReadCloser.Read(p)
	s.timer.Stop()
	return n, err
}

func (s *stallReader) Close() error {
	s.timer.Stop()
	return s.ReadCloser.Close()
}
