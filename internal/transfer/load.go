package transfer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/imagestore"
	"lade/internal/platform"
	"lade/internal/reference"
)

// Load reads an archive of images and stores them: an OCI layout in a tar, or
// what docker save writes, of any age since manifest.json exists; as they are
// or packed with gzip or zstd as a whole. The archive is read once, from front
// to back, and never unpacked: its files become blobs, by digest.
func (t *Transfer) Load(ctx context.Context, archive io.Reader, progress func(Progress)) ([]Result, error) {
	if err := t.Trust.CheckArchive(); err != nil {
		return nil, fmt.Errorf("load images: %w", err)
	}
	l := &load{t: t, rep: newReporter(progress), lease: t.Images.Lease(), files: map[string]entry{}}
	res, err := l.run(ctx, archive)
	// An archive holds files that no image needs; they go.
	if err = errors.Join(err, l.lease.Discard()); err != nil {
		return nil, fmt.Errorf("load images: %w", err)
	}
	return res, nil
}

// load is one Load under way.
type load struct {
	t     *Transfer
	rep   *reporter
	lease *imagestore.Lease
	files map[string]entry // by cleaned path in the archive
}

// found is one image that an archive describes.
type found struct {
	desc   ocispec.Descriptor
	m      ocispec.Manifest
	names  []reference.Reference
	target digest.Digest
	// original says that manifest and target came with the archive, so that
	// their digests are those that registries know.
	original bool
}

const (
	indexFile    = "index.json"
	layoutFile   = "oci-layout"
	manifestFile = "manifest.json"
	maxImages    = 1000
)

func (l *load) run(ctx context.Context, archive io.Reader) ([]Result, error) {
	if err := l.ingest(ctx, archive); err != nil {
		return nil, err
	}
	images, err := l.describe()
	if err != nil {
		return nil, err
	}
	if len(images) > maxImages {
		return nil, errdefs.New(errdefs.Exhausted, "the archive holds %d images, more than %d", len(images), maxImages)
	}
	var all []Result
	for _, f := range images {
		r, err := l.store(ctx, f)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	for _, r := range all {
		for _, n := range r.Names {
			l.rep.send(Progress{Message: "Loaded image: " + n + "\n"})
		}
		if len(r.Names) == 0 {
			l.rep.send(Progress{Message: "Loaded image ID: " + string(r.ID) + "\n"})
		}
	}
	return all, nil
}

func (l *load) describe() ([]found, error) {
	_, isLayout := l.files[layoutFile]
	_, hasIndex := l.files[indexFile]
	_, hasManifest := l.files[manifestFile]
	_, old := l.files["repositories"]
	switch {
	case isLayout && hasIndex:
		images, err := l.fromLayout()
		if err != nil || !hasManifest {
			return images, err
		}
		return l.addTags(images)
	case hasManifest:
		return l.fromDocker()
	case old:
		return nil, errdefs.Hint(errdefs.With(errdefs.NotImplemented, errors.New("the archive is of Docker's first format")), "it went out of use in 2016: save the image again with a newer tool")
	}
	return nil, errdefs.Hint(errdefs.With(errdefs.Invalid, errors.New("no image archive: it has neither index.json and oci-layout nor manifest.json")), "an archive is what docker save, lade save, skopeo copy or buildah push write")
}

// read returns the content of a small file of the archive.
func (l *load) read(name string) ([]byte, error) {
	e, err := l.lookup(name)
	if err != nil {
		return nil, err
	}
	b, err := l.t.Content.ReadAll(e.digest, image.MaxConfig)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return b, nil
}

// fromLayout reads the images of an OCI layout.
func (l *load) fromLayout() ([]found, error) {
	raw, err := l.read(indexFile)
	if err != nil {
		return nil, err
	}
	ix, err := image.ParseIndex(raw, "")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", indexFile, err)
	}
	var all []found
	for _, d := range ix.Manifests {
		if d.Annotations["vnd.docker.reference.type"] != "" {
			continue
		}
		f, err := l.follow(d)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", indexFile, err)
		}
		f.target, f.original = d.Digest, true
		if name, ok := layoutName(d); ok {
			f.names = append(f.names, name)
		}
		// Several names of one image are several entries of the index.
		if i := slices.IndexFunc(all, func(o found) bool { return o.desc.Digest == f.desc.Digest && o.target == f.target }); i >= 0 {
			all[i].names = append(all[i].names, f.names...)
			continue
		}
		all = append(all, f)
	}
	if len(all) == 0 {
		return nil, errdefs.New(errdefs.Invalid, "%s lists no image", indexFile)
	}
	return all, nil
}

