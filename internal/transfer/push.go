package transfer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/moby/moby/api/types/auxprogress"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/imagestore"
	"lade/internal/platform"
	"lade/internal/reference"
	"lade/internal/registry/auth"
	"lade/internal/registry/client"
)

// PushOptions says what to push, and as whom.
type PushOptions struct {
	// Ref is the name to push to; it has a tag.
	Ref reference.Reference
	// Entry is the image, Manifest the one of its manifests that the name leads
	// to, and Target that manifest, or an index on the way.
	Entry            imagestore.Entry
	Manifest, Target digest.Digest
	// Platform, where set, is the one to push of an index, without the index.
	Platform    *ocispec.Platform
	Credentials auth.Credentials
	// Compression is how layers are to be packed in the registry; empty: as they
	// are. Others change the digests there.
	Compression image.Compression
}

// Pushed is what a registry now has under the tag. Its fields are Docker's
// (PushResult).
type Pushed struct {
	Tag    string
	Digest digest.Digest
	Size   int
}

// Push brings an image to its registry, byte for byte as it is in the store, so
// that all digests stay, unless another compression is asked for. What the registry has is not sent again; what it has
// in another repository is mounted from there. The tag comes last: whoever
// pulls it meanwhile gets the old image or the new one, whole.
func (t *Transfer) Push(ctx context.Context, o PushOptions, progress func(Progress)) (Pushed, error) {
	p := &push{t: t, o: o, rep: newReporter(progress), lease: t.Images.Lease()}
	res, err := p.run(ctx)
	if o.Compression == image.Plain {
		p.lease.Release()
	} else {
		err = errors.Join(err, p.lease.Discard()) // what was packed anew is the registry's only
	}
	if err != nil {
		return Pushed{}, fmt.Errorf("push %s: %w", o.Ref.Familiar(), err)
	}
	return res, nil
}

// push is one Push under way.
type push struct {
	t     *Transfer
	o     PushOptions
	rep   *reporter
	lease *imagestore.Lease
	repo  *client.Repository
	// mounts says which other repositories of the registry have a blob.
	mounts map[digest.Digest][]string

	blobs     []ocispec.Descriptor
	layers    map[digest.Digest]bool
	manifests []document // children before those that refer to them
}

// document is a manifest or an index.
type document struct {
	desc ocispec.Descriptor
	raw  []byte
}

func (p *push) run(ctx context.Context) (Pushed, error) {
	p.rep.send(Progress{Action: "The push refers to repository [" + p.o.Ref.Name() + "]"})
	repos, err := p.elsewhere()
	if err != nil {
		return Pushed{}, err
	}
	if p.repo, err = p.t.Client.Target(p.o.Ref, p.o.Credentials, repos...); err != nil {
		return Pushed{}, err
	}
	if err := p.repo.Connect(ctx); err != nil {
		return Pushed{}, err
	}
	top, instead, err := p.choose(ctx)
	if err != nil {
		return Pushed{}, err
	}
	if p.o.Compression != image.Plain {
		if err := p.repack(ctx); err != nil {
			return Pushed{}, err
		}
		was := top.desc.Digest
		if top = p.manifests[len(p.manifests)-1]; top.desc.Digest != was {
			p.rep.send(Progress{Action: fmt.Sprintf("Layers are packed anew with %s: the digest in the registry is %s, not %s", p.o.Compression, top.desc.Digest, was)})
		}
	}
	if err := p.sendBlobs(ctx); err != nil {
		return Pushed{}, err
	}
	for _, m := range p.manifests {
		tag := ""
		if m.desc.Digest == top.desc.Digest {
			tag = p.o.Ref.Tag
		}
		if err := p.repo.PutManifest(ctx, tag, m.desc, m.raw); err != nil {
			return Pushed{}, err
		}
	}
	if err := p.known(top.desc.Digest); err != nil {
		return Pushed{}, err
	}
	res := Pushed{p.o.Ref.Tag, top.desc.Digest, len(top.raw)}
	p.rep.send(Progress{Action: fmt.Sprintf("%s: digest: %s size: %d", res.Tag, res.Digest, res.Size)})
	p.rep.send(Progress{Aux: res})
	if instead != nil {
		p.rep.send(Progress{Aux: instead})
	}
	return res, nil
}

