package daemon

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"lade/internal/engine/event"
	"lade/internal/journal"
	"lade/internal/metadata"
)

// openEvents opens the journal of events, and takes over what an engine before
// this one has not told yet.
func openEvents(o Options, durable, boot *metadata.DB, log *slog.Logger) (*event.Service, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, err
	}
	j, err := journal.Open(filepath.Join(o.DataRoot, "events"), journal.Options{})
	if err != nil {
		return nil, err
	}
	s, err := event.New(event.Config{Journal: j, Durable: durable, Boot: boot, BootID: strings.TrimSpace(string(id)), Log: log})
	if err != nil {
		return nil, errors.Join(err, j.Close())
	}
	return s, nil
}
