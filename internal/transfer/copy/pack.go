package copy

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/registry/client"
)

// Packing is an archive that is being written, as a Target: an OCI layout in a
// tar. It takes the place of its file when it is whole, and not before. The
// same image makes the same archive, if its blobs come in order.
type Packing struct {
	root   *os.Root
	name   string
	docker string // the name in manifest.json, which a docker-archive has

	mu     sync.Mutex // guards what follows
	f      *os.File
	tmp    string
	w      *tar.Writer
	have   map[digest.Digest]int64
	index  []ocispec.Descriptor
	table  []dockerImage
	broken error // an entry that was not finished
}

// PackOCI begins to write an OCI layout in a tar.
func PackOCI(file string) (*Packing, error) {
	dir, name := filepath.Split(file)
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("archive %s: %w", file, err)
	}
	p := &Packing{root: root, name: name, have: map[digest.Digest]int64{}}
	if info, err := root.Lstat(name); err == nil && !info.Mode().IsRegular() {
		_ = root.Close()
		return nil, errdefs.New(errdefs.Conflict, "archive %s: something else has that name", file)
	}
	if err = sweepTemp(root, "."); err == nil {
		p.f, p.tmp, err = createTemp(root, ".")
	}
	if err != nil {
		_ = root.Close()
		return nil, fmt.Errorf("archive %s: %w", file, err)
	}
	p.w = tar.NewWriter(p.f)
	return p, nil
}

// PackDocker begins to write what docker save writes: an OCI layout that has
// manifest.json too, with one image and the given name, which may be empty.
func PackDocker(file, name string) (*Packing, error) {
	p, err := PackOCI(file)
	if err == nil {
		p.docker, p.table = name, []dockerImage{}
	}
	return p, err
}

// HasBlob implements Target.
func (p *Packing) HasBlob(_ context.Context, desc ocispec.Descriptor) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	size, ok := p.have[desc.Digest]
	return ok && size == desc.Size, nil
}

// Upload implements Target. One blob comes after the other.
func (p *Packing) Upload(ctx context.Context, desc ocispec.Descriptor, open client.Opener, o client.UploadOptions) (string, error) {
	body, err := open(ctx, 0)
	if err != nil {
		return "", err
	}
	defer body.Close()
	return "", p.blob(ctx, desc, &noting{body, o.Note, 0})
}

func (p *Packing) blob(ctx context.Context, desc ocispec.Descriptor, r io.Reader) error {
	name, err := blobFile(desc.Digest)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken != nil {
		return p.broken
	}
	if _, ok := p.have[desc.Digest]; ok {
		return nil
	}
	err = p.header(name, desc.Size)
	if err == nil {
		err = take(ctx, p.w, desc, r)
	}
	if err != nil {
		p.broken = err
		return err
	}
	p.have[desc.Digest] = desc.Size
	return nil
}

func (p *Packing) header(name string, size int64) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size, ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}
	if size >= 1<<33 { // beyond what the classic header can say
		h.Format = tar.FormatPAX
	}
	return p.w.WriteHeader(h)
}

// PutManifest implements Target.
func (p *Packing) PutManifest(ctx context.Context, tag string, desc ocispec.Descriptor, raw []byte) error {
	if err := p.blob(ctx, desc, bytes.NewReader(raw)); err != nil {
		return err
	}
	if p.table != nil {
		m, err := image.ParseManifest(raw, desc.MediaType)
		if err != nil {
			return errdefs.Hint(fmt.Errorf("a docker-archive holds images of one platform only: %w", err), "choose one with --platform, or write an oci-archive")
		}
		p.tabulate(m)
	}
	if tag == "" {
		return nil
	}
	return p.List(desc, tag)
}

func (p *Packing) tabulate(m ocispec.Manifest) {
	file := func(d digest.Digest) string { return "blobs/" + strings.Replace(string(d), ":", "/", 1) }
	one := dockerImage{Config: file(m.Config.Digest), RepoTags: []string{}, Layers: []string{}}
	if p.docker != "" {
		one.RepoTags = append(one.RepoTags, p.docker)
	}
	for _, l := range m.Layers {
		one.Layers = append(one.Layers, file(l.Digest))
	}
	p.table = append(p.table, one)
}

// List implements Lister.
func (p *Packing) List(desc ocispec.Descriptor, tag string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.index = enter(p.index, desc, tag)
	return nil
}

// Finish makes the archive whole and gives it its name.
func (p *Packing) Finish() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken != nil {
		return p.broken
	}
	ix := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: p.index}
	ix.SchemaVersion = 2
	files := []struct {
		name string
		v    any
	}{{ocispec.ImageIndexFile, ix}, {ocispec.ImageLayoutFile, ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion}}}
	if p.table != nil {
		files = append(files, struct {
			name string
			v    any
		}{dockerTable, p.table})
	}
	for _, f := range files {
		raw, err := json.Marshal(f.v)
		if err == nil {
			err = p.header(f.name, int64(len(raw)))
		}
		if err == nil {
			_, err = p.w.Write(raw)
		}
		if err != nil {
			return err
		}
	}
	if err := errors.Join(p.w.Close(), p.f.Sync()); err != nil {
		return err
	}
	if err := p.root.Rename(p.tmp, p.name); err != nil {
		return err
	}
	p.tmp = ""
	return syncDir(p.root, ".")
}

// Close gives up what was not finished.
func (p *Packing) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var err error
	if p.tmp != "" {
		err = p.root.Remove(p.tmp)
	}
	return errors.Join(err, p.f.Close(), p.root.Close())
}
