package daemon

import (
	"context"

	"lade/internal/engine/commit"
	"lade/internal/engine/container"
	"lade/internal/engine/contents"
)

// newCommit connects what makes images of containers.
func newCommit(i *images, containers *container.Service) *commit.Service {
	return commit.New(commit.Config{
		Containers: committable{containers}, Images: i.store, Content: i.blobs, Snapshots: i.layers, Transfer: i.moves,
	})
}

// newContents connects what looks into images.
func newContents(i *images) *contents.Service {
	return contents.New(contents.Config{Images: i.store, Layers: i.layers, Resolve: i.Resolve})
}

// committable is the containers for package commit.
type committable struct{ *container.Service }

func (c committable) Source(ctx context.Context, ref string) (commit.Source, error) {
	s, err := c.Committable(ctx, ref)
	return commit.Source(s), err
}
