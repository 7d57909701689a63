package copy

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/linux/fsat"
	"lade/internal/reference"
	"lade/internal/transfer"
)

// ArchiveOptions says how an archive is read.
type ArchiveOptions struct {
	// Limits bound what the archive may unpack to and hold.
	Limits transfer.Limits
	// Scratch is a directory for a packed archive's bytes. They get no name in
	// it, so nothing can be left.
	Scratch string
}

// Archive is an archive of images as a Source: an OCI layout in a tar, or what
// docker save writes. It is read where it is; only one that is packed as a
// whole is unpacked first.
type Archive struct {
	f       *os.File
	spans   map[string]span                       // by cleaned path
	derived map[digest.Digest][]byte              // manifests that a docker-archive does not have
	blobs   map[digest.Digest]string              // paths of what derived manifests refer to
	index   []ocispec.Descriptor                  // of an OCI layout
	named   map[reference.Reference]digest.Digest // by a docker-archive's names
	images  []digest.Digest                       // of a docker-archive, in its order
}

// span is where one file of the tar is.
type span struct {
	offset, size int64
	link         string
}

const (
	dockerTable = "manifest.json"
	maxImages   = 1000
)

// OpenOCIArchive opens an OCI layout in a tar.
func OpenOCIArchive(ctx context.Context, file string, o ArchiveOptions) (*Archive, error) {
	a, err := openArchive(ctx, file, o)
	if err != nil {
		return nil, err
	}
	raw, err := a.small(ocispec.ImageIndexFile)
	if err == nil {
		var ix ocispec.Index
		ix, err = image.ParseIndex(raw, "")
		a.index = ix.Manifests
	}
	if _, ok := a.spans[ocispec.ImageLayoutFile]; !ok && err == nil {
		err = errdefs.Hint(errdefs.New(errdefs.Invalid, "it is no OCI archive: it lacks %s", ocispec.ImageLayoutFile), "what docker save writes is a docker-archive")
	}
	if err != nil {
		_ = a.Close()
		return nil, fmt.Errorf("OCI archive %s: %w", file, err)
	}
	return a, nil
}

// OpenDockerArchive opens what docker save writes.
func OpenDockerArchive(ctx context.Context, file string, o ArchiveOptions) (*Archive, error) {
	a, err := openArchive(ctx, file, o)
	if err != nil {
		return nil, err
	}
	if err := a.derive(ctx); err != nil {
		_ = a.Close()
		return nil, fmt.Errorf("docker archive %s: %w", file, err)
	}
	return a, nil
}

// Close lets go of the archive.
func (a *Archive) Close() error { return a.f.Close() }

func openArchive(ctx context.Context, file string, o ArchiveOptions) (*Archive, error) {
	f, err := plain(ctx, file, o)
	if err != nil {
		return nil, fmt.Errorf("archive %s: %w", file, err)
	}
	a := &Archive{
		f: f, spans: map[string]span{}, derived: map[digest.Digest][]byte{}, blobs: map[digest.Digest]string{},
		named: map[reference.Reference]digest.Digest{},
	}
	if err := a.scan(ctx, o.Limits.MaxEntries()); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("archive %s: %w", file, err)
	}
	return a, nil
}

// plain opens an archive, unpacked.
func plain(ctx context.Context, file string, o ArchiveOptions) (*os.File, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errdefs.New(errdefs.Invalid, "it is no regular file")
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	z, packing, err := o.Limits.Unpacked(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	defer z.Close()
	if packing == image.Plain {
		_, err := f.Seek(0, io.SeekStart)
		return f, err
	}
	defer f.Close()
	out, err := fsat.Nameless(o.Scratch)
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(out, cancelled{ctx, z})
	if err == nil {
		_, err = out.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, out.Close())
	}
	return out, nil
}

// cancelled is a reader that ends with a context.
type cancelled struct {
	ctx context.Context //nolint:containedctx // it is the reader's whole purpose
	io.Reader
}

func (c cancelled) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.Reader.Read(p)
}