// elsewhere finds what the registry has in other repositories: an image has a
// name by digest in each repository that it was pulled from or pushed to.
func (p *push) elsewhere() ([]string, error) {
	const most = 3 // each costs a scope of the token, and a request for each blob
	list, err := p.t.Images.List()
	if err != nil {
		return nil, err
	}
	p.mounts = map[digest.Digest][]string{}
	var repos []string
	for _, e := range list {
		for _, r := range e.Refs {
			if r.Ref.Digest == "" || r.Ref.Domain != p.o.Ref.Domain || r.Ref.Path == p.o.Ref.Path {
				continue
			}
			if !slices.Contains(repos, r.Ref.Path) {
				if !p.shares(e) || len(repos) == most {
					continue
				}
				repos = append(repos, r.Ref.Path)
			}
			for _, l := range append([]imagestore.Layer{{Blob: e.Record.Config}}, e.Record.Layers...) {
				if !slices.Contains(p.mounts[l.Blob], r.Ref.Path) {
					p.mounts[l.Blob] = append(p.mounts[l.Blob], r.Ref.Path)
				}
			}
		}
	}
	return repos, nil
}

// shares reports whether an image has a layer of the one that is pushed.
func (p *push) shares(e imagestore.Entry) bool {
	return slices.ContainsFunc(e.Record.Layers, func(l imagestore.Layer) bool {
		return slices.ContainsFunc(p.o.Entry.Record.Layers, func(own imagestore.Layer) bool { return own.Blob == l.Blob })
	})
}

// choose decides what gets the tag, and gathers all that belongs to it. Of an
// index of which not all is there, as after a pull for one platform, the one
// image that is there goes without the index, as in Docker.
func (p *push) choose(ctx context.Context) (document, *auxprogress.ManifestPushedInsteadOfIndex, error) {
	top, err := p.document(ocispec.Descriptor{Digest: p.o.Target})
	if err != nil {
		return document{}, nil, err
	}
	if !image.IsIndex(top.desc.MediaType) {
		if p.o.Platform != nil && platform.Rank(*p.o.Platform, p.o.Entry.Record.Platform) == 0 {
			return document{}, nil, errdefs.New(errdefs.NotFound, "image with reference %s was found but does not provide the specified platform (%s)", p.o.Ref.Familiar(), platform.Format(*p.o.Platform))
		}
		return top, nil, p.gather(top)
	}
	here, missing, err := p.members(ctx, top)
	if err != nil {
		return document{}, nil, err
	}
	switch {
	case p.o.Platform != nil:
		d, ok := platform.Choose(*p.o.Platform, here)
		if !ok {
			return document{}, nil, noPlatform(*p.o.Platform, ocispec.Index{Manifests: here})
		}
		one, err := p.document(d)
		if err != nil {
			return document{}, nil, err
		}
		return one, nil, p.gather(one)
	case missing == 0:
		for _, d := range here {
			one, err := p.document(d)
			if err == nil {
				err = p.gather(one)
			}
			if err != nil {
				return document{}, nil, err
			}
		}
		p.manifests = append(p.manifests, top)
		return top, nil, nil
	}
	images := slices.DeleteFunc(here, func(d ocispec.Descriptor) bool { return d.Annotations["vnd.docker.reference.type"] != "" })
	if len(images) != 1 {
		p.rep.send(Progress{Aux: auxprogress.ContentMissing{ContentMissing: true, Desc: top.desc}})
		return document{}, nil, errdefs.Hint(errdefs.New(errdefs.NotFound, "%d of the images that the index %s lists are neither here nor in the registry", missing, top.desc.Digest), "push one platform with --platform, or pull the others first")
	}
	one, err := p.document(images[0])
	if err != nil {
		return document{}, nil, err
	}
	return one, &auxprogress.ManifestPushedInsteadOfIndex{ManifestPushedInsteadOfIndex: true, OriginalIndex: top.desc, SelectedManifest: one.desc}, p.gather(one)
}

// members returns those entries of an index that are in the store, whole, and
// how many are neither there nor in the repository.
func (p *push) members(ctx context.Context, index document) (here []ocispec.Descriptor, missing int, err error) {
	_, all, err := image.Refers(index.raw, index.desc.MediaType)
	if err != nil {
		return nil, 0, err
	}
	for _, d := range all {
		whole, err := p.t.whole(p.lease, d)
		if err != nil {
			return nil, 0, err
		}
		if whole {
			here = append(here, d)
			continue
		}
		if p.o.Platform != nil {
			continue
		}
		there, err := p.repo.HasManifest(ctx, d)
		if err != nil {
			return nil, 0, err
		}
		if !there {
			missing++
		}
	}
	return here, missing, nil
}

