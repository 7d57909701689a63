package imagestore

import (
	"cmp"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/image"
	"lade/internal/metadata"
	"lade/internal/reference"
)

// Need is a blob or a layer that must be there, and what is known of where it
// came from.
type Need struct {
	// Digest is the blob's, or the layer's DiffID.
	Digest digest.Digest
	// Blob is the blob itself, or the one that the layer was made of; its size
	// and media type are zero where nobody recorded them. A layer that only
	// containers need has none.
	Blob ocispec.Descriptor
	// DiffID is the layer that a blob unpacks to, if it is one.
	DiffID digest.Digest
	// Manifest is set for what registries keep among manifests. In is the
	// manifest that describes the blob, if it is a configuration.
	Manifest bool
	In       ocispec.Descriptor
	// By names who needs it: images by a name or id, containers by their id.
	By []string
	// Origins are names under which a registry may have it.
	Origins []reference.Reference
}

// needs collects what is needed, each thing once.
type needs struct {
	blobs, layers map[digest.Digest]*Need
}

func (n needs) add(to map[digest.Digest]*Need, x Need, by string, origins []reference.Reference) {
	have := to[x.Digest]
	if have == nil {
		have = &x
		to[x.Digest] = have
	}
	if have.Blob.Size == 0 {
		have.Blob = x.Blob
	}
	if !slices.Contains(have.By, by) {
		have.By = append(have.By, by)
	}
	for _, r := range origins {
		if !slices.Contains(have.Origins, r) {
			have.Origins = append(have.Origins, r)
		}
	}
}

// Needs returns all blobs and layers that must be there now.
func (s *Store) Needs() (blobs, layers []Need, err error) {
	var entries []Entry
	err = s.db.View(func(tx *metadata.Tx) (err error) {
		entries, err = s.entries(tx, "")
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	n := needs{map[digest.Digest]*Need{}, map[digest.Digest]*Need{}}
	for _, e := range entries {
		n.addEntry(e)
	}
	s.mu.Lock()
	for container, diffIDs := range s.pins {
		for _, d := range diffIDs {
			n.add(n.layers, Need{Digest: d}, container, nil)
		}
	}
	s.mu.Unlock()
	return sorted(n.blobs), sorted(n.layers), nil
}

func (n needs) addEntry(e Entry) {
	by := image.ShortID(e.Record.Config)
	var origins []reference.Reference
	for _, r := range e.Refs {
		if r.Ref.Digest == "" {
			by = r.Ref.Familiar()
		}
		origins = append(origins, r.Ref)
	}
	for _, r := range e.Refs {
		n.add(n.blobs, Need{Digest: r.Target, Blob: ocispec.Descriptor{Digest: r.Target}, Manifest: true}, by, origins)
	}
	for _, m := range e.all {
		n.add(n.blobs, Need{Digest: m.Descriptor.Digest, Blob: m.Descriptor, Manifest: true}, by, origins)
		n.add(n.blobs, Need{Digest: m.Config, Blob: ocispec.Descriptor{Digest: m.Config}, In: m.Descriptor}, by, origins)
		for _, l := range m.Layers {
			desc := ocispec.Descriptor{Digest: l.Blob, Size: l.Size, MediaType: l.MediaType}
			n.add(n.blobs, Need{Digest: l.Blob, Blob: desc, DiffID: l.DiffID}, by, origins)
			n.add(n.layers, Need{Digest: l.DiffID, Blob: desc}, by, origins)
		}
	}
}

func sorted(m map[digest.Digest]*Need) []Need {
	var all []Need
	for _, n := range m {
		slices.Sort(n.By)
		all = append(all, *n)
	}
	slices.SortFunc(all, func(a, b Need) int {
		if a.Manifest != b.Manifest { // manifests first: they describe the others
			if a.Manifest {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.Digest, b.Digest)
	})
	return all
}
