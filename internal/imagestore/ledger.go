package imagestore

import (
	"github.com/opencontainers/go-digest"

	"lade/internal/ledger"
)

// Ownership is who owns blobs and layers, as it was at one moment.
type Ownership struct {
	s             *Store
	blobs, layers map[digest.Digest]bool
}

// Ownership looks up who owns what now.
func (s *Store) Ownership() (*Ownership, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	blobs, layers, err := s.owned()
	return &Ownership{s, blobs, layers}, err
}

// Blob returns whose a blob is.
func (o *Ownership) Blob(d digest.Digest) ledger.Owner { return o.owner(d, o.blobs, ledger.Blob) }

// Layer returns whose a layer is.
func (o *Ownership) Layer(d digest.Digest) ledger.Owner { return o.owner(d, o.layers, ledger.Layer) }

func (o *Ownership) owner(d digest.Digest, owned map[digest.Digest]bool, kind ledger.Kind) ledger.Owner {
	if owned[d] {
		return ledger.Owner{Kind: kind, ID: string(d)}
	}
	o.s.mu.Lock()
	defer o.s.mu.Unlock()
	_, dying := o.s.dying[d]
	if o.s.leases[d] > 0 || dying {
		return ledger.Owner{Kind: ledger.Temporary}
	}
	return ledger.Owner{Kind: ledger.Unused, ID: string(d)}
}

// Holdings returns all blobs and layers that the image needs, in each of the
// forms in which it is there, and the blobs that its names lead to.
func (e Entry) Holdings() (blobs, layers []digest.Digest) {
	for _, m := range e.all {
		blobs = append(blobs, blobsOf(m)...)
		layers = append(layers, layersOf(m)...)
	}
	for _, r := range e.Refs {
		blobs = append(blobs, r.Target)
	}
	return blobs, layers
}
