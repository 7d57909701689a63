// Package stores gives tests what keeps images: blobs and records as they are,
// layers by a stand-in.
package stores

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"

	"lade/internal/errdefs"
)

// Layers is a store of layers that keeps their tars in memory, and checks them
// as the real one does.
type Layers struct {
	// Fail, where set, is what Unpack returns.
	Fail error

	mu   sync.Mutex
	have map[digest.Digest][]byte // guarded by mu
}

// Add puts a layer there, whatever it holds.
func (l *Layers) Add(id digest.Digest, tar []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.have == nil {
		l.have = map[digest.Digest][]byte{}
	}
	l.have[id] = tar
}

// Tar returns what a layer was unpacked from, or nil.
func (l *Layers) Tar(id digest.Digest) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.have[id]
}

// Len returns how many layers there are.
func (l *Layers) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.have)
}

// Has reports whether there is such a layer.
func (l *Layers) Has(id digest.Digest) (bool, error) {
	_, ok, err := l.Size(id)
	return ok, err
}

// Size returns how many bytes a layer's tar has.
func (l *Layers) Size(id digest.Digest) (int64, bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	tar, ok := l.have[id]
	return int64(len(tar)), ok, nil
}

// Unpack takes a layer in.
func (l *Layers) Unpack(_ context.Context, id digest.Digest, r io.Reader) error {
	if l.Fail != nil {
		return l.Fail
	}
	tar, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	if got := digest.FromBytes(tar); got != id {
		return errdefs.New(errdefs.DataLoss, "layer has the DiffID %s, not %s", got, id)
	}
	l.Add(id, tar)
	return nil
}

// Remove takes a layer away, if it is there.
func (l *Layers) Remove(id digest.Digest) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.have, id)
	return nil
}

// Empty has nothing to do: what is removed takes no space.
func (l *Layers) Empty() error { return nil }

// List returns all layers.
func (l *Layers) List() ([]digest.Digest, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Keys(l.have)), nil
}
