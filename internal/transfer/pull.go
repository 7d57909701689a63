package transfer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/imagestore"
	"lade/internal/platform"
	"lade/internal/reference"
	"lade/internal/registry/auth"
	"lade/internal/transfer/pipe"
)

// PullOptions says what to pull.
type PullOptions struct {
	Ref reference.Reference
	// Platform is the one to choose; nil means Config.Platform, and that an
	// image of one platform only is taken as it is.
	Platform    *ocispec.Platform
	Credentials auth.Credentials
	// From, where set, has the image instead of the registry, as Object, and the
	// policy has allowed it. It gets no name by digest: no registry may know it.
	From   Source
	Object string
}

// Source is where an image comes from.
type Source interface {
	// Manifest returns a manifest or index by tag or digest.
	Manifest(ctx context.Context, object string) ([]byte, ocispec.Descriptor, error)
	Blob(ctx context.Context, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error)
}

// Pull brings an image from its registry. progress may be nil; it is called by
// one goroutine at a time.
func (t *Transfer) Pull(ctx context.Context, o PullOptions, progress func(Progress)) (Result, error) {
	repo, object := o.From, o.Object
	if repo == nil {
		var err error
		if repo, err = t.Client.Source(o.Ref, o.Credentials); err != nil {
			return Result{}, fmt.Errorf("pull %s: %w", o.Ref.Familiar(), err)
		}
		object = o.Ref.Object()
	}
	p := &pull{t: t, o: o, rep: newReporter(progress), lease: t.Images.Lease(), want: t.Platform, repo: repo, object: object}
	if o.Platform != nil {
		p.want = *o.Platform
	}
	res, err := p.run(ctx)
	if err = finish(p.lease, err); err != nil {
		return Result{}, fmt.Errorf("pull %s: %w", o.Ref.Familiar(), err)
	}
	return res, nil
}

// pull is one Pull under way.
type pull struct {
	t      *Transfer
	o      PullOptions
	repo   Source
	object string // there
	rep    *reporter
	lease  *imagestore.Lease
	want   ocispec.Platform
}

func (p *pull) run(ctx context.Context) (Result, error) {
	if p.o.From == nil {
		p.rep.send(Progress{ID: p.o.Ref.Object(), Action: "Pulling from " + p.o.Ref.Path})
	}
	raw, top, err := p.repo.Manifest(ctx, p.object)
	if err != nil {
		return Result{}, err
	}
	desc, m, err := p.choose(ctx, raw, top)
	if err != nil {
		return Result{}, err
	}
	// What is checked here by digest is all that can come from now on.
	if p.o.From == nil {
		if err := p.t.Trust.Check(ctx, p.o.Ref, p.repo, digestsOf(top, desc)...); err != nil {
			return Result{}, err
		}
	}
	img, err := p.config(ctx, desc, m)
	if err != nil {
		return Result{}, err
	}
	layers := layersOf(img, m)
	if err := p.layers(ctx, layers); err != nil {
		return Result{}, err
	}
	res, err := p.record(img, desc, layers, top.Digest)
	if err != nil {
		return Result{}, err
	}
	p.rep.send(Progress{Action: "Digest: " + string(top.Digest)})
	status := "Status: Image is up to date for "
	if res.New {
		status = "Status: Downloaded newer image for "
	}
	p.rep.send(Progress{Action: status + p.o.Ref.Familiar()})
	return res, nil
}

// digestsOf returns the digests of an image's manifest and of the index that
// led to it, if one did: a signature may be for either.
func digestsOf(top, manifest ocispec.Descriptor) []digest.Digest {
	if top.Digest == manifest.Digest {
		return []digest.Digest{top.Digest}
	}
	return []digest.Digest{top.Digest, manifest.Digest}
}

