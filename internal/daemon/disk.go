package daemon

import (
	"context"
	"log/slog"

	containerapi "github.com/moby/moby/api/types/container"
	imageapi "github.com/moby/moby/api/types/image"

	"lade/internal/engine/check"
	"lade/internal/engine/container"
	"lade/internal/engine/disk"
	"lade/internal/engine/image"
	"lade/internal/engine/volume"
	"lade/internal/ledger"
)

// newDisk connects what keeps files below the data root.
func newDisk(o Options, images *images, containers *container.Service, volumes *volume.Service) *disk.Service {
	return disk.New(disk.Config{
		Root: o.DataRoot, Images: diskImages{images}, Volumes: diskVolumes{volumes, volumesDir(o)},
		Containers: func(ctx context.Context) ([]containerapi.Summary, error) {
			return containers.List(ctx, container.ListOptions{All: true})
		},
	})
}

// newCheck connects what a check reads.
func newCheck(i *images, d *disk.Service, log *slog.Logger) *check.Service {
	return check.New(check.Config{Images: i.store, Content: i.blobs, Layers: i.layers, Transfer: i.moves, Ledger: d.Ledger, Log: log})
}

// diskImages tells package disk of images.
type diskImages struct{ *images }

func (i diskImages) All(ctx context.Context) ([]disk.Image, error) {
	summaries, err := i.List(ctx, image.ListOptions{All: true})
	if err != nil {
		return nil, err
	}
	byID := map[string]imageapi.Summary{}
	for _, s := range summaries {
		byID[s.ID] = s
	}
	entries, err := i.store.List()
	if err != nil {
		return nil, err
	}
	var all []disk.Image
	for _, e := range entries {
		if s, ok := byID[string(e.ID)]; ok {
			blobs, layers := e.Holdings()
			all = append(all, disk.Image{Summary: s, Blobs: blobs, Layers: layers})
		}
	}
	return all, nil
}

func (i diskImages) Sources() ([]ledger.Source, error) {
	owners, err := i.store.Ownership()
	if err != nil {
		return nil, err
	}
	return append(i.blobs.Ledger(owners.Blob), i.layers.Ledger(owners.Layer)), nil
}

// diskVolumes tells package disk of volumes.
type diskVolumes struct {
	*volume.Service
	dir string
}

func (v diskVolumes) Sources() ([]ledger.Source, error) {
	all, err := v.All(context.Background())
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for _, one := range all {
		known[one.Name] = true
	}
	return []ledger.Source{{Dir: v.dir, Loose: true, Owner: func(name string) ledger.Owner {
		if !known[name] {
			return ledger.Owner{}
		}
		return ledger.Owner{Kind: ledger.Volume, ID: name}
	}}}, nil
}
