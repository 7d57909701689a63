package transfer

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"lade/internal/errdefs"
	"lade/internal/image"
)

// compressionOf tells a stream's compression from its first bytes. Media types
// are not asked: what counts in the end is that the unpacked bytes have the
// layer's DiffID, and registries hold layers under types of another packing.
func compressionOf(head []byte) (image.Compression, error) {
	magic := func(s string) bool { return bytes.HasPrefix(head, []byte(s)) }
	switch {
	case magic("\x1f\x8b\x08"):
		return image.Gzip, nil
	case magic("\x28\xb5\x2f\xfd"), len(head) >= 4 && head[0]&0xf0 == 0x50 && magic(string(head[:1])+"\x2a\x4d\x18"):
		return image.Zstd, nil
	case magic("BZh"), magic("\xfd7zXZ\x00"), magic("PK\x03\x04"):
		return "", errdefs.Hint(errdefs.With(errdefs.NotImplemented, errors.New("packed with bzip2, xz or zip")), "unpack it first; Lade reads gzip, zstd and plain tar")
	}
	return image.Plain, nil
}

// maxWindow bounds what a zstd frame may make the reader remember.
const maxWindow = 64 << 20

// decompress returns what r holds, unpacked. Closing it frees memory; it does
// not close r.
func decompress(r io.Reader) (io.ReadCloser, image.Compression, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	head, err := b.Peek(8)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, "", err
	}
	c, err := compressionOf(head)
	if err != nil {
		return nil, "", err
	}
	switch c {
	case image.Gzip:
		z, err := gzip.NewReader(b)
		return z, c, damaged(err)
	case image.Zstd:
		z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, "", damaged(err)
		}
		return z.IOReadCloser(), c, nil
	case image.Plain:
	}
	return io.NopCloser(b), image.Plain, nil
}

// Unpacked returns what an archive holds, unpacked, within the limits, and how it
// is packed. Closing it frees memory; it does not close r.
func (l Limits) Unpacked(r io.Reader) (io.ReadCloser, image.Compression, error) {
	l = l.orDefault()
	in := &counter{r: r}
	z, packing, err := decompress(in)
	if err != nil {
		return nil, "", err
	}
	b := &budget{r: z, most: l.Archive, free: l.Free, ratio: l.Ratio, object: "the archive"}
	if packing != image.Plain {
		b.in = in
	}
	return struct {
		io.Reader
		io.Closer
	}{b, z}, packing, nil
}

// damaged gives errors of packed bytes their class.
func damaged(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	for _, own := range []error{gzip.ErrHeader, gzip.ErrChecksum, io.ErrUnexpectedEOF, zstd.ErrMagicMismatch, zstd.ErrCRCMismatch, zstd.ErrUnknownDictionary} {
		if errors.Is(err, own) {
			return errdefs.New(errdefs.DataLoss, "unpack: %w", err)
		}
	}
	if errors.Is(err, zstd.ErrWindowSizeExceeded) || errors.Is(err, zstd.ErrDecoderSizeExceeded) {
		return errdefs.New(errdefs.Exhausted, "unpack: a window of more than %d bytes: %w", maxWindow, err)
	}
	return err
}

// budget bounds the bytes that come out of packed ones. Each packed byte that
// was read buys ratio bytes more.
type budget struct {
	r      io.Reader
	in     *counter // packed bytes read so far; nil: no ratio
	out    int64
	free   int64
	ratio  int64
	most   int64
	object string
}

// counter counts bytes read. It is read from other goroutines never.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func (b *budget) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.out += int64(n)
	switch {
	case b.out > b.most:
		return 0, b.refuse(fmt.Sprintf("to more than %d bytes", b.most))
	case b.in != nil && b.out > b.free && (b.out-b.free)/b.ratio > b.in.n:
		return 0, b.refuse(fmt.Sprintf("to %d bytes from %d, more than %d times as much", b.out, b.in.n, b.ratio))
	}
	return n, damaged(err)
}

func (b *budget) refuse(how string) error {
	return errdefs.Hint(errdefs.New(errdefs.Exhausted, "%s unpacks %s", b.object, how), "it looks like a bomb and was not stored; do not trust where it came from")
}
