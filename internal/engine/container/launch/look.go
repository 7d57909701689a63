package launch

import (
	"fmt"

	"github.com/opencontainers/go-digest"

	"lade/internal/errdefs"
	"lade/internal/linux/mount"
	"lade/internal/snapshot"
)

// ImageRoot opens the root of an image as it was before any container wrote to
// it: its ids are those of the image. id is the container that wants to know.
func (l *Launcher) ImageRoot(id string, diffIDs []digest.Digest) (*mount.View, error) {
	if l.cfg.Look == nil {
		return nil, errdefs.New(errdefs.NotImplemented, "this engine cannot look into images")
	}
	root, err := l.cfg.Snapshots.Prepare(id, diffIDs, snapshot.PrepareOptions{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	v, err := l.cfg.Look(&root, nil)
	if err != nil {
		return nil, fmt.Errorf("look into the image: %w", err)
	}
	return v, nil
}
