// Package imagestore records which images there are, what they are called, and
// what on disk belongs to them.
//
// Three kinds of thing lie on disk: blobs (internal/content), unpacked layers
// (internal/snapshot), and the records of this package in lade.db, which give
// the other two their owners. A blob or layer is owned by
//
//   - the record of a manifest that lists it, or of a name that leads to it;
//   - a pin: a container was made from it;
//   - a lease: a pull, load or build is about to refer to it.
//
// What has no owner is removed. The order of operations makes that safe at any
// kill: bytes go to disk before the record that owns them is committed, and a
// record is removed before its bytes are. So a crash leaves bytes without an
// owner, never an owner without bytes; Sweep removes them at the next start.
//
// Leases and pins live in memory, because they are worth nothing without their
// process: a pull dies with it, and the engine pins its containers' images
// again when it starts, before it calls Sweep. One process owns lade.db.
package imagestore

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/content"
	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/metadata"
	"lade/internal/reference"
)

// Layers is the store of unpacked layers, as far as this package needs it.
type Layers interface {
	// Size reports whether the layer is there, whole, and the bytes of its tar.
	Size(diffID digest.Digest) (int64, bool, error)
	// Remove removes the layer; one that is not there is no error. Its space is
	// free after Empty.
	Remove(diffID digest.Digest) error
	Empty() error
	// List returns all layers.
	List() ([]digest.Digest, error)
}

// Config is what a Store works with.
type Config struct {
	DB      *metadata.DB
	Content *content.Store
	Layers  Layers
	Room    *Room            // nil: no bound
	Log     *slog.Logger     // nil: slog.Default()
	Now     func() time.Time // nil: time.Now
}

// Store knows all images. Its methods may be called concurrently.
type Store struct {
	db      *metadata.DB
	content *content.Store
	layers  Layers
	log     *slog.Logger
	now     func() time.Time

	manifests metadata.Collection[Manifest]
	names     metadata.Collection[name]

	// mu is held for looking and marking, never while files are removed.
	mu     sync.Mutex
	leases map[digest.Digest]int       // guarded by mu: how many leases hold it
	pins   map[string][]digest.Digest  // guarded by mu: layers by container
	dying  map[digest.Digest]struct{}  // guarded by mu: being removed from disk
	died   *sync.Cond                  // of mu: dying became smaller
	used   map[digest.Digest]time.Time // guarded by mu: when a container last left an image, by its highest layer
	room   *Room

	emptying sync.Mutex     // held while space is given back
	due      atomic.Bool    // something was removed whose space is not given back
	emptied  atomic.Int64   // how often space was given back
	behind   sync.WaitGroup // who is at it in the background
}

// Manifest is the record of one image manifest that is on disk with all that
// it lists.
type Manifest struct {
	// Descriptor is of the manifest itself.
	Descriptor ocispec.Descriptor `json:"descriptor"`
	// Config is the configuration's digest: the image's id.
	Config   digest.Digest    `json:"config"`
	Platform ocispec.Platform `json:"platform"`
	Layers   []Layer          `json:"layers"`
	// Added is when the manifest came into the store.
	Added time.Time `json:"added"`
}

// Layer is one layer of a Manifest, lowest first.
type Layer struct {
	Blob      digest.Digest `json:"blob"`
	MediaType string        `json:"mediaType"`
	Size      int64         `json:"size"` // of the blob
	DiffID    digest.Digest `json:"diffID"`
	Unpacked  int64         `json:"unpacked"` // bytes of the tar; Put fills it in
}

// UnpackedSize returns the bytes of all layers' tars together.
func (m Manifest) UnpackedSize() int64 {
	var n int64
	for _, l := range m.Layers {
		n += l.Unpacked
	}
	return n
}

// name is the record of a reference; its key is the canonical form.
type name struct {
	Manifest digest.Digest `json:"manifest"`
	// Target is what the registry has under the name: the manifest, or an
	// index that lists it. It is kept as a blob.
	Target digest.Digest `json:"target"`
	Tagged time.Time     `json:"tagged"`
	Remote bool          `json:"remote,omitempty"`
}

