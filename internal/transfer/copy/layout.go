package copy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/atomicfile"
	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/reference"
	"lade/internal/registry/client"
)

// Layout is an OCI layout in a directory, below which nothing leads out of it.
type Layout struct {
	root *os.Root
}

// OpenLayout opens the layout in dir.
func OpenLayout(dir string) (*Layout, error) {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errdefs.New(errdefs.NotFound, "OCI layout %s: no such directory", dir)
	}
	if err != nil {
		return nil, fmt.Errorf("OCI layout: %w", err)
	}
	l := &Layout{root}
	if _, err := l.index(); err != nil {
		_ = root.Close()
		return nil, fmt.Errorf("OCI layout %s: %w", dir, err)
	}
	return l, nil
}

// MakeLayout opens the layout in dir, and makes it where there is none. A
// directory with something else in it is refused. What copies left that died is
// removed.
func MakeLayout(dir string) (*Layout, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("OCI layout: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("OCI layout: %w", err)
	}
	l := &Layout{root}
	if err := l.prepare(); err != nil {
		_ = root.Close()
		return nil, fmt.Errorf("OCI layout %s: %w", dir, err)
	}
	return l, nil
}

// prepare makes what a layout consists of. The file that says that it is one
// comes first: from then on all in the directory is known to belong to it.
func (l *Layout) prepare() error {
	unlock, err := l.lock()
	if err != nil {
		return err
	}
	defer unlock()
	ix := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{}}
	ix.SchemaVersion = 2
	if _, err := l.root.Stat(ocispec.ImageLayoutFile); errors.Is(err, fs.ErrNotExist) {
		if err := l.empty(); err != nil {
			return err
		}
		if err := l.put(ocispec.ImageLayoutFile, ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion}); err != nil {
			return err
		}
	}
	if err := atomicfile.Sweep(l.root.Name()); err != nil {
		return err
	}
	if err := l.root.MkdirAll("blobs/sha256", 0o755); err != nil {
		return err
	}
	if _, err := l.root.Stat(ocispec.ImageIndexFile); errors.Is(err, fs.ErrNotExist) {
		if err := l.put(ocispec.ImageIndexFile, ix); err != nil {
			return err
		}
	}
	if _, err := l.index(); err != nil {
		return err
	}
	return l.sweep()
}

// empty refuses a directory that holds anything but what a copy left that died
// in it at once.
func (l *Layout) empty() error {
	entries, err := os.ReadDir(l.root.Name())
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), atomicfile.TempPrefix+ocispec.ImageLayoutFile) {
			return errdefs.New(errdefs.Conflict, "the directory is neither empty nor an OCI layout")
		}
	}
	return nil
}

func (l *Layout) put(name string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(l.root.Name(), name), raw, atomicfile.Options{Mode: 0o644, Sync: true})
}

// Close lets go of the directory.
func (l *Layout) Close() error { return l.root.Close() }

func (l *Layout) index() (ocispec.Index, error) {
	raw, err := l.small(ocispec.ImageIndexFile)
	if err != nil {
		return ocispec.Index{}, err
	}
	return image.ParseIndex(raw, "")
}

// small reads a file that holds JSON.
func (l *Layout) small(name string) ([]byte, error) {
	f, err := l.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, image.MaxConfig+1))
	if err == nil && len(raw) > image.MaxConfig {
		err = errdefs.New(errdefs.Exhausted, "%s is longer than %d bytes", name, image.MaxConfig)
	}
	return raw, err
}

func blobFile(d digest.Digest) (string, error) {
	if err := reference.CheckDigest(d); err != nil {
		return "", err
	}
	return "blobs/" + string(d.Algorithm()) + "/" + d.Encoded(), nil
}

// Tags returns the names that the layout's images have.
func (l *Layout) Tags() ([]string, error) {
	ix, err := l.index()
	if err != nil {
		return nil, err
	}
	var all []string
	for _, m := range ix.Manifests {
		if tag := m.Annotations[ocispec.AnnotationRefName]; tag != "" {
			all = append(all, tag)
		}
	}
	return all, nil
}

// Manifest implements Source. Without an object it is the only one there is.
func (l *Layout) Manifest(_ context.Context, object string) ([]byte, ocispec.Descriptor, error) {
	d := ocispec.Descriptor{Digest: digest.Digest(object)}
	if !strings.Contains(object, ":") {
		ix, err := l.index()
		if err != nil {
			return nil, d, err
		}
		i := slices.IndexFunc(ix.Manifests, func(m ocispec.Descriptor) bool {
			return m.Annotations[ocispec.AnnotationRefName] == object || object == "" && len(ix.Manifests) == 1
		})
		if i < 0 {
			return nil, d, errdefs.New(errdefs.NotFound, "the OCI layout has no image %q", object)
		}
		d = ix.Manifests[i]
	}
	name, err := blobFile(d.Digest)
	if err != nil {
		return nil, d, err
	}
	raw, err := l.small(name)
	if err != nil {
		return nil, d, absent(d.Digest, err)
	}
	if got := d.Digest.Algorithm().FromBytes(raw); got != d.Digest {
		return nil, d, errdefs.New(errdefs.DataLoss, "manifest %s is damaged: its digest is %s", d.Digest, got)
	}
	return raw, ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: int64(len(raw))}, nil
}