// scan finds out where which file is.
func (a *Archive) scan(ctx context.Context, most int) error {
	tr := tar.NewReader(a.f)
	for n := 0; ; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := tr.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, tar.ErrHeader), errors.Is(err, io.ErrUnexpectedEOF) && n == 0:
			return errdefs.New(errdefs.Invalid, "it is no tar: %w", err)
		case err != nil:
			return errdefs.New(errdefs.DataLoss, "read the archive: %w", err)
		case n >= most:
			return errdefs.New(errdefs.Exhausted, "the archive has more than %d entries", most)
		}
		if err := a.entry(h); err != nil {
			return err
		}
	}
}

func (a *Archive) entry(h *tar.Header) error {
	name := path.Clean(h.Name)
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return errdefs.New(errdefs.Invalid, "the archive holds the sparse file %.100q", name)
		}
	}
	s := span{size: h.Size}
	switch h.Typeflag {
	case tar.TypeReg:
		var err error
		if s.offset, err = a.f.Seek(0, io.SeekCurrent); err != nil {
			return err
		}
		info, err := a.f.Stat()
		if err != nil {
			return err
		}
		if s.offset+s.size > info.Size() {
			return errdefs.New(errdefs.DataLoss, "the archive is truncated: %w", io.ErrUnexpectedEOF)
		}
	case tar.TypeSymlink: // of docker save before version 25; a name in the archive, and nothing else
		s.link = path.Join(path.Dir(name), h.Linkname)
	case tar.TypeLink:
		s.link = path.Clean(h.Linkname)
	default:
		return nil
	}
	if _, twice := a.spans[name]; twice {
		return errdefs.New(errdefs.Invalid, "the archive holds %.100q twice", name)
	}
	a.spans[name] = s
	return nil
}

// section returns a file of the archive, through links.
func (a *Archive) section(name string) (*io.SectionReader, error) {
	const most = 16
	p := path.Clean(name)
	for range most {
		s, ok := a.spans[p]
		if !ok {
			return nil, errdefs.New(errdefs.DataLoss, "the archive is incomplete: it lacks %.100q", name)
		}
		if s.link == "" {
			return io.NewSectionReader(a.f, s.offset, s.size), nil
		}
		p = s.link
	}
	return nil, errdefs.New(errdefs.Invalid, "the archive's file %.100q is a link to a link, and so on", name)
}

func (a *Archive) small(name string) ([]byte, error) {
	r, err := a.section(name)
	if err != nil {
		return nil, err
	}
	if r.Size() > image.MaxConfig {
		return nil, errdefs.New(errdefs.Exhausted, "%.100q is longer than %d bytes", name, image.MaxConfig)
	}
	return io.ReadAll(r)
}

// dockerImage is one entry of manifest.json.
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// derive makes the manifests that a docker-archive does not have: the same each
// time, and the same as a load makes.
func (a *Archive) derive(ctx context.Context) error {
	if _, ok := a.spans[dockerTable]; !ok {
		return errdefs.Hint(errdefs.New(errdefs.Invalid, "it lacks %s", dockerTable), "what docker save writes has it since 2016; an OCI layout in a tar is an oci-archive")
	}
	raw, err := a.small(dockerTable)
	if err != nil {
		return err
	}
	var list []dockerImage
	if err := json.Unmarshal(raw, &list); err != nil {
		return errdefs.New(errdefs.DataLoss, "%s: %w", dockerTable, err)
	}
	if len(list) > maxImages {
		return errdefs.New(errdefs.Exhausted, "%s lists %d images, more than %d", dockerTable, len(list), maxImages)
	}
	for _, one := range list {
		d, err := a.deriveOne(ctx, one)
		if err != nil {
			return fmt.Errorf("%s: %w", dockerTable, err)
		}
		if !slices.Contains(a.images, d) {
			a.images = append(a.images, d)
		}
		for _, tag := range one.RepoTags {
			ref, err := reference.Parse(tag)
			if err != nil {
				return fmt.Errorf("%s: %w", dockerTable, err)
			}
			a.named[ref] = d
		}
	}
	return nil
}

