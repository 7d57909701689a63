package daemon

import (
	"log/slog"
	"path/filepath"

	"lade/internal/engine/volume"
	"lade/internal/metadata"
	store "lade/internal/volume"
)

func volumesDir(o Options) string { return filepath.Join(o.DataRoot, "volumes") }

// newVolumes opens the volumes.
func newVolumes(o Options, durable *metadata.DB, log *slog.Logger) (*volume.Service, error) {
	s, err := store.Open(volumesDir(o))
	if err != nil {
		return nil, err
	}
	return volume.New(volume.Options{Store: s, Records: durable, Log: log})
}