// Name is one name to give to an image.
type Name struct {
	Ref reference.Reference
	// Target is the digest of what has the name in the registry, an index or
	// the manifest; empty means the manifest.
	Target digest.Digest
	// Remote is set where a registry is known to have it under that name: it can
	// be had again.
	Remote bool
}

// New returns a store of the images recorded in c.DB.
func New(c Config) *Store {
	s := &Store{
		db: c.DB, content: c.Content, layers: c.Layers, log: c.Log, now: c.Now,
		manifests: metadata.Collection[Manifest]{Name: "manifests", Noun: "manifest"},
		names:     metadata.Collection[name]{Name: "image-names", Noun: "image name"},
		leases:    map[digest.Digest]int{},
		pins:      map[string][]digest.Digest{},
		dying:     map[digest.Digest]struct{}{},
		used:      map[digest.Digest]time.Time{},
		room:      c.Room,
	}
	if s.room != nil {
		s.room.store = s
	}
	s.died = sync.NewCond(&s.mu)
	if s.log == nil {
		s.log = slog.Default()
	}
	if s.now == nil {
		s.now = time.Now
	}
	return s
}

// Put records an image and gives it names, in one transaction. All that the
// manifest lists must be on disk, and leased by the caller until Put returns.
// A name that another image had changes hands.
func (s *Store) Put(m Manifest, names ...Name) error {
	replaced, err := s.put(m, names)
	if err != nil {
		return fmt.Errorf("record image %s: %w", image.ShortID(m.Config), err)
	}
	_, err = s.collect(replaced, nil)
	return err
}

func (s *Store) put(m Manifest, names []Name) (replaced []digest.Digest, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m.Layers = slices.Clone(m.Layers)
	if err := s.present(m, names); err != nil {
		return nil, err
	}
	err = s.db.Update(func(tx *metadata.Tx) error {
		m.Added = s.now()
		if err := s.manifests.Put(tx, string(m.Descriptor.Digest), m); err != nil {
			return err
		}
		replaced, err = s.putNames(tx, m.Descriptor.Digest, names)
		return err
	})
	return replaced, err
}

// putNames gives names to a manifest, and returns the targets that they had.
func (s *Store) putNames(tx *metadata.Tx, manifest digest.Digest, names []Name) ([]digest.Digest, error) {
	var replaced []digest.Digest
	for _, n := range names {
		if n.Target == "" {
			n.Target = manifest
		}
		if old, err := s.names.Get(tx, key(n.Ref)); err == nil {
			replaced = append(replaced, old.Target)
		}
		if err := s.names.Put(tx, key(n.Ref), name{Manifest: manifest, Target: n.Target, Tagged: s.now(), Remote: n.Remote}); err != nil {
			return nil, err
		}
	}
	return replaced, nil
}

// key returns the record's key of a reference. With a digest, the tag says
// nothing more.
func key(r reference.Reference) string {
	if r.Digest != "" {
		r.Tag = ""
	}
	return r.String()
}

// present checks that all that m and names refer to is on disk, and fills in
// how big the layers are.
func (s *Store) present(m Manifest, names []Name) error {
	blobs := blobsOf(m)
	for _, n := range names {
		if n.Target != "" {
			blobs = append(blobs, n.Target)
		}
	}
	s.await(blobs)
	s.await(layersOf(m))
	for _, d := range blobs {
		if _, ok, err := s.content.Has(d); err != nil || !ok {
			return errors.Join(err, errdefs.New(errdefs.DataLoss, "blob %s is not in the store", d))
		}
	}
	for i, l := range m.Layers {
		size, ok, err := s.layers.Size(l.DiffID)
		if err != nil || !ok {
			return errors.Join(err, errdefs.New(errdefs.DataLoss, "layer %s is not in the store", l.DiffID))
		}
		m.Layers[i].Unpacked = size
	}
	return nil
}

