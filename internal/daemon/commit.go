package daemon

import (
	"context"

	"lade/internal/engine/commit"
	"lade/internal/engine/container"
)

// newCommit connects what makes images of containers.
func newCommit(i *images, containers *container.Service) *commit.Service {
	return commit.New(commit.Config{
		Containers: committable{containers}, Images: i.store, Content: i.blobs, Snapshots: i.layers, Transfer: i.moves,
	})
}

// committable is the containers for package commit.
type committable struct{ *container.Service }

func (c committable) Source(ctx context.Context, ref string) (commit.Source, error) {
	s, err := c.Committable(ctx, ref)
	return commit.Source(s), err
}
