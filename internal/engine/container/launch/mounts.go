package launch

import (
	"errors"
	"io/fs"
	"os"

	"github.com/moby/moby/api/types/mount"

	"lade/internal/engine/container/request"
	"lade/internal/errdefs"
)

// CheckSources refuses a missing source of --mount, as Docker does at create.
func CheckSources(mounts []request.Mount) error {
	for _, m := range mounts {
		if m.Type != mount.TypeBind || m.MakeSource {
			continue
		}
		if _, err := os.Stat(m.Source); errors.Is(err, fs.ErrNotExist) {
			return errdefs.New(errdefs.Invalid, "invalid mount config for type %q: bind source path does not exist: %s", m.Type, m.Source)
		}
	}
	return nil
}

// makeSources makes the missing directories that -v names.
func makeSources(mounts []request.Mount) error {
	for _, m := range mounts {
		if m.Source == "" || !m.MakeSource {
			continue
		}
		if _, err := os.Stat(m.Source); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := os.MkdirAll(m.Source, 0o755); err != nil {
			return errdefs.New(errdefs.Invalid, "make the source of mount %s: %w", m.Target, err)
		}
	}
	return nil
}
