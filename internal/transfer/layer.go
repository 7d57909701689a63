package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/content"
	"lade/internal/errdefs"
	"lade/internal/ident"
	"lade/internal/image"
	"lade/internal/imagestore"
	"lade/internal/transfer/pipe"
)

// layer is one layer to get: the blob that holds it, and what it unpacks to.
type layer struct {
	desc   ocispec.Descriptor
	diffID digest.Digest
}

// fetcher opens a blob from an offset on.
type fetcher interface {
	Blob(ctx context.Context, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error)
}

// fetchLayer brings a layer's blob and the layer itself to disk.
func (t *Transfer) fetchLayer(ctx context.Context, from fetcher, l layer, rep *reporter) error {
	id := image.ShortID(l.desc.Digest)
	done, err := t.turns.take(ctx, l.diffID, func() { rep.send(Progress{ID: id, Action: "Waiting"}) })
	if err != nil {
		return err
	}
	defer done()
	unpacked, err := t.Layers.Has(l.diffID)
	if err != nil {
		return err
	}
	info, stored, err := t.Content.Has(l.desc.Digest)
	if err != nil {
		return err
	}
	switch {
	case stored && info.Size != l.desc.Size:
		return errdefs.New(errdefs.DataLoss, "layer %s: the store has %d bytes, the manifest says %d", id, info.Size, l.desc.Size)
	case stored && unpacked:
		rep.send(Progress{ID: id, Action: "Already exists"})
		return nil
	case stored:
		if err := t.squeeze(ctx, l, rep, t.unpackBlob(ctx, l, rep)); err != nil {
			return fmt.Errorf("layer %s: %w", id, err)
		}
	default:
		err := t.stream(ctx, from, l, unpacked, rep)
		if errors.Is(err, imagestore.ErrNoRoom) && !unpacked {
			// The blob first, which says how much it unpacks to.
			if err := t.stream(ctx, from, l, true, rep); err != nil {
				return fmt.Errorf("layer %s: %w", id, err)
			}
		}
		if err := t.squeeze(ctx, l, rep, err); err != nil {
			return fmt.Errorf("layer %s: %w", id, err)
		}
	}
	rep.send(Progress{ID: id, Action: "Pull complete"})
	return nil
}

// squeeze unpacks a layer again, for which there was no room: what it takes is
// counted first, and then room made for that, or for nothing.
func (t *Transfer) squeeze(ctx context.Context, l layer, rep *reporter, err error) error {
	if !errors.Is(err, imagestore.ErrNoRoom) {
		return err
	}
	b, err := t.Content.Open(l.desc.Digest)
	if err != nil {
		return err
	}
	defer b.Close()
	var n int64
	err = t.unpackInto(ctx, l, b, func(int64) {}, func(_ context.Context, _ digest.Digest, tar io.Reader) error {
		n, err = io.Copy(io.Discard, tar)
		return err
	})
	if err != nil {
		return err
	}
	if err := t.Images.Fits(n); err != nil {
		return err
	}
	return t.unpackBlob(ctx, l, rep)
}

// unpackBlob makes a layer of a blob that is in the store.
func (t *Transfer) unpackBlob(ctx context.Context, l layer, rep *reporter) error {
	b, err := t.Content.Open(l.desc.Digest)
	if err != nil {
		return err
	}
	defer b.Close()
	e := rep.extracting(image.ShortID(l.desc.Digest), l.desc.Size)
	e.begin()
	return t.unpack(ctx, l, b, e.later)
}

// unpack reads a packed layer and makes the layer of it. Inflating goes on in
// one goroutine, hashing and writing in another.
func (t *Transfer) unpack(ctx context.Context, l layer, packed io.Reader, note func(int64)) error {
	return t.unpackInto(ctx, l, packed, note, t.Layers.Unpack)
}

