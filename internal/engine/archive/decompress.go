package archive

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"lade/internal/errdefs"
)

// maxWindow bounds what a zstd frame may make the reader remember.
const maxWindow = 64 << 20

// decompress returns the archive in r, whatever it is packed with. No program
// is started for it (CVE-2026-41567).
func decompress(r io.Reader) (io.ReadCloser, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	head, err := b.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, errdefs.With(errdefs.Invalid, err)
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, errdefs.With(errdefs.Invalid, err)
		}
		return z, nil
	case bytes.HasPrefix(head, []byte("BZh")):
		return io.NopCloser(bzip2.NewReader(b)), nil
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, errdefs.With(errdefs.Invalid, err)
		}
		return z.IOReadCloser(), nil
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		return nil, errdefs.Hint(errdefs.New(errdefs.NotImplemented, "the archive is packed with xz"), "unpack it first; Lade reads gzip, bzip2, zstd and plain tar")
	}
	return io.NopCloser(b), nil
}
