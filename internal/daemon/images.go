package daemon

import (
	"context"
	"log/slog"
	"path/filepath"
	"runtime"
	"time"

	"github.com/opencontainers/go-digest"

	"lade/internal/content"
	"lade/internal/engine/container"
	"lade/internal/engine/image"
	"lade/internal/engine/registry"
	"lade/internal/imagestore"
	"lade/internal/ledger"
	"lade/internal/metadata"
	"lade/internal/platform"
	"lade/internal/registry/client"
	"lade/internal/registry/policy"
	"lade/internal/snapshot"
	"lade/internal/transfer"
)

// images is the column of packages that images go through.
type images struct {
	*image.Service
	registries *registry.Service
	moves      *transfer.Transfer
	store      *imagestore.Store
	layers     *snapshot.Store
	blobs      *content.Store
	began      time.Time
	log        *slog.Logger
	// containers is set once they are there: images are used by containers,
	// and containers are made from images.
	containers *container.Service
}

func newImages(o Options, toolbox string, db *metadata.DB, layers *snapshot.Store, log *slog.Logger) (*images, error) {
	blobs, err := content.Open(filepath.Join(o.DataRoot, "content"))
	if err != nil {
		return nil, err
	}
	i := &images{layers: layers, blobs: blobs, began: time.Now(), log: log}
	own := platform.Of(runtime.GOOS, runtime.GOARCH)
	room := &imagestore.Room{Max: o.MaxDisk, Measure: func() ([]ledger.Report, error) { return i.measure(o.DataRoot) }}
	if o.MaxDisk > 0 {
		blobs.Bound(room.Take)
		layers.Bound(room.Take)
	}
	i.store = imagestore.New(imagestore.Config{DB: db, Content: blobs, Layers: imagestore.Snapshots{Store: layers}, Room: room, Log: log})
	paths, certs := o.registries()
	trust := policy.Files{filepath.Join(paths.Own, "policy.json"), filepath.Join(paths.Containers, "policy.json")}
	remote := client.New(client.Options{Places: paths.Places, TLS: certs.TLS})
	moves := transfer.New(transfer.Config{
		Content: blobs, Images: i.store, Layers: imagestore.Snapshots{Store: layers}, Client: remote,
		Trust:    policy.Files{filepath.Join(paths.Own, "policy.json"), filepath.Join(paths.Containers, "policy.json")},
		Platform: own, Log: log,
	})
	i.Service = image.New(image.Config{
		Images: i.store, Platform: own, Toolbox: toolbox, Users: i.users, Running: i.running, Log: log,
		Transfer: moves, Short: paths.Short,
	})
	i.registries, i.moves = registry.New(registry.Config{Images: i.store, Transfer: moves, Client: remote, Trust: trust, Scratch: o.DataRoot}), moves
	return i, nil
}

// measure returns what blobs and layers take on disk.
func (i *images) measure(root string) ([]ledger.Report, error) {
	own := func(kind ledger.Kind) func(digest.Digest) ledger.Owner {
		return func(d digest.Digest) ledger.Owner { return ledger.Owner{Kind: kind, ID: string(d)} }
	}
	blobs, err := ledger.Walk(filepath.Join(root, "content"), i.blobs.Ledger(own(ledger.Blob)), time.Now())
	if err != nil {
		return nil, err
	}
	layers, err := ledger.Walk(filepath.Join(root, "layers"), []ledger.Source{i.layers.Ledger(own(ledger.Layer))}, time.Now())
	return []ledger.Report{blobs, layers}, err
}

// sweep removes what belongs to no image. All containers are pinned by now.
func (i *images) sweep(ctx context.Context) {
	if err := i.Sweep(ctx, i.began); err != nil {
		i.log.Error("sweep the image store", "err", err)
	}
}

func (i *images) count(context.Context) (int, error) {
	all, err := i.store.List()
	return len(all), err
}

// users returns the containers that were made from an image.
func (i *images) users(imageID string) []string {
	if i.containers == nil {
		return nil
	}
	list, err := i.containers.List(context.Background(), container.ListOptions{All: true})
	if err != nil {
		i.log.Error("look for an image's containers", "err", err)
	}
	var ids []string
	for _, c := range list {
		if c.ImageID == imageID {
			ids = append(ids, c.ID)
		}
	}
	return ids
}

func (i *images) running(id string) bool {
	return i.containers != nil && i.containers.Running()[id] != 0
}