func (t *Transfer) unpackInto(ctx context.Context, l layer, packed io.Reader, note func(int64), into func(context.Context, digest.Digest, io.Reader) error) error {
	in := &counter{r: packed}
	z, _, err := decompress(in)
	if err != nil {
		return err
	}
	defer z.Close()
	b := &budget{r: z, in: in, free: t.Limits.Free, ratio: t.Limits.Ratio, most: t.Limits.Layer, object: "layer " + image.ShortID(l.desc.Digest)}
	tar, stop := pipe.Ahead(ctx, readerFunc(func(p []byte) (int, error) {
		n, err := b.Read(p)
		note(in.n)
		return n, err
	}))
	defer stop()
	return into(ctx, l.diffID, tar)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// unpacking is a layer being made of a stream.
type unpacking struct {
	pipe *pipe.Pipe
	err  error         // set before the pipe's reader leaves
	done chan struct{} // closed when err is final
}

// beginUnpack starts to make a layer of what will be sent to the pipe.
func (t *Transfer) beginUnpack(ctx context.Context, l layer, note func(int64)) *unpacking {
	u := &unpacking{pipe: pipe.New(16), done: make(chan struct{})}
	go func() {
		defer close(u.done)
		u.err = t.unpack(ctx, l, u.pipe, note)
		u.pipe.Leave()
	}()
	return u
}

// hopeless reports whether an error of unpacking makes the rest of the download
// pointless. Other errors may come from bytes that are not what they should
// be: then the digest says it better, and the download goes on.
func hopeless(err error) bool {
	return full(err) || errdefs.Is(err, errdefs.Exhausted) || errdefs.Is(err, errdefs.Cancelled)
}

// stream fetches a blob, and unpacks it while it comes.
func (t *Transfer) stream(ctx context.Context, from fetcher, l layer, unpacked bool, rep *reporter) error {
	id := image.ShortID(l.desc.Digest)
	w, err := t.ingest(l.desc)
	if err != nil {
		return err
	}
	defer w.Close()
	extracting := rep.extracting(id, l.desc.Size)
	u := &unpacking{pipe: pipe.New(0), done: make(chan struct{})}
	if unpacked {
		u.pipe.Leave()
		close(u.done)
	} else {
		u = t.beginUnpack(ctx, l, extracting.later)
	}
	err = t.download(ctx, from, w, l.desc, downloading{u, rep.counting(id, "Downloading", l.desc.Size)})
	u.pipe.End(err)
	if err == nil {
		rep.send(Progress{ID: id, Action: "Verifying Checksum"})
		// The blob goes to disk while the layer is still being written.
		if _, err = w.Commit(); err == nil {
			rep.send(Progress{ID: id, Action: "Download complete"})
			extracting.begin()
		}
	}
	<-u.done
	switch {
	case u.err != nil && (err == nil || hopeless(u.err)):
		err = u.err
	case err == nil:
		return nil
	}
	if !passing(err) || w.Offset() == 0 {
		return errors.Join(err, w.Abort())
	}
	return err
}

// ingest begins to write a blob. One that another process writes is written
// beside it.
func (t *Transfer) ingest(desc ocispec.Descriptor) (*content.Writer, error) {
	e := content.Expect{Digest: desc.Digest, Size: desc.Size, SizeKnown: true}
	w, err := t.Content.Ingest(e)
	if errors.Is(err, content.ErrBusy) {
		e.Name = ident.New()
		return t.Content.Ingest(e)
	}
	return w, err
}

// downloading is where the bytes of a download go besides the blob.
type downloading struct {
	*unpacking
	note func(int64)
}

// download writes the blob from where the writer is, and sends all of it on.
func (t *Transfer) download(ctx context.Context, from fetcher, w *content.Writer, desc ocispec.Descriptor, to downloading) error {
	if err := to.copy(ctx, w.Prefix(), io.Discard, 0); err != nil {
		return err
	}
	start := w.Offset()
	body, err := from.Blob(ctx, desc, start)
	if err != nil {
		return err
	}
	defer body.Close()
	return to.copy(ctx, body, w, start)
}

// copy reads r to its end, writes it to w, and sends it to the unpacking for as
// long as that listens.
func (d downloading) copy(ctx context.Context, r io.Reader, w io.Writer, n int64) error {
	for {
		b := d.pipe.Buffer()
		m, err := pipe.Fill(r, b)
		if m > 0 {
			if _, err := w.Write(b[:m]); err != nil {
				return err
			}
			n += int64(m)
			d.note(n)
			if !d.pipe.Send(ctx, b[:m]) {
				if err := ctx.Err(); err != nil {
					return err
				}
				if hopeless(d.err) { // the reader left: err is final
					return d.err
				}
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}