func (a *Archive) deriveOne(ctx context.Context, one dockerImage) (digest.Digest, error) {
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Layers: []ocispec.Descriptor{}}
	m.SchemaVersion = 2
	var err error
	if m.Config, err = a.describe(ctx, one.Config, true); err != nil {
		return "", err
	}
	for _, name := range one.Layers {
		l, err := a.describe(ctx, name, false)
		if err != nil {
			return "", err
		}
		m.Layers = append(m.Layers, l)
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return "", err
	}
	if _, err := image.ParseManifest(raw, m.MediaType); err != nil {
		return "", err
	}
	d := digest.FromBytes(raw)
	a.derived[d] = raw
	return d, nil
}

// describe finds out a file's digest and type.
func (a *Archive) describe(ctx context.Context, name string, config bool) (ocispec.Descriptor, error) {
	r, err := a.section(name)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	head := make([]byte, 8)
	n, err := r.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return ocispec.Descriptor{}, err
	}
	h := digest.Canonical.Digester()
	if _, err := io.Copy(h.Hash(), cancelled{ctx, r}); err != nil {
		return ocispec.Descriptor{}, err
	}
	d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: h.Digest(), Size: r.Size()}
	if !config {
		d.MediaType = transfer.LayerType(head[:n])
	}
	a.blobs[d.Digest] = name
	return d, nil
}

// Manifest implements Source. The object is a tag of an OCI layout, a name of a
// docker-archive, a digest, or nothing: then it is the only image there is.
func (a *Archive) Manifest(_ context.Context, object string) ([]byte, ocispec.Descriptor, error) {
	d, err := a.find(object)
	if err != nil {
		return nil, d, err
	}
	raw, ok := a.derived[d.Digest]
	if !ok {
		name, err := blobFile(d.Digest)
		if err != nil {
			return nil, d, err
		}
		if raw, err = a.small(name); err != nil {
			return nil, d, err
		}
	}
	if got := d.Digest.Algorithm().FromBytes(raw); got != d.Digest {
		return nil, d, errdefs.New(errdefs.DataLoss, "manifest %s is damaged: its digest is %s", d.Digest, got)
	}
	return raw, ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: int64(len(raw))}, nil
}

func (a *Archive) find(object string) (ocispec.Descriptor, error) {
	if d := digest.Digest(object); reference.CheckDigest(d) == nil {
		return ocispec.Descriptor{Digest: d}, nil
	}
	for _, m := range a.index {
		if m.Annotations[ocispec.AnnotationRefName] == object || object == "" && len(a.index) == 1 {
			return m, nil
		}
	}
	if object == "" && len(a.images) == 1 {
		return ocispec.Descriptor{Digest: a.images[0]}, nil
	}
	if ref, err := reference.Parse(object); err == nil {
		if d, ok := a.named[ref]; ok {
			return ocispec.Descriptor{Digest: d}, nil
		}
	}
	if object == "" {
		return ocispec.Descriptor{}, errdefs.Hint(errdefs.New(errdefs.Invalid, "the archive holds %d images", len(a.index)+len(a.images)), "say which, behind a colon: %s", strings.Join(a.names(), ", "))
	}
	return ocispec.Descriptor{}, errdefs.Hint(errdefs.New(errdefs.NotFound, "the archive has no image %q", object), "it has %s", strings.Join(a.names(), ", "))
}

// names lists what one may ask for, for messages.
func (a *Archive) names() []string {
	var all []string
	for _, m := range a.index {
		if tag := m.Annotations[ocispec.AnnotationRefName]; tag != "" {
			all = append(all, tag)
		}
	}
	for ref := range a.named {
		all = append(all, ref.Familiar())
	}
	slices.Sort(all)
	if len(all) == 0 {
		return []string{"images without names only"}
	}
	return all[:min(len(all), 20)]
}

// Blob implements Source.
func (a *Archive) Blob(_ context.Context, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	name, ok := a.blobs[desc.Digest]
	if !ok {
		var err error
		if name, err = blobFile(desc.Digest); err != nil {
			return nil, err
		}
	}
	r, err := a.section(name)
	if err != nil {
		return nil, err
	}
	if r.Size() != desc.Size {
		return nil, errdefs.New(errdefs.DataLoss, "blob %s has %d bytes, the manifest says %d", desc.Digest, r.Size(), desc.Size)
	}
	_, err = r.Seek(offset, io.SeekStart)
	return io.NopCloser(r), err
}
