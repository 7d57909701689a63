package snapshot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"lade/internal/atomicfile"
	"lade/internal/errdefs"
	"lade/internal/layer"
	"lade/internal/linux/mount"
)

// Some layers say things that depend on what is below them: package layer calls
// that pending. For each stack with such a layer on top there is a stackRecord,
// and a supplement where one is needed: a further layer, mounted right above.
// Both go with any layer of the stack.
type stackRecord struct {
	Layers     []digest.Digest `json:"layers"`               // the lowest first
	Supplement digest.Digest   `json:"supplement,omitempty"` // of its tar; none when nothing is needed
}

const (
	stackPrefix = "stack-"
	stackSuffix = ".json"
)

// Stack checks that layers, the lowest first, can be put on top of each other,
// and makes what that takes. Prepare does so as well; to do it when an image
// arrives finds errors early and spares the first container the time.
func (s *Store) Stack(ctx context.Context, diffIDs []digest.Digest) error {
	_, err := s.stack(ctx, diffIDs)
	return err
}

// stack returns the layers to be mounted, the lowest first.
func (s *Store) stack(ctx context.Context, diffIDs []digest.Digest) ([]Layer, error) {
	if len(diffIDs) == 0 {
		l, err := s.empty(ctx)
		return []Layer{l}, err
	}
	var ids []digest.Digest
	var all []Layer
	for i, d := range diffIDs {
		// Of a layer that comes twice the lower one adds nothing: all its
		// names are in the upper one. Overlayfs refuses the same directory
		// twice.
		if slices.Contains(diffIDs[i+1:], d) {
			continue
		}
		l, err := s.Layer(d)
		if err != nil {
			return nil, err
		}
		ids = append(ids, d)
		all = append(all, l)
		if !l.info.HasPending() {
			continue
		}
		extra, err := s.supplement(ctx, ids, all)
		if err != nil {
			return nil, fmt.Errorf("stack layer %s: %w", d, err)
		}
		if extra != nil {
			all = append(all, *extra)
		}
	}
	if len(all) > maxLayers {
		return nil, errdefs.New(errdefs.Invalid, "%d layers; an overlay takes %d", len(all), maxLayers)
	}
	return all, nil
}

// empty returns a layer with nothing in it, for an image without layers.
func (s *Store) empty(ctx context.Context) (Layer, error) {
	tar := strings.Repeat("\x00", 1024)
	return s.Unpack(ctx, digest.FromString(tar), strings.NewReader(tar), UnpackOptions{})
}

// supplement returns the layer that belongs on top of a stack, or nil. ids are
// the layers of the image in it, layers those and the supplements below.
func (s *Store) supplement(ctx context.Context, ids []digest.Digest, layers []Layer) (*Layer, error) {
	sum := sha256.New()
	for _, d := range ids {
		_, _ = io.WriteString(sum, string(d)+"\n")
	}
	base := filepath.Join(s.layers, stackPrefix+hex.EncodeToString(sum.Sum(nil)))
	if b, err := os.ReadFile(base + stackSuffix); err == nil {
		var r stackRecord
		if json.Unmarshal(b, &r) == nil {
			if r.Supplement == "" {
				return nil, nil
			}
			for _, kind := range []mount.LayerKind{s.kind, other(s.kind)} {
				if l, err := openLayer(base+suffix(kind), r.Supplement, kind); err == nil {
					return &l, nil
				}
			}
		}
		// Damaged: made anew.
	}
	r := stackRecord{Layers: ids}
	l, err := s.makeSupplement(ctx, base, layers)
	if err != nil {
		return nil, err
	}
	if l != nil {
		r.Supplement = l.DiffID
	}
	b, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	return l, atomicfile.Write(base+stackSuffix, b, atomicfile.Options{Sync: true})
}

// makeSupplement finds out what a stack needs, and unpacks it.
func (s *Store) makeSupplement(ctx context.Context, base string, layers []Layer) (*Layer, error) {
	var views []layer.View
	for _, l := range slices.Backward(layers) {
		v, done, err := view(l)
		if err != nil {
			return nil, err
		}
		defer done()
		views = append(views, v)
	}
	// Twice: only then is it known whether anything is needed, and its digest.
	digester := digest.SHA256.Digester()
	needed, err := layer.Supplement(views, digester.Hash())
	if err != nil || !needed {
		return nil, err
	}
	r, w := io.Pipe()
	go func() {
		_, err := layer.Supplement(views, w)
		_ = w.CloseWithError(err)
	}()
	defer r.Close()
	id := digester.Digest()
	if err := s.write(ctx, base+suffix(s.kind), id, r, UnpackOptions{}); err != nil {
		return nil, err
	}
	l, err := openLayer(base+suffix(s.kind), id, s.kind)
	return &l, err
}

// view opens a layer to look into it.
func view(l Layer) (layer.View, func(), error) {
	if l.Kind == mount.Directory {
		v, err := layer.OpenDirectory(filepath.Dir(l.Path))
		return v, func() {}, err
	}
	f, err := os.Open(l.Path)
	if err != nil {
		return nil, nil, err
	}
	v, err := layer.OpenImage(f)
	if err != nil {
		_ = f.Close()
		return nil, nil, err
	}
	return v, func() { _ = f.Close() }, nil
}

// stacks calls f with the path, without its suffix, of each record of a stack.
func (s *Store) stacks(f func(base string, r stackRecord) error) error {
	entries, err := os.ReadDir(s.layers)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), stackSuffix)
		if !ok || !strings.HasPrefix(name, stackPrefix) {
			continue
		}
		base := filepath.Join(s.layers, name)
		var r stackRecord
		b, err := os.ReadFile(base + stackSuffix)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		_ = json.Unmarshal(b, &r) // a damaged one has no layers: see sweepStacks
		if err := f(base, r); err != nil {
			return err
		}
	}
	return nil
}

// removeStacks removes the supplements of stacks with a layer.
func (s *Store) removeStacks(diffID digest.Digest) error {
	return s.stacks(func(base string, r stackRecord) error {
		if !slices.Contains(r.Layers, diffID) {
			return nil
		}
		return s.removeStack(base)
	})
}

// removeStack removes the record first: what has none is swept.
func (s *Store) removeStack(base string) error {
	if err := os.Remove(base + stackSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return errors.Join(s.remove(base+imageSuffix), s.remove(base+dirSuffix))
}

// sweepStacks removes supplements without a record, and records that cannot be
// read.
func (s *Store) sweepStacks() error {
	known := map[string]bool{}
	err := s.stacks(func(base string, r stackRecord) error {
		if len(r.Layers) == 0 {
			return s.removeStack(base)
		}
		known[base] = true
		return nil
	})
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(s.layers)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name, isImage := strings.CutSuffix(e.Name(), imageSuffix)
		name, isDir := strings.CutSuffix(name, dirSuffix)
		base := filepath.Join(s.layers, name)
		if (isImage || isDir) && strings.HasPrefix(name, stackPrefix) && !known[base] {
			err = errors.Join(err, s.remove(filepath.Join(s.layers, e.Name())))
		}
	}
	return err
}
