package imagestore

import (
	"context"
	"io"

	"github.com/opencontainers/go-digest"

	"lade/internal/errdefs"
	"lade/internal/snapshot"
)

// Snapshots lets a snapshot.Store keep the layers of images.
type Snapshots struct{ Store *snapshot.Store }

// Size implements Layers. A damaged layer counts as one that is not there: the
// next pull makes it anew.
func (s Snapshots) Size(diffID digest.Digest) (int64, bool, error) {
	l, err := s.Store.Layer(diffID)
	switch {
	case errdefs.Is(err, errdefs.NotFound), errdefs.Is(err, errdefs.DataLoss):
		return 0, false, nil
	case err != nil:
		return 0, false, err
	}
	return l.TarSize, true, nil
}

// Has reports whether the layer is there, whole.
func (s Snapshots) Has(diffID digest.Digest) (bool, error) {
	_, ok, err := s.Size(diffID)
	return ok, err
}

// Remove implements Layers.
func (s Snapshots) Remove(diffID digest.Digest) error {
	if diffID.Algorithm() != digest.SHA256 {
		return nil // no layer has such a name
	}
	return s.Store.RemoveLayer(diffID)
}

// Empty implements Layers.
func (s Snapshots) Empty() error { return s.Store.Empty() }

// List implements Layers.
func (s Snapshots) List() ([]digest.Digest, error) {
	layers, err := s.Store.Layers()
	if err != nil {
		return nil, err
	}
	all := make([]digest.Digest, len(layers))
	for i, l := range layers {
		all[i] = l.DiffID
	}
	return all, nil
}

// Unpack makes a layer of a tar.
func (s Snapshots) Unpack(ctx context.Context, diffID digest.Digest, tar io.Reader) error {
	_, err := s.Store.Unpack(ctx, diffID, tar, snapshot.UnpackOptions{})
	return err
}
