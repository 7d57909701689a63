// Package snapshot keeps the unpacked layers of images, and turns a list of
// them into a root file system that a container can write to.
//
// A layer is known by its DiffID, the digest of its uncompressed tar, and is
// the same whatever image it is in. Unpack brings it in: the tar streams
// through once, into one EROFS file where the kernel can mount such a file by
// itself, else into a directory. A layer has its name only when it is complete,
// its digest has matched, and it is on disk; until then it has a temporary one,
// which the next Open removes if the writer died. It never changes after.
//
// Prepare makes the writable directory of a container and says, as a
// mount.Root, how to put it on top of its layers. Who mounts that, and where,
// is not this package's business: it never mounts anything, but to find out at
// Open what the kernel can do.
//
// Who needs which layer is for others to know: RemoveLayer does as it is told.
package snapshot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"

	"lade/internal/atomicfile"
	"lade/internal/errdefs"
	"lade/internal/ident"
	"lade/internal/layer"
	"lade/internal/linux/feature"
	"lade/internal/linux/mount"
)

// Options says where a store keeps its things.
type Options struct {
	// Layers and Containers are directories for unpacked layers and for what
	// containers write. Empty: "layers" and "containers" in the store's.
	Layers, Containers string
	// Kind is the form of new layers. Empty: EROFS where the kernel has what
	// it takes, else directories.
	Kind mount.LayerKind
	// Removed, if set, is told of each layer that goes, before its space does.
	Removed func(path string)
}

// Store keeps layers, and what containers write on top of them. It is safe for
// concurrent use, also by several processes on the same directories.
type Store struct {
	layers     string
	containers string
	kind       mount.LayerKind
	removed    func(path string)
	why        string
	take       func(int64) error // see Bound
	bounding   sync.Mutex        // held while a project for a writable layer is chosen

	mu      sync.Mutex
	flights map[digest.Digest]*flight // layers being unpacked; guarded by mu
}

// Open opens the store in dir, makes what is missing, and removes what writers
// that died have left.
func Open(dir string, o Options) (*Store, error) {
	s := &Store{
		layers: o.Layers, containers: o.Containers, kind: o.Kind, removed: o.Removed, why: "it was asked for",
		flights: map[digest.Digest]*flight{},
	}
	if s.layers == "" {
		s.layers = filepath.Join(dir, "layers")
	}
	if s.containers == "" {
		s.containers = filepath.Join(dir, "containers")
	}
	for _, d := range []string{s.layers, s.containers} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("open layer store: %w", err)
		}
	}
	if err := errors.Join(s.sweepStacks(), sweep(s.layers)); err != nil {
		return nil, fmt.Errorf("open layer store: %w", err)
	}
	switch s.kind {
	case mount.EROFS, mount.Directory:
	case "":
		s.choose()
	default:
		return nil, errdefs.New(errdefs.Invalid, "open layer store: unknown kind of layer %q", s.kind)
	}
	return s, nil
}

// Bound has take called before so many bytes of a layer's tar are written, which
// is about what they take in either form; its error ends the unpacking. It must
// be called before the first one.
func (s *Store) Bound(take func(int64) error) { s.take = take }

// choose picks the form of new layers.
func (s *Store) choose() {
	if err := feature.EROFSLayers(s.layers).Check(); err != nil {
		s.kind, s.why = mount.Directory, err.Error()
		return
	}
	s.kind, s.why = mount.EROFS, "the kernel stacks EROFS files without loop devices"
}

// Kind returns the form of new layers, and why it is that one. Layers of
// another form that are there already stay good.
func (s *Store) Kind() (kind mount.LayerKind, why string) { return s.kind, s.why }

// Layer is an unpacked layer.
type Layer struct {
	DiffID  digest.Digest
	Kind    mount.LayerKind
	Path    string // of the EROFS file, or of the directory to mount
	Size    int64  // on disk; from Layers with the supplements of stacks that it tops
	TarSize int64
	Entries int
	Damaged error // why it cannot be used; nil for a good layer

	info layer.Info
}

const (
	imageSuffix = ".erofs"
	dirSuffix   = ".dir"
)

// path returns where a layer of a kind lies. Only the digest's own characters
// become a name, after they were checked.
func (s *Store) path(diffID digest.Digest, kind mount.LayerKind) string {
	return filepath.Join(s.layers, diffID.Encoded()+suffix(kind))
}

func suffix(kind mount.LayerKind) string {
	if kind == mount.EROFS {
		return imageSuffix
	}
	return dirSuffix
}

func check(diffID digest.Digest) error {
	if err := diffID.Validate(); err != nil {
		return errdefs.New(errdefs.Invalid, "layer %.100q: %w", string(diffID), err)
	}
	if diffID.Algorithm() != digest.SHA256 {
		return errdefs.New(errdefs.Invalid, "layer %s: only sha256 is supported", diffID)
	}
	return nil
}

// Layer returns a layer, of whatever kind it is. One that is not there is an
// error of class NotFound, one that cannot be read of class DataLoss.
func (s *Store) Layer(diffID digest.Digest) (Layer, error) {
	if err := check(diffID); err != nil {
		return Layer{}, err
	}
	for _, kind := range []mount.LayerKind{s.kind, other(s.kind)} {
		l, err := s.open(diffID, kind)
		if !errors.Is(err, fs.ErrNotExist) {
			return l, err
		}
	}
	return Layer{}, errdefs.New(errdefs.NotFound, "no such layer: %s", diffID)
}

