package copy

import (
	"context"
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
// directory with something else in it is refused.
func MakeLayout(dir string) (*Layout, error) {
	if _, err := os.Stat(filepath.Join(dir, ocispec.ImageLayoutFile)); err == nil {
		return OpenLayout(dir)
	}
	entries, err := os.ReadDir(dir)
	switch {
	case err == nil && len(entries) > 0:
		return nil, errdefs.New(errdefs.Conflict, "%s is neither empty nor an OCI layout", dir)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("OCI layout: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755); err != nil {
		return nil, fmt.Errorf("OCI layout: %w", err)
	}
	ix := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{}}
	ix.SchemaVersion = 2
	for name, v := range map[string]any{ocispec.ImageIndexFile: ix, ocispec.ImageLayoutFile: ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion}} {
		raw, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		if err := atomicfile.Write(filepath.Join(dir, name), raw, atomicfile.Options{Mode: 0o644, Sync: true}); err != nil {
			return nil, err
		}
	}
	return OpenLayout(dir)
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
	tmp := name + ".tmp-" + fmt.Sprint(os.Getpid())
	f, err := l.root.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = l.root.Remove(tmp)
		}
	}()
	h := desc.Digest.Algorithm().Digester()
	n, err := io.Copy(io.MultiWriter(f, h.Hash()), io.LimitReader(r, desc.Size+1))
	if err == nil {
		err = ctx.Err()
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if n != desc.Size || h.Digest() != desc.Digest {
		return errdefs.New(errdefs.DataLoss, "blob %s came with %d bytes and the digest %s", desc.Digest, n, h.Digest())
	}
	return l.root.Rename(tmp, name)
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
	if err := l.write(ctx, desc, strings.NewReader(string(raw))); err != nil {
		return err
	}
	if tag == "" {
		return nil
	}
	ix, err := l.index()
	if err != nil {
		return err
	}
	ix.Manifests = slices.DeleteFunc(ix.Manifests, func(m ocispec.Descriptor) bool { return m.Annotations[ocispec.AnnotationRefName] == tag })
	desc.Annotations = map[string]string{ocispec.AnnotationRefName: tag}
	ix.Manifests = append(ix.Manifests, desc)
	out, err := json.Marshal(ix)
	if err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(l.root.Name(), ocispec.ImageIndexFile), out, atomicfile.Options{Mode: 0o644, Sync: true})
}