func blobsOf(m Manifest) []digest.Digest {
	blobs := []digest.Digest{m.Descriptor.Digest, m.Config}
	for _, l := range m.Layers {
		blobs = append(blobs, l.Blob)
	}
	return blobs
}

// Tag gives one more name to the image with the given id.
func (s *Store) Tag(id digest.Digest, ref reference.Reference) error {
	if ref.Digest != "" {
		return errdefs.New(errdefs.Invalid, "tag %s: a tag cannot have a digest", ref.Familiar())
	}
	var replaced []digest.Digest
	err := s.db.Update(func(tx *metadata.Tx) error {
		e, err := s.entry(tx, id)
		if err == nil {
			replaced, err = s.putNames(tx, e.Record.Descriptor.Digest, []Name{{Ref: ref}})
		}
		return err
	})
	if err != nil {
		return err
	}
	_, err = s.collect(replaced, nil)
	return err
}

// Known records that a registry has an image under a name by digest. The
// manifest must be in the store.
func (s *Store) Known(manifest digest.Digest, n Name) error {
	return s.db.Update(func(tx *metadata.Tx) error {
		if _, err := s.manifests.Get(tx, string(manifest)); err != nil {
			return err
		}
		if old, err := s.names.Get(tx, key(n.Ref)); err == nil && old.Manifest == manifest && old.Target == n.Target && old.Remote == n.Remote {
			return nil
		}
		_, err := s.putNames(tx, manifest, []Name{n})
		return err
	})
}

// Untag removes a name and leaves its image alone. The error is of class
// NotFound if nothing has the name.
func (s *Store) Untag(ref reference.Reference) error {
	var target digest.Digest
	err := s.db.Update(func(tx *metadata.Tx) error {
		n, err := s.names.Get(tx, key(ref))
		if err != nil {
			return noSuch(ref.Familiar())
		}
		target = n.Target
		return s.names.Delete(tx, key(ref))
	})
	if err != nil {
		return err
	}
	_, err = s.collect([]digest.Digest{target}, nil)
	return err
}

func layersOf(m Manifest) []digest.Digest {
	var layers []digest.Digest
	for _, l := range m.Layers {
		layers = append(layers, l.DiffID)
	}
	return layers
}

// DeleteOptions says how Delete goes about it.
type DeleteOptions struct {
	// Named removes the image even if it has names: they go with it.
	// Otherwise the error is of class Conflict.
	Named bool
}

// Deleted is what went with an image.
type Deleted struct {
	Names []reference.Reference
	Bytes int64 // of blobs and layers' tars that nothing else uses
	// Layers are the layers that went from disk.
	Layers []digest.Digest
}

// Delete removes the image with the given id: its names, its manifests, and
// the blobs and layers that nothing else uses. Layers that a container pins
// stay until it unpins them.
func (s *Store) Delete(id digest.Digest, o DeleteOptions) (Deleted, error) {
	var gone Deleted
	var blobs, layers []digest.Digest
	err := s.db.Update(func(tx *metadata.Tx) error {
		e, err := s.entry(tx, id)
		if err != nil {
			return err
		}
		if len(e.Refs) > 0 && !o.Named {
			return errdefs.New(errdefs.Conflict, "image %s has a name: %s", image.ShortID(id), e.Refs[0].Ref.Familiar())
		}
		for _, r := range e.Refs {
			gone.Names = append(gone.Names, r.Ref)
			blobs = append(blobs, r.Target)
			if err := s.names.Delete(tx, key(r.Ref)); err != nil {
				return err
			}
		}
		for _, m := range e.all {
			if err := s.manifests.Delete(tx, string(m.Descriptor.Digest)); err != nil {
				return err
			}
			blobs = append(blobs, blobsOf(m)...)
			for _, l := range m.Layers {
				layers = append(layers, l.DiffID)
			}
		}
		return nil
	})
	if err != nil {
		return Deleted{}, err
	}
	// From here on the image is gone, whatever happens to its files.
	freed, err := s.collect(blobs, layers)
	gone.Layers, gone.Bytes = freed.layers, freed.bytes()
	slices.SortFunc(gone.Names, compare)
	return gone, err
}
