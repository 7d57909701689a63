// Package copy moves images between places without unpacking them: registries,
// OCI layouts in directories, and archives. Manifests go as they are, so digests
// stay; an index goes with all that it lists. What a copy that was killed left
// is removed by the next one to the same place.
package copy

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/platform"
	"lade/internal/registry/client"
)

// Source is where an image comes from.
type Source interface {
	// Manifest returns a manifest or index by tag or digest.
	Manifest(ctx context.Context, object string) ([]byte, ocispec.Descriptor, error)
	Blob(ctx context.Context, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error)
}

// Target is where an image goes. PutManifest comes after all that the manifest
// refers to; without a tag it is stored by its digest only.
type Target interface {
	HasBlob(ctx context.Context, desc ocispec.Descriptor) (bool, error)
	Upload(ctx context.Context, desc ocispec.Descriptor, open client.Opener, o client.UploadOptions) (mounted string, err error)
	PutManifest(ctx context.Context, tag string, desc ocispec.Descriptor, raw []byte) error
}

// Lister is a Target with a table of contents, in which an image stands also
// without a tag.
type Lister interface {
	List(desc ocispec.Descriptor, tag string) error
}

// Options says what to copy.
type Options struct {
	Object string // tag or digest at the source
	Tag    string // at the target; empty: the digest only
	// Platform is the one to copy of an index; nil: all, with the index.
	Platform *ocispec.Platform
	// From are repositories of the target's registry that may have the blobs.
	From []string
	// Progress, where set, is told what becomes of each blob. It is called by
	// several goroutines.
	Progress func(desc ocispec.Descriptor, action string, bytes int64)
	// InOrder is set where blobs must come one after the other, always the same.
	InOrder bool
}

const (
	parallel = 4
	deepest  = 4
	most     = 1000 // manifests in one copy
)

// Copy copies an image and returns what is now at the target.
func Copy(ctx context.Context, from Source, to Target, o Options) (ocispec.Descriptor, error) {
	if o.Progress == nil {
		o.Progress = func(ocispec.Descriptor, string, int64) {}
	}
	c := &copying{from: from, to: to, o: o, seen: map[digest.Digest]bool{}}
	raw, desc, err := from.Manifest(ctx, o.Object)
	if err != nil {
		return desc, err
	}
	if raw, desc, err = c.choose(ctx, raw, desc); err != nil {
		return desc, err
	}
	if err := c.gather(ctx, raw, desc, 0); err != nil {
		return desc, err
	}
	if err := c.blobs(ctx); err != nil {
		return desc, err
	}
	for i, m := range c.manifests {
		tag := ""
		if i == len(c.manifests)-1 {
			tag, desc = o.Tag, m.desc
		}
		if err := to.PutManifest(ctx, tag, m.desc, m.raw); err != nil {
			return desc, err
		}
	}
	if l, ok := to.(Lister); ok && o.Tag == "" {
		return desc, l.List(desc, "")
	}
	return desc, nil
}

// copying is one Copy under way.
type copying struct {
	from Source
	to   Target
	o    Options

	seen      map[digest.Digest]bool
	all       []ocispec.Descriptor // blobs
	manifests []document           // children first
}

type document struct {
	desc ocispec.Descriptor
	raw  []byte
}

// choose follows an index to one platform, if one was asked for.
func (c *copying) choose(ctx context.Context, raw []byte, desc ocispec.Descriptor) ([]byte, ocispec.Descriptor, error) {
	for range deepest {
		mt, err := image.MediaTypeOf(raw, desc.MediaType)
		if err != nil || c.o.Platform == nil || !image.IsIndex(mt) {
			return raw, desc, err
		}
		ix, err := image.ParseIndex(raw, mt)
		if err != nil {
			return nil, desc, err
		}
		next, ok := platform.Choose(*c.o.Platform, ix.Manifests)
		if !ok {
			return nil, desc, errdefs.New(errdefs.NotFound, "no matching manifest for %s in the manifest list entries", platform.Format(*c.o.Platform))
		}
		if raw, desc, err = c.member(ctx, next); err != nil {
			return nil, desc, err
		}
	}
	return nil, desc, errdefs.New(errdefs.Invalid, "indexes within indexes, more than %d deep", deepest)
}

// member reads what an index lists, which must be what it says.
func (c *copying) member(ctx context.Context, listed ocispec.Descriptor) ([]byte, ocispec.Descriptor, error) {
	raw, got, err := c.from.Manifest(ctx, string(listed.Digest))
	if err != nil {
		return nil, got, err
	}
	if got.Size != listed.Size || got.MediaType != "" && listed.MediaType != "" && got.MediaType != listed.MediaType {
		return nil, got, errdefs.New(errdefs.DataLoss, "manifest %s is not what its index says", listed.Digest)
	}
	got.MediaType = cmp.Or(listed.MediaType, got.MediaType)
	return raw, got, nil
}

// gather finds all that belongs to a manifest or index.
func (c *copying) gather(ctx context.Context, raw []byte, desc ocispec.Descriptor, depth int) error {
	mt, err := image.MediaTypeOf(raw, desc.MediaType)
	if err != nil {
		return err
	}
	blobs, members, err := image.Refers(raw, mt)
	if err != nil {
		return err
	}
	if depth > deepest || len(c.manifests)+len(members) > most {
		return errdefs.New(errdefs.Exhausted, "the index is too large: more than %d manifests, or %d levels", most, deepest)
	}
	for _, b := range blobs {
		if !c.seen[b.Digest] {
			c.seen[b.Digest] = true
			c.all = append(c.all, b)
		}
	}
	for _, m := range members {
		if c.seen[m.Digest] {
			continue
		}
		c.seen[m.Digest] = true
		raw, got, err := c.member(ctx, m)
		if err != nil {
			return err
		}
		if err := c.gather(ctx, raw, got, depth+1); err != nil {
			return err
		}
	}
	c.manifests = append(c.manifests, document{ocispec.Descriptor{MediaType: mt, Digest: desc.Digest, Size: int64(len(raw))}, raw})
	return nil
}

// blobs copies all blobs, several at once, the biggest first.
func (c *copying) blobs(ctx context.Context) error {
	slices.SortStableFunc(c.all, func(a, b ocispec.Descriptor) int { return cmp.Compare(b.Size, a.Size) })
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	if c.o.InOrder {
		g.SetLimit(1)
	}
	for _, b := range c.all {
		g.Go(func() error {
			if err := c.blob(ctx, b); err != nil {
				return fmt.Errorf("blob %s: %w", image.ShortID(b.Digest), err)
			}
			return nil
		})
	}
	return g.Wait()
}

func (c *copying) blob(ctx context.Context, d ocispec.Descriptor) error {
	there, err := c.to.HasBlob(ctx, d)
	if err != nil {
		return err
	}
	if there {
		c.o.Progress(d, "Already exists", d.Size)
		return nil
	}
	open := func(ctx context.Context, offset int64) (io.ReadCloser, error) { return c.from.Blob(ctx, d, offset) }
	mounted, err := c.to.Upload(ctx, d, open, client.UploadOptions{From: c.o.From, Note: func(n int64) { c.o.Progress(d, "Copying", n) }})
	switch {
	case err != nil:
		return err
	case mounted != "":
		c.o.Progress(d, "Mounted from "+mounted, d.Size)
	default:
		c.o.Progress(d, "Copied", d.Size)
	}
	return nil
}