func absent(d digest.Digest, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return errdefs.New(errdefs.NotFound, "the OCI layout lacks blob %s", d)
	}
	return err
}

// Blob implements Source.
func (l *Layout) Blob(_ context.Context, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	name, err := blobFile(desc.Digest)
	if err != nil {
		return nil, err
	}
	f, err := l.root.Open(name)
	if err != nil {
		return nil, absent(desc.Digest, err)
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case info.Size() != desc.Size || !info.Mode().IsRegular():
		err = errdefs.New(errdefs.DataLoss, "blob %s has %d bytes, the manifest says %d", desc.Digest, info.Size(), desc.Size)
	default:
		_, err = f.Seek(offset, io.SeekStart)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// HasBlob implements Target.
func (l *Layout) HasBlob(_ context.Context, desc ocispec.Descriptor) (bool, error) {
	name, err := blobFile(desc.Digest)
	if err != nil {
		return false, err
	}
	info, err := l.root.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && info.Size() == desc.Size, err
}

// Upload implements Target. The blob has its name when it is whole.
func (l *Layout) Upload(ctx context.Context, desc ocispec.Descriptor, open client.Opener, o client.UploadOptions) (string, error) {
	body, err := open(ctx, 0)
	if err != nil {
		return "", err
	}
	defer body.Close()
	return "", l.write(ctx, desc, &noting{body, o.Note, 0})
}

func (l *Layout) write(ctx context.Context, desc ocispec.Descriptor, r io.Reader) (err error) {
	name, err := blobFile(desc.Digest)
	if err != nil {
		return err
	}
	if err := l.root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, tmp, err := createTemp(l.root, filepath.Dir(name))
	if err != nil {
		return err
	}
	defer f.Close() // the lock is held until the file has its name
	defer func() {
		if err != nil {
			_ = l.root.Remove(tmp)
		}
	}()
	if err := take(ctx, f, desc, r); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return l.root.Rename(tmp, name)
}

// take copies a blob, which must be what its descriptor says.
func take(ctx context.Context, w io.Writer, desc ocispec.Descriptor, r io.Reader) error {
	h := desc.Digest.Algorithm().Digester()
	n, err := io.Copy(io.MultiWriter(w, h.Hash()), cancelled{ctx, io.LimitReader(r, desc.Size)})
	if err != nil {
		return err
	}
	more, err := io.CopyN(io.Discard, r, 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if n += more; n != desc.Size || h.Digest() != desc.Digest {
		return errdefs.New(errdefs.DataLoss, "blob %s came with %d bytes and the digest %s", desc.Digest, n, h.Digest())
	}
	return nil
}

type noting struct {
	io.Reader
	note func(int64)
	n    int64
}

func (r *noting) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.n += int64(n)
	if r.note != nil {
		r.note(r.n)
	}
	return n, err
}

// PutManifest implements Target. A tag moves to the manifest.
func (l *Layout) PutManifest(ctx context.Context, tag string, desc ocispec.Descriptor, raw []byte) error {
	if err := l.write(ctx, desc, bytes.NewReader(raw)); err != nil {
		return err
	}
	if tag == "" {
		return nil
	}
	return l.List(desc, tag)
}

// List enters what was copied into the index. All that it refers to is on disk
// before.
func (l *Layout) List(desc ocispec.Descriptor, tag string) error {
	unlock, err := l.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := atomicfile.Sweep(l.root.Name()); err != nil {
		return err
	}
	dirs, err := filepath.Glob(filepath.Join(l.root.Name(), "blobs", "*"))
	if err != nil {
		return err
	}
	for _, d := range dirs {
		if err := syncDir(l.root, path.Join("blobs", filepath.Base(d))); err != nil {
			return err
		}
	}
	ix, err := l.index()
	if err != nil {
		return err
	}
	ix.Manifests = enter(ix.Manifests, desc, tag)
	return l.put(ocispec.ImageIndexFile, ix)
}

// enter puts an entry into an index: in place of the one that had the tag, or,
// without a tag, unless it is there.
func enter(all []ocispec.Descriptor, desc ocispec.Descriptor, tag string) []ocispec.Descriptor {
	desc.Annotations = nil
	if tag == "" {
		if slices.ContainsFunc(all, func(m ocispec.Descriptor) bool { return m.Digest == desc.Digest }) {
			return all
		}
		return append(all, desc)
	}
	all = slices.DeleteFunc(all, func(m ocispec.Descriptor) bool {
		return m.Annotations[ocispec.AnnotationRefName] == tag || m.Digest == desc.Digest && m.Annotations[ocispec.AnnotationRefName] == ""
	})
	desc.Annotations = map[string]string{ocispec.AnnotationRefName: tag}
	return append(all, desc)
}

// lock keeps other copies away from the index, also those of other processes.
func (l *Layout) lock() (unlock func(), err error) {
	d, err := l.root.Open(".")
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(d.Fd()), syscall.LOCK_EX)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		_ = d.Close()
		return nil, err
	}
	return func() { _ = d.Close() }, nil
}

// sweep removes blobs that copies have begun and not finished.
func (l *Layout) sweep() error {
	dirs, err := filepath.Glob(filepath.Join(l.root.Name(), "blobs", "*"))
	for _, d := range dirs {
		err = errors.Join(err, sweepTemp(l.root, path.Join("blobs", filepath.Base(d))))
	}
	return err
}