// choose follows indexes to the manifest for the wanted platform. Everything
// on the way is kept as it came.
func (p *pull) choose(ctx context.Context, raw []byte, desc ocispec.Descriptor) (ocispec.Descriptor, ocispec.Manifest, error) {
	const deepest = 4
	for depth := 0; ; depth++ {
		mediaType, err := image.MediaTypeOf(raw, desc.MediaType)
		if err != nil {
			return desc, ocispec.Manifest{}, err
		}
		desc.MediaType = mediaType
		p.lease.Hold(desc.Digest)
		if err := p.t.Content.PutAs(desc.Digest, raw); err != nil {
			return desc, ocispec.Manifest{}, err
		}
		if image.IsManifest(mediaType) {
			m, err := image.ParseManifest(raw, mediaType)
			return desc, m, err
		}
		if depth == deepest {
			return desc, ocispec.Manifest{}, errdefs.New(errdefs.Invalid, "indexes within indexes, more than %d deep", deepest)
		}
		ix, err := image.ParseIndex(raw, mediaType)
		if err != nil {
			return desc, ocispec.Manifest{}, err
		}
		next, ok := platform.Choose(p.want, ix.Manifests)
		if !ok {
			return desc, ocispec.Manifest{}, noPlatform(p.want, ix)
		}
		if raw, desc, err = p.member(ctx, next); err != nil {
			return desc, ocispec.Manifest{}, err
		}
	}
}

// member fetches what an index lists, which must be what the index says.
func (p *pull) member(ctx context.Context, listed ocispec.Descriptor) ([]byte, ocispec.Descriptor, error) {
	raw, got, err := p.repo.Manifest(ctx, string(listed.Digest))
	switch {
	case err != nil:
		return nil, got, err
	case got.Size != listed.Size:
		return nil, got, errdefs.New(errdefs.DataLoss, "manifest %s has %d bytes, its index says %d", listed.Digest, got.Size, listed.Size)
	case got.MediaType != "" && listed.MediaType != "" && got.MediaType != listed.MediaType:
		return nil, got, errdefs.New(errdefs.DataLoss, "manifest %s came as %s, its index says %s", listed.Digest, got.MediaType, listed.MediaType)
	}
	got.MediaType = cmp.Or(listed.MediaType, got.MediaType)
	return raw, got, nil
}

func noPlatform(want ocispec.Platform, ix ocispec.Index) error {
	var have []string
	for _, d := range ix.Manifests {
		if d.Platform != nil && d.Platform.OS != "unknown" {
			have = append(have, platform.Format(*d.Platform))
		}
	}
	err := errdefs.New(errdefs.NotFound, "no matching manifest for %s in the manifest list entries", platform.Format(want))
	if len(have) == 0 {
		return err
	}
	slices.Sort(have)
	have = slices.Compact(have)
	return errdefs.Hint(err, "it exists for %s", have[:min(len(have), 20)])
}

// config fetches the configuration and puts the image together.
func (p *pull) config(ctx context.Context, desc ocispec.Descriptor, m ocispec.Manifest) (image.Image, error) {
	p.lease.Hold(m.Config.Digest)
	if err := p.t.fetchSmall(ctx, p.repo, m.Config); err != nil {
		return image.Image{}, fmt.Errorf("configuration: %w", err)
	}
	raw, err := p.t.Content.ReadAll(m.Config.Digest, image.MaxConfig)
	if err != nil {
		return image.Image{}, fmt.Errorf("configuration: %w", err)
	}
	img, err := image.New(desc, m, raw)
	if err != nil {
		return image.Image{}, err
	}
	return img, p.suits(img)
}

// suits refuses what cannot run here. A single image for another architecture
// is refused only if a platform was asked for, as in Docker.
func (p *pull) suits(img image.Image) error {
	have := img.Config.Platform
	if have.OS != "" && have.OS != p.want.OS {
		return errdefs.New(errdefs.NotImplemented, "the image is for %s, and cannot run on %s", have.OS, p.want.OS)
	}
	if p.o.Platform != nil && have.Architecture != "" && platform.Rank(p.want, have) == 0 {
		return errdefs.New(errdefs.NotFound, "image with reference %s was found but its platform (%s) does not match the specified platform (%s)", p.o.Ref.Familiar(), platform.Format(have), platform.Format(p.want))
	}
	return nil
}

// fetchSmall brings a blob that is no layer to disk.
func (t *Transfer) fetchSmall(ctx context.Context, from fetcher, desc ocispec.Descriptor) error {
	done, err := t.turns.take(ctx, desc.Digest, func() {})
	if err != nil {
		return err
	}
	defer done()
	if info, ok, err := t.Content.Has(desc.Digest); err != nil || ok && info.Size == desc.Size {
		return err
	}
	w, err := t.ingest(desc)
	if err != nil {
		return err
	}
	defer w.Close()
	nobody := downloading{&unpacking{pipe: pipe.New(0)}, func(int64) {}}
	nobody.pipe.Leave()
	if err := t.download(ctx, from, w, desc, nobody); err != nil {
		return errors.Join(err, w.Abort())
	}
	_, err = w.Commit()
	return err
}

