package daemon

import (
	"context"

	"lade/internal/engine/archive"
	"lade/internal/engine/container"
)

// trees gives package archive the files of containers.
type trees struct{ *container.Service }

func (t trees) Tree(ctx context.Context, ref string) (*archive.Tree, error) {
	return tree(t.Service.Tree(ctx, ref))
}

func (t trees) Root(ctx context.Context, ref string) (*archive.Tree, error) {
	return tree(t.Service.Root(ctx, ref))
}

func tree(c *container.Tree, err error) (*archive.Tree, error) {
	if err != nil {
		return nil, err
	}
	return &archive.Tree{ID: c.ID, Root: c.Root, IDs: c.IDs, ReadOnly: c.ReadOnly, User: c.User, Wanted: c.Wanted, Close: c.Close}, nil
}