// layoutName returns the name that an entry of a layout's index has. The
// standard's annotation may be a mere tag, which names nothing by itself.
func layoutName(d ocispec.Descriptor) (reference.Reference, bool) {
	for _, key := range []string{"io.containerd.image.name", ocispec.AnnotationRefName} {
		v := d.Annotations[key]
		if v == "" || key == ocispec.AnnotationRefName && !strings.ContainsAny(v, ":/") {
			continue
		}
		if r, err := reference.Parse(v); err == nil && r.Digest == "" {
			return r, true
		}
	}
	return reference.Reference{}, false
}

// follow finds the manifest that an entry of an index leads to, for the
// platform that fits best of those that are in the archive.
func (l *load) follow(d ocispec.Descriptor) (found, error) {
	const deepest = 4
	for range deepest {
		raw, err := l.t.Content.ReadAll(d.Digest, image.MaxManifest)
		if err != nil {
			return found{}, l.absent(d.Digest, err)
		}
		mediaType, err := image.MediaTypeOf(raw, d.MediaType)
		if err != nil {
			return found{}, err
		}
		if image.IsManifest(mediaType) {
			m, err := image.ParseManifest(raw, mediaType)
			return found{desc: ocispec.Descriptor{MediaType: mediaType, Digest: d.Digest, Size: int64(len(raw))}, m: m}, err
		}
		ix, err := image.ParseIndex(raw, mediaType)
		if err != nil {
			return found{}, err
		}
		here := slices.DeleteFunc(slices.Clone(ix.Manifests), func(d ocispec.Descriptor) bool {
			_, ok, err := l.t.Content.Has(d.Digest)
			return !ok || err != nil
		})
		next, ok := platform.Choose(l.t.Platform, here)
		if !ok {
			return found{}, noPlatform(l.t.Platform, ocispec.Index{Manifests: here})
		}
		d = next
	}
	return found{}, errdefs.New(errdefs.Invalid, "indexes within indexes, more than %d deep", deepest)
}

// absent says that the archive lacks a blob that it refers to.
func (l *load) absent(d digest.Digest, err error) error {
	if errdefs.Is(err, errdefs.NotFound) {
		return errdefs.New(errdefs.DataLoss, "the archive is incomplete: it lacks blob %s", d)
	}
	return err
}

// dockerImage is one entry of manifest.json.
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func (l *load) dockerImages() ([]dockerImage, error) {
	raw, err := l.read(manifestFile)
	if err != nil {
		return nil, err
	}
	var list []dockerImage
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, errdefs.New(errdefs.DataLoss, "%s: %w", manifestFile, err)
	}
	if len(list) == 0 {
		return nil, errdefs.New(errdefs.Invalid, "%s lists no image", manifestFile)
	}
	return list, nil
}

// addTags takes over the names that manifest.json gives to a layout's images.
func (l *load) addTags(images []found) ([]found, error) {
	list, err := l.dockerImages()
	if err != nil {
		return nil, err
	}
	for _, d := range list {
		e, err := l.lookup(d.Config)
		if err != nil {
			continue
		}
		for i, f := range images {
			if f.m.Config.Digest != e.digest {
				continue
			}
			if images[i].names, err = appendTags(f.names, d.RepoTags); err != nil {
				return nil, err
			}
		}
	}
	return images, nil
}

func appendTags(names []reference.Reference, tags []string) ([]reference.Reference, error) {
	for _, tag := range tags {
		r, err := reference.Parse(tag)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", manifestFile, err)
		}
		if r.Digest == "" && !slices.Contains(names, r) {
			names = append(names, r)
		}
	}
	return names, nil
}