func other(kind mount.LayerKind) mount.LayerKind {
	if kind == mount.EROFS {
		return mount.Directory
	}
	return mount.EROFS
}

// open reads a layer of that kind.
func (s *Store) open(diffID digest.Digest, kind mount.LayerKind) (Layer, error) {
	l, err := openLayer(s.path(diffID, kind), diffID, kind)
	if err != nil {
		return Layer{}, fmt.Errorf("layer %s: %w", diffID, err)
	}
	return l, nil
}

func openLayer(path string, diffID digest.Digest, kind mount.LayerKind) (Layer, error) {
	l := Layer{DiffID: diffID, Kind: kind, Path: path}
	var err error
	if kind == mount.EROFS {
		var f *os.File
		if f, err = os.Open(l.Path); err != nil {
			return Layer{}, err
		}
		defer f.Close()
		l.info, err = layer.ReadInfo(f)
		if fi, statErr := f.Stat(); err == nil && (statErr != nil || fi.Size() != l.info.Size) {
			err = errdefs.New(errdefs.DataLoss, "the file has not its recorded length of %d bytes", l.info.Size)
		}
	} else {
		l.info, err = layer.ReadDirectoryInfo(l.Path)
		l.Path = filepath.Join(l.Path, layer.DiffDir)
	}
	if err == nil && l.info.DiffID != diffID {
		err = errdefs.New(errdefs.DataLoss, "the record is of layer %s", l.info.DiffID)
	}
	if err != nil {
		return Layer{}, err
	}
	l.Size, l.TarSize, l.Entries = l.info.Size, l.info.TarSize, l.info.Entries
	return l, nil
}

// Layers returns all layers, with those that are damaged.
func (s *Store) Layers() ([]Layer, error) {
	entries, err := os.ReadDir(s.layers)
	if err != nil {
		return nil, fmt.Errorf("list layers: %w", err)
	}
	var ls []Layer
	for _, e := range entries {
		kind := mount.EROFS
		hex, ok := strings.CutSuffix(e.Name(), imageSuffix)
		if !ok {
			kind = mount.Directory
			hex, ok = strings.CutSuffix(e.Name(), dirSuffix)
		}
		diffID := digest.NewDigestFromEncoded(digest.SHA256, hex)
		if !ok || check(diffID) != nil {
			continue
		}
		l, err := s.open(diffID, kind)
		if errors.Is(err, fs.ErrNotExist) && kind == mount.EROFS {
			continue // removed meanwhile
		}
		if err != nil {
			l = Layer{DiffID: diffID, Kind: kind, Path: s.path(diffID, kind), Damaged: err}
		}
		ls = append(ls, l)
	}
	err = s.stacks(func(base string, r stackRecord) error {
		if r.Supplement == "" || len(r.Layers) == 0 {
			return nil
		}
		top := slices.IndexFunc(ls, func(l Layer) bool { return l.DiffID == r.Layers[len(r.Layers)-1] })
		for _, kind := range []mount.LayerKind{mount.EROFS, mount.Directory} {
			if l, err := openLayer(base+suffix(kind), r.Supplement, kind); err == nil && top >= 0 {
				ls[top].Size += l.Size
			}
		}
		return nil
	})
	return ls, err
}

// RemoveLayer removes a layer: it is gone at once, its space with the next
// Empty. Roots that are mounted keep what they have of it. A layer that is not
// there is no error.
func (s *Store) RemoveLayer(diffID digest.Digest) error {
	if err := check(diffID); err != nil {
		return err
	}
	err := errors.Join(
		s.removeStacks(diffID), s.remove(s.path(diffID, mount.EROFS)), s.remove(s.path(diffID, mount.Directory)))
	if err != nil {
		return fmt.Errorf("remove layer %s: %w", diffID, err)
	}
	return nil
}

// remove removes a file or a directory, at once as far as anyone can see.
func (s *Store) remove(path string) error {
	if s.removed != nil {
		s.removed(path)
	}
	err := os.Rename(path, filepath.Join(s.layers, trashPrefix+ident.New()))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// trashPrefix begins the names of layers that were removed, until Empty.
const trashPrefix = atomicfile.TempPrefix + "removed-"

// Empty gives back the space of layers that were removed. Whoever removes an
// image need not wait for that.
func (s *Store) Empty() error {
	entries, err := os.ReadDir(s.layers)
	if err != nil {
		return fmt.Errorf("remove layers: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), trashPrefix) {
			errs = append(errs, os.RemoveAll(filepath.Join(s.layers, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// Verify reads all of a layer and compares it with its digests. An error of
// class DataLoss says that a byte has changed. Of a directory only the record
// is read: it has no digest.
func (s *Store) Verify(diffID digest.Digest) error {
	l, err := s.Layer(diffID)
	if err != nil || l.Kind != mount.EROFS {
		return err
	}
	if err := verifyFile(l); err != nil {
		return fmt.Errorf("layer %s: %w", diffID, err)
	}
	return nil
}
