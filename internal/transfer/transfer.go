// Package transfer brings images into the store, from registries (Pull) and
// from archives (Load), and out of it again (Push, Save).
//
// A layer takes one pass from the network to disk, with all steps at work at
// the same time:
//
//	network ─▶ sha256 ─▶ blob file
//	              └─▶ inflate ─▶ layer (which checks the DiffID)
//
// Layers come in parallel, the biggest first. An image gets its record, and
// its names, when all of it is on disk: until then nobody sees it. What is
// foreign is bounded: bytes, entries, and how much more a layer may unpack to
// than came in.
//
// What a failed pull leaves depends on what failed. Whole blobs and the
// beginnings of others are kept for the next attempt if that may succeed; if
// the bytes are wrong or the disk is full, nothing is kept.
package transfer

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"syscall"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/content"
	"lade/internal/errdefs"
	"lade/internal/imagestore"
	"lade/internal/registry/client"
	"lade/internal/registry/policy"
)

// Unpacker makes layers of uncompressed tars.
type Unpacker interface {
	// Has reports whether the layer is there, whole.
	Has(diffID digest.Digest) (bool, error)
	// Unpack reads a tar to its end and makes the layer of it, if the tar has
	// the digest. The layer appears whole or not at all.
	Unpack(ctx context.Context, diffID digest.Digest, tar io.Reader) error
}

// Limits bound what foreign bytes may cost. Zero fields have defaults.
type Limits struct {
	Layer   int64 // bytes that one layer may unpack to; default 128 GiB
	Archive int64 // bytes of an archive that is loaded, unpacked; default 512 GiB
	Entries int   // of such an archive; default 100,000
	Free    int64 // bytes that the ratio does not bound; default 256 MiB
	Ratio   int64 // unpacked bytes for each packed one, beyond Free; default 200
}

func (l Limits) orDefault() Limits {
	set := func(p *int64, v int64) {
		if *p == 0 {
			*p = v
		}
	}
	set(&l.Layer, 128<<30)
	set(&l.Archive, 512<<30)
	set(&l.Free, 256<<20)
	set(&l.Ratio, 200)
	if l.Entries == 0 {
		l.Entries = 100000
	}
	return l
}

// MaxEntries returns how many entries an archive may have.
func (l Limits) MaxEntries() int { return l.orDefault().Entries }

// Config is what a Transfer works with.
type Config struct {
	Content *content.Store
	Images  *imagestore.Store
	Layers  Unpacker
	Client  *client.Client
	// Platform is what images are for, if nobody says otherwise.
	Platform ocispec.Platform
	Limits   Limits
	// Trust says which images may come in; its zero value: all.
	Trust policy.Files
	// Parallel is how many layers come at once; 0 means 4.
	Parallel int
	Log      *slog.Logger
}

// Transfer moves images. Its methods may be called concurrently.
type Transfer struct {
	Config
	turns turns
}

// New returns a Transfer.
func New(c Config) *Transfer {
	c.Limits = c.Limits.orDefault()
	if c.Parallel == 0 {
		c.Parallel = 4
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return &Transfer{Config: c, turns: turns{held: map[digest.Digest]chan struct{}{}}}
}

// Progress is one step of a transfer, for people and for Docker's clients: the
// fields are those of Docker's JSON progress lines.
type Progress struct {
	// ID says what the step is of: a layer's first twelve digits, a tag. Empty:
	// the transfer as a whole.
	ID string
	// Action is the line's status, in Docker's words: "Downloading".
	Action string
	// Current and Total count bytes; Total 0: there is nothing to count.
	Current, Total int64
	// Message is text for people that is no status: Docker's "stream".
	Message string
	// Aux is a value for programs that has no other place, one of Docker's.
	Aux any
}

// Result is one image that came in.
type Result struct {
	// ID is the image's id, Manifest the digest of its manifest, and Target
	// that of what the name leads to in the registry: the manifest or an index.
	ID, Manifest, Target digest.Digest
	// Names are the names that it got, in familiar form.
	Names []string
	// New is false if the names led to this image before.
	New bool
}

// turns lets one goroutine at a time work on a blob: of two pulls that want
// the same layer, the second finds it there.
type turns struct {
	mu   sync.Mutex
	held map[digest.Digest]chan struct{} // guarded by mu
}

// take waits for the turn; done ends it.
func (t *turns) take(ctx context.Context, d digest.Digest, waiting func()) (done func(), err error) {
	for {
		t.mu.Lock()
		other, busy := t.held[d]
		if !busy {
			mine := make(chan struct{})
			t.held[d] = mine
			t.mu.Unlock()
			return func() {
				t.mu.Lock()
				delete(t.held, d)
				t.mu.Unlock()
				close(mine)
			}, nil
		}
		t.mu.Unlock()
		waiting()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// passing reports whether another attempt may get further than the one that
// ended with err: then what came is worth keeping.
func passing(err error) bool {
	switch errdefs.ClassOf(err) {
	case errdefs.Unavailable, errdefs.Cancelled, errdefs.Unauthorized:
		return true
	default:
		return errors.Is(err, io.ErrUnexpectedEOF)
	}
}

// finish ends a transfer's lease as its outcome demands.
func finish(l *imagestore.Lease, err error) error {
	if err != nil && passing(err) {
		l.Release()
		return err
	}
	return errors.Join(err, l.Discard())
}

// full reports whether err says that the disk is full.
func full(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}