// whole reports whether a manifest is in the store with all that it refers to.
func (t *Transfer) whole(lease *imagestore.Lease, d ocispec.Descriptor) (bool, error) {
	lease.Hold(d.Digest)
	if _, ok, err := t.Content.Has(d.Digest); err != nil || !ok {
		return false, err
	}
	raw, err := t.Content.ReadAll(d.Digest, image.MaxManifest)
	if err != nil {
		return false, err
	}
	blobs, manifests, err := image.Refers(raw, d.MediaType)
	if err != nil || len(manifests) > 0 {
		return false, err // an index in an index is passed over
	}
	for _, b := range blobs {
		lease.Hold(b.Digest)
		if _, ok, err := t.Content.Has(b.Digest); err != nil || !ok {
			return false, err
		}
	}
	return true, nil
}

// document reads a manifest or index from the store.
func (p *push) document(d ocispec.Descriptor) (document, error) {
	p.lease.Hold(d.Digest)
	raw, err := p.t.Content.ReadAll(d.Digest, image.MaxManifest)
	if err != nil {
		return document{}, err
	}
	mt, err := image.MediaTypeOf(raw, d.MediaType)
	return document{ocispec.Descriptor{MediaType: mt, Digest: d.Digest, Size: int64(len(raw))}, raw}, err
}

// gather adds one image to what goes.
func (p *push) gather(m document) error {
	blobs, _, err := image.Refers(m.raw, m.desc.MediaType)
	if err != nil {
		return err
	}
	if p.layers == nil {
		p.layers = map[digest.Digest]bool{}
	}
	for i, b := range blobs {
		p.lease.Hold(b.Digest)
		if i > 0 && !p.layers[b.Digest] {
			p.layers[b.Digest] = true
			p.rep.send(Progress{ID: image.ShortID(b.Digest), Action: "Preparing"})
		}
		if !slices.ContainsFunc(p.blobs, func(o ocispec.Descriptor) bool { return o.Digest == b.Digest }) {
			p.blobs = append(p.blobs, b)
		}
	}
	p.manifests = append(p.manifests, m)
	return nil
}

// sendBlobs sends all blobs, several at once, the biggest first.
func (p *push) sendBlobs(ctx context.Context) error {
	slices.SortStableFunc(p.blobs, func(a, b ocispec.Descriptor) int { return cmp.Compare(b.Size, a.Size) })
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(p.t.Parallel)
	for _, b := range p.blobs {
		g.Go(func() error { return p.sendBlob(ctx, b) })
	}
	return g.Wait()
}

func (p *push) sendBlob(ctx context.Context, d ocispec.Descriptor) error {
	id := image.ShortID(d.Digest)
	say := func(action string) {
		if p.layers[d.Digest] {
			p.rep.send(Progress{ID: id, Action: action})
		}
	}
	there, err := p.repo.HasBlob(ctx, d)
	if err != nil {
		return err
	}
	if there {
		say("Layer already exists")
		return nil
	}
	o := client.UploadOptions{From: p.mounts[d.Digest]}
	if p.layers[d.Digest] {
		o.Note = p.rep.counting(id, "Pushing", d.Size)
	}
	from, err := p.repo.Upload(ctx, d, p.opener(d), o)
	switch {
	case errdefs.Is(err, errdefs.Invalid):
		// Is it the registry that is wrong, or are these not the bytes?
		if damage := p.t.Content.Verify(d.Digest); damage != nil {
			return damage
		}
		return err
	case err != nil:
		return err
	case from != "":
		say("Mounted from " + from)
	default:
		say("Pushed")
	}
	return nil
}

// opener opens a blob of the store.
func (p *push) opener(d ocispec.Descriptor) client.Opener {
	return func(_ context.Context, offset int64) (io.ReadCloser, error) { return openBlob(p.t.Content, d, offset) }
}

// known records the digest under which the registry has the image.
func (p *push) known(target digest.Digest) error {
	if target != p.o.Target && target != p.o.Manifest {
		return nil // a platform whose image has a record of its own
	}
	return p.t.Images.Known(p.o.Manifest, imagestore.Name{Ref: p.o.Ref.WithDigest(target), Target: target, Remote: true})
}
