package transfer

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/content"
	"lade/internal/errdefs"
	"lade/internal/ident"
	"lade/internal/image"
	"lade/internal/reference"
)

// entry is one file of an archive: a blob, or a link to another file.
type entry struct {
	digest digest.Digest
	size   int64
	packed image.Compression
	link   string // of the archive, cleaned; empty for a file
}

func (e entry) layerType() string {
	switch e.packed {
	case image.Gzip:
		return ocispec.MediaTypeImageLayerGzip
	case image.Zstd:
		return ocispec.MediaTypeImageLayerZstd
	case image.Plain:
	}
	return ocispec.MediaTypeImageLayer
}

// LayerType returns the media type of a layer that begins so.
func LayerType(head []byte) string {
	packed, _ := compressionOf(head) // one that is packed otherwise will not unpack
	return entry{packed: packed}.layerType()
}

// ingest reads the archive and makes blobs of its files.
func (l *load) ingest(ctx context.Context, archive io.Reader) error {
	z, packing, err := l.t.Limits.Unpacked(archive)
	if err != nil {
		return err
	}
	defer z.Close()
	tr := tar.NewReader(z)
	for n := 0; ; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := tr.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, tar.ErrHeader), errors.Is(err, io.ErrUnexpectedEOF) && n == 0 && packing == image.Plain:
			return errdefs.New(errdefs.Invalid, "no image archive: it is no tar: %w", err)
		case errors.Is(err, io.ErrUnexpectedEOF):
			return errdefs.New(errdefs.DataLoss, "the archive is truncated: %w", err)
		case err != nil:
			return fmt.Errorf("read the archive: %w", err)
		case n >= l.t.Limits.Entries:
			return errdefs.New(errdefs.Exhausted, "the archive has more than %d entries", l.t.Limits.Entries)
		}
		if err := l.add(h, tr); err != nil {
			return err
		}
	}
}

// add takes over one entry of the archive.
func (l *load) add(h *tar.Header, r io.Reader) error {
	name, err := clean(h.Name)
	if err != nil {
		return err
	}
	if _, twice := l.files[name]; twice {
		return errdefs.New(errdefs.Invalid, "the archive holds %.100q twice", name)
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return errdefs.New(errdefs.Invalid, "the archive holds the sparse file %.100q", name)
		}
	}
	switch h.Typeflag {
	case tar.TypeReg:
		e, err := l.blob(name, r, h.Size)
		if err != nil {
			return fmt.Errorf("%.100s: %w", name, err)
		}
		l.files[name] = e
	case tar.TypeSymlink, tar.TypeLink:
		// Older docker save wrote layers that several images share as links to
		// ../ID/layer.tar. They are names in the archive, and nothing else.
		target := h.Linkname
		if h.Typeflag == tar.TypeSymlink {
			target = path.Join(path.Dir(name), target)
		}
		if strings.HasPrefix(h.Linkname, "/") || target == ".." || strings.HasPrefix(target, "../") {
			return errdefs.New(errdefs.Invalid, "the archive holds the link %.100q, which leads out of it", name)
		}
		l.files[name] = entry{link: path.Clean(target)}
	case tar.TypeDir, tar.TypeXGlobalHeader:
	default:
		return errdefs.New(errdefs.Invalid, "the archive holds %.100q, which is neither file, directory nor link", name)
	}
	return nil
}

// blob stores a file. One whose path is a digest must have it.
func (l *load) blob(name string, r io.Reader, size int64) (entry, error) {
	var head [8]byte
	n, err := io.ReadFull(r, head[:min(size, int64(len(head)))])
	if err != nil {
		return entry{}, truncated(err)
	}
	// What it is packed with matters for layers only.
	packed, _ := compressionOf(head[:n])
	e := content.Expect{Name: ident.New(), Size: size, SizeKnown: true, Digest: digestOf(name)}
	if e.Digest != "" {
		// Leased before anybody looks whether it is there.
		l.lease.Hold(e.Digest)
		if info, ok, err := l.t.Content.Has(e.Digest); err != nil || ok && info.Size == size {
			return entry{digest: e.Digest, size: size, packed: packed}, err
		}
	}
	w, err := l.t.Content.Ingest(e)
	if err != nil {
		return entry{}, err
	}
	if _, err := w.Write(head[:n]); err != nil {
		return entry{}, errors.Join(err, w.Abort())
	}
	if _, err := io.Copy(w, r); err != nil {
		return entry{}, errors.Join(truncated(err), w.Abort())
	}
	// The name is not known before the bytes are: another load of the same
	// file may remove it as unused between Commit and a lease. So lease first.
	if e.Digest == "" {
		l.lease.Hold(w.Sum())
	}
	info, err := w.Commit()
	return entry{digest: info.Digest, size: size, packed: packed}, err
}

// unsized stores a stream whose length nobody knows yet.
func (l *load) unsized(ctx context.Context, r io.Reader) (entry, error) {
	w, err := l.t.Content.Ingest(content.Expect{Name: ident.New(), Limit: l.t.Limits.Archive})
	if err != nil {
		return entry{}, err
	}
	var head []byte
	n, err := io.Copy(w, readerFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		n, err := r.Read(p)
		if len(head) < 8 {
			head = append(head, p[:min(n, 8-len(head))]...)
		}
		return n, err
	}))
	if err != nil {
		return entry{}, errors.Join(truncated(err), w.Abort())
	}
	packed, err := compressionOf(head)
	if err != nil {
		return entry{}, errors.Join(err, w.Abort())
	}
	l.lease.Hold(w.Sum()) // before anybody could find it
	info, err := w.Commit()
	return entry{digest: info.Digest, size: n, packed: packed}, err
}

// bytes stores a small file.
func (l *load) bytes(name string, data []byte) (entry, error) {
	return l.blob(name, bytes.NewReader(data), int64(len(data)))
}

func truncated(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return errdefs.New(errdefs.DataLoss, "the archive is truncated: %w", io.ErrUnexpectedEOF)
	}
	return err
}

// digestOf returns the digest that a path of an OCI layout stands for, or "".
func digestOf(name string) digest.Digest {
	parts := strings.Split(name, "/")
	if len(parts) != 3 || parts[0] != "blobs" {
		return ""
	}
	d := digest.Digest(parts[1] + ":" + parts[2])
	if reference.CheckDigest(d) != nil {
		return ""
	}
	return d
}

// lookup finds a file of the archive by its path, through links.
func (l *load) lookup(name string) (entry, error) {
	p, err := clean(name)
	if err != nil {
		return entry{}, err
	}
	const most = 16
	for range most {
		e, ok := l.files[p]
		if !ok {
			return entry{}, errdefs.New(errdefs.DataLoss, "the archive is incomplete: it lacks %.100q", name)
		}
		if e.link == "" {
			return e, nil
		}
		p = e.link
	}
	return entry{}, errdefs.New(errdefs.Invalid, "the archive's file %.100q is a link to a link, and so on", name)
}
