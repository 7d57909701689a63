package daemon

import (
	"context"
	"log/slog"
	"path/filepath"

	"lade/internal/engine/container/request"
	"lade/internal/engine/container/volumes"
	"lade/internal/engine/volume"
	"lade/internal/metadata"
	store "lade/internal/volume"
)

func volumesDir(o Options) string { return filepath.Join(o.DataRoot, "volumes") }

// newVolumes opens the volumes.
func newVolumes(o Options, durable *metadata.DB, t teller, log *slog.Logger) (*volume.Service, error) {
	s, err := store.Open(volumesDir(o))
	if err != nil {
		return nil, err
	}
	return volume.New(volume.Options{Store: s, Records: durable, Log: log, Changed: volumeChanged(t)})
}

// containerVolumes gives package container its volumes.
type containerVolumes struct{ *volume.Service }

func (v containerVolumes) Take(ctx context.Context, id, name string, o request.VolumeOptions) (string, error) {
	return v.Service.Take(ctx, id, volume.Wish{Name: name, Driver: o.Driver, Options: o.Options, Labels: o.Labels})
}

func (v containerVolumes) Recover(ctx context.Context, users []volumes.User) error {
	list := make([]volume.User, len(users))
	for i, u := range users {
		list[i] = volume.User(u)
	}
	return v.Service.Recover(ctx, list)
}