// layersOf pairs the layers of a manifest with their DiffIDs.
func layersOf(img image.Image, m ocispec.Manifest) []layer {
	all := make([]layer, len(m.Layers))
	for i, d := range m.Layers {
		all[i] = layer{desc: d, diffID: img.Config.RootFS.DiffIDs[i]}
	}
	return all
}

// layers fetches all layers, the biggest first: the last to end should be a
// small one.
func (p *pull) layers(ctx context.Context, all []layer) error {
	for _, l := range all {
		p.lease.Hold(l.desc.Digest, l.diffID)
		p.rep.send(Progress{ID: image.ShortID(l.desc.Digest), Action: "Pulling fs layer"})
	}
	if err := p.fits(all); err != nil {
		return err
	}
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b layer) int { return cmp.Compare(b.desc.Size, a.desc.Size) })
	return p.t.each(ctx, all, func(ctx context.Context, l layer) error { return p.fetch(ctx, l) })
}

// fits makes room for the layers that are not there yet, packed and unpacked:
// for no less than twice what the manifest says.
func (p *pull) fits(all []layer) error {
	var need int64
	for _, l := range all {
		if _, ok, err := p.t.Content.Has(l.desc.Digest); err != nil {
			return err
		} else if !ok {
			need += 2 * l.desc.Size
		}
	}
	if need == 0 {
		return nil
	}
	return p.t.Images.Fits(need)
}

// fetch brings a layer to disk. A full disk is no reason to give up while space
// of what was removed comes back.
func (p *pull) fetch(ctx context.Context, l layer) error {
	since := p.t.Images.Emptied()
	err := p.t.fetchLayer(ctx, p.repo, l, p.rep)
	if !full(err) {
		return err
	}
	if again, emptyErr := p.t.Images.Reclaimed(since); !again {
		return errors.Join(err, emptyErr)
	}
	return p.t.fetchLayer(ctx, p.repo, l, p.rep)
}

// each calls fn for the layers, several at a time. The first error stops all.
func (t *Transfer) each(ctx context.Context, all []layer, fn func(context.Context, layer) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(t.Parallel)
	seen := map[layerKey]bool{}
	for _, l := range all {
		// The same layer twice in one image is common: the empty one.
		k := layerKey{l.desc.Digest, l.diffID}
		if seen[k] {
			continue
		}
		seen[k] = true
		g.Go(func() error { return fn(ctx, l) })
	}
	return g.Wait()
}

type layerKey struct{ blob, diffID digest.Digest }

// record makes the image known under its names.
func (p *pull) record(img image.Image, desc ocispec.Descriptor, layers []layer, target digest.Digest) (Result, error) {
	ref := p.o.Ref
	var names []imagestore.Name
	if p.o.From == nil {
		names = append(names, imagestore.Name{Ref: ref.WithDigest(target), Target: target, Remote: true})
	}
	if ref.Tag != "" && ref.Digest == "" {
		names = append(names, imagestore.Name{Ref: ref, Target: target})
	}
	res := Result{ID: img.ID, Manifest: desc.Digest, Target: target, New: true}
	if old, err := p.t.Images.Resolve(ref.Familiar()); err == nil && old.ID == img.ID && old.Manifest == desc.Digest {
		res.New = false
	}
	for _, n := range names {
		res.Names = append(res.Names, n.Ref.Familiar())
	}
	return res, p.t.Images.Put(recordOf(img, desc, layers), names...)
}

// recordOf is what the store remembers of an image.
func recordOf(img image.Image, desc ocispec.Descriptor, layers []layer) imagestore.Manifest {
	m := imagestore.Manifest{
		Descriptor: ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size},
		Config:     img.ID,
		Platform:   platform.Normalize(ocispec.Platform{OS: img.Config.OS, Architecture: img.Config.Architecture, Variant: img.Config.Variant}),
	}
	for _, l := range layers {
		m.Layers = append(m.Layers, imagestore.Layer{Blob: l.desc.Digest, MediaType: l.desc.MediaType, Size: l.desc.Size, DiffID: l.diffID})
	}
	return m
}