// fromDocker reads the images of a docker-archive, which has no manifests of
// the kind that registries know: they are derived, the same each time.
func (l *load) fromDocker() ([]found, error) {
	list, err := l.dockerImages()
	if err != nil {
		return nil, err
	}
	if len(list) > maxImages {
		return nil, errdefs.New(errdefs.Exhausted, "%s lists %d images, more than %d", manifestFile, len(list), maxImages)
	}
	var all []found
	for _, d := range list {
		f, err := l.derive(d)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", manifestFile, err)
		}
		if f.names, err = appendTags(nil, d.RepoTags); err != nil {
			return nil, err
		}
		all = append(all, f)
	}
	return all, nil
}

func (l *load) derive(d dockerImage) (found, error) {
	config, err := l.lookup(d.Config)
	if err != nil {
		return found{}, err
	}
	m := ocispec.Manifest{
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: config.digest, Size: config.size},
		Layers:    []ocispec.Descriptor{},
	}
	m.SchemaVersion = 2
	for _, name := range d.Layers {
		e, err := l.lookup(name)
		if err != nil {
			return found{}, err
		}
		m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: e.layerType(), Digest: e.digest, Size: e.size})
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return found{}, err
	}
	desc := ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	if m, err = image.ParseManifest(raw, m.MediaType); err != nil {
		return found{}, err
	}
	l.lease.Hold(desc.Digest)
	return found{desc: desc, m: m, target: desc.Digest}, l.t.Content.PutAs(desc.Digest, raw)
}

// store unpacks one image's layers and records it.
func (l *load) store(ctx context.Context, f found) (Result, error) {
	l.lease.Hold(f.desc.Digest, f.m.Config.Digest, f.target)
	raw, err := l.t.Content.ReadAll(f.m.Config.Digest, image.MaxConfig)
	if err != nil {
		return Result{}, l.absent(f.m.Config.Digest, err)
	}
	img, err := image.New(f.desc, f.m, raw)
	if err != nil {
		return Result{}, err
	}
	layers := layersOf(img, f.m)
	for _, one := range layers {
		l.lease.Hold(one.desc.Digest, one.diffID)
		info, ok, err := l.t.Content.Has(one.desc.Digest)
		switch {
		case err != nil:
			return Result{}, err
		case !ok:
			return Result{}, l.absent(one.desc.Digest, errdefs.New(errdefs.NotFound, "no such blob"))
		case info.Size != one.desc.Size:
			return Result{}, errdefs.New(errdefs.DataLoss, "layer %s has %d bytes, the manifest says %d", image.ShortID(one.desc.Digest), info.Size, one.desc.Size)
		}
	}
	if err := l.t.each(ctx, layers, l.unpack); err != nil {
		return Result{}, err
	}
	res := Result{ID: img.ID, Manifest: f.desc.Digest, Target: f.target, New: true}
	var names []imagestore.Name
	for _, r := range f.names {
		names = append(names, imagestore.Name{Ref: r, Target: f.target})
		if f.original {
			names = append(names, imagestore.Name{Ref: r.WithDigest(f.target), Target: f.target})
		}
		res.Names = append(res.Names, r.Familiar())
	}
	return res, l.t.Images.Put(recordOf(img, f.desc, layers), names...)
}

func (l *load) unpack(ctx context.Context, one layer) error {
	done, err := l.t.turns.take(ctx, one.diffID, func() {})
	if err != nil {
		return err
	}
	defer done()
	if ok, err := l.t.Layers.Has(one.diffID); ok || err != nil {
		return err
	}
	id := image.ShortID(one.diffID)
	l.rep.send(Progress{ID: id, Action: "Loading layer", Total: one.desc.Size})
	b, err := l.t.Content.Open(one.desc.Digest)
	if err != nil {
		return err
	}
	defer b.Close()
	if err := l.t.unpack(ctx, one, b, l.rep.counting(id, "Loading layer", one.desc.Size)); err != nil {
		return fmt.Errorf("layer %s: %w", id, err)
	}
	return nil
}

// clean brings a path of an archive to one form, or says why not. Paths never
// reach a file system; but one that climbs is a sign of ill will.
func clean(name string) (string, error) {
	if strings.HasPrefix(name, "/") || slices.Contains(strings.Split(name, "/"), "..") || strings.ContainsRune(name, 0) {
		return "", errdefs.New(errdefs.Invalid, "the archive holds the path %.100q, which leads out of it", name)
	}
	return path.Clean(name), nil
}
