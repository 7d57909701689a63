package layer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"

	"lade/internal/errdefs"
)

// Info says what an image holds. It stands in the image's first bytes.
type Info struct {
	DiffID  digest.Digest // of the tar
	TarSize int64
	Size    int64         // of the image
	Entries int           // files of any type
	Meta    digest.Digest // of what follows the tar, and then the superblock; none of a directory
	Root    *Attr         // of the root directory; nil when the tar says nothing of it

	pendingAt, pendingSize int64
}

// Attr are the attributes of a file.
type Attr struct {
	Mode    uint32 `json:"mode"` // the low twelve bits
	UID     uint32 `json:"uid"`
	GID     uint32 `json:"gid"`
	Seconds int64  `json:"mtime"`
	Nanos   uint32 `json:"mtimeNanos"`
}

// record is Info as it is written.
type record struct {
	Format      string        `json:"lade"`
	Version     int           `json:"version"`
	DiffID      digest.Digest `json:"diffID"`
	TarSize     int64         `json:"tarSize"`
	Size        int64         `json:"size"`
	Entries     int           `json:"entries"`
	Meta        digest.Digest `json:"meta"`
	Root        *Attr         `json:"root,omitempty"`
	PendingAt   int64         `json:"pendingAt"`
	PendingSize int64         `json:"pendingSize"`
}

const (
	recordFormat  = "layer"
	recordVersion = 1
)

func (i Info) encode(b []byte) error {
	text, err := json.Marshal(record{
		recordFormat, recordVersion, i.DiffID, i.TarSize, i.Size, i.Entries, i.Meta, i.Root, i.pendingAt, i.pendingSize,
	})
	if err != nil {
		return err
	}
	if len(text)+1 > len(b) {
		return fmt.Errorf("record of %d bytes", len(text))
	}
	copy(b, append(text, '\n'))
	return nil
}

// ReadInfo reads what an image says it holds. An error of class DataLoss means
// that it is none of ours, or damaged.
func ReadInfo(r io.ReaderAt) (Info, error) {
	b := make([]byte, superOffset)
	switch _, err := r.ReadAt(b, 0); {
	case errors.Is(err, io.EOF):
		return Info{}, errdefs.New(errdefs.DataLoss, "read layer's record: the file is too short")
	case err != nil:
		return Info{}, fmt.Errorf("read layer's record: %w", err)
	}
	info, err := parseInfo(b)
	if err == nil && (info.pendingAt < tapeStart || info.pendingSize > info.Size-info.pendingAt) {
		return Info{}, errdefs.New(errdefs.DataLoss, "read layer's record: not of a known form")
	}
	return info, err
}

func parseInfo(b []byte) (Info, error) {
	var rec record
	if err := json.Unmarshal(bytes.TrimRight(b, "\x00\n"), &rec); err != nil {
		return Info{}, errdefs.New(errdefs.DataLoss, "read layer's record: %w", err)
	}
	if rec.Format != recordFormat || rec.Version != recordVersion || rec.TarSize < 0 || rec.Size < 0 || rec.PendingSize < 0 {
		return Info{}, errdefs.New(errdefs.DataLoss, "read layer's record: not of a known form")
	}
	return Info{
		DiffID: rec.DiffID, TarSize: rec.TarSize, Size: rec.Size, Entries: rec.Entries, Meta: rec.Meta, Root: rec.Root,
		pendingAt: rec.PendingAt, pendingSize: rec.PendingSize,
	}, nil
}

// HasPending reports whether the layer has pending work: see Supplement.
func (i Info) HasPending() bool { return i.pendingSize > 0 }

// Tar returns the tar that the image was made of, byte for byte.
func (i Info) Tar(r io.ReaderAt) io.Reader {
	return io.NewSectionReader(r, tapeStart, i.TarSize)
}

// Verify reads all of an image and compares it with what ReadInfo says: an
// error of class DataLoss tells that a byte has changed.
func (i Info) Verify(r io.ReaderAt) error {
	d, err := digest.SHA256.FromReader(i.Tar(r))
	if err != nil {
		return fmt.Errorf("verify layer: %w", err)
	}
	if d != i.DiffID {
		return errdefs.New(errdefs.DataLoss, "verify layer: its tar has digest %s, not %s", d, i.DiffID)
	}
	tail := alignUp(tapeStart+i.TarSize, blockSize)
	d, err = digest.SHA256.FromReader(io.MultiReader(
		io.NewSectionReader(r, tail, i.Size-tail), io.NewSectionReader(r, superOffset, superSize)))
	if err != nil {
		return fmt.Errorf("verify layer: %w", err)
	}
	if d != i.Meta {
		return errdefs.New(errdefs.DataLoss, "verify layer: its metadata have digest %s, not %s", d, i.Meta)
	}
	return nil
}
