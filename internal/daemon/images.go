package daemon

import (
	"context"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"

	"lade/internal/content"
	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/imagestore"
	"lade/internal/metadata"
	"lade/internal/server/dockerapi"
	"lade/internal/snapshot"
)

// images is the column of packages that images go through.
type images struct {
	store *imagestore.Store
	pins  pins
	log   *slog.Logger
	began time.Time
}

func newImages(o Options, db *metadata.DB, layers *snapshot.Store, log *slog.Logger) (*images, error) {
	blobs, err := content.Open(filepath.Join(o.DataRoot, "content"))
	if err != nil {
		return nil, err
	}
	store := imagestore.New(imagestore.Config{DB: db, Content: blobs, Layers: layerStore{layers}, Log: log})
	return &images{store: store, pins: pins{store}, log: log, began: time.Now()}, nil
}

// sweep removes what belongs to no image. All containers are pinned by now.
func (i *images) sweep() {
	if _, err := i.store.Sweep(i.began); err != nil {
		i.log.Error("sweep the image store", "err", err)
	}
}

func (i *images) count(context.Context) (int, error) {
	all, err := i.store.List()
	return len(all), err
}

func (i *images) serve(*dockerapi.Services) {}

// pins is the image store as package container asks for it.
type pins struct{ store *imagestore.Store }

func (p pins) Resolve(_ context.Context, ref string) (image.Image, error) {
	e, err := p.store.Resolve(ref)
	return e.Image, err
}

func (p pins) Pin(_ context.Context, id string, img image.Image) error {
	return p.store.Pin(id, img.Config.RootFS.DiffIDs)
}

func (p pins) Unpin(_ context.Context, id string) error { return p.store.Unpin(id) }

// layerStore is the layer store as package imagestore asks for it.
type layerStore struct{ layers *snapshot.Store }

func (l layerStore) Size(d digest.Digest) (int64, bool, error) {
	x, err := l.layers.Layer(d)
	if errdefs.Is(err, errdefs.NotFound) {
		return 0, false, nil
	}
	return x.TarSize, err == nil, err
}

func (l layerStore) Remove(d digest.Digest) error { return l.layers.RemoveLayer(d) }

func (l layerStore) List() ([]digest.Digest, error) {
	all, err := l.layers.Layers()
	out := make([]digest.Digest, 0, len(all))
	for _, x := range all {
		out = append(out, x.DiffID)
	}
	return out, err
}
