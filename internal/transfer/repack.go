package transfer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"lade/internal/content"
	"lade/internal/errdefs"
	"lade/internal/ident"
	"lade/internal/image"
)

// ParseCompression reads the name of what layers are to be packed with; the
// empty one leaves them as they are.
func ParseCompression(s string) (image.Compression, error) {
	switch c := image.Compression(s); c {
	case image.Plain, image.Gzip, image.Zstd:
		return c, nil
	}
	return "", errdefs.Hint(errdefs.New(errdefs.Invalid, "invalid compression %.50q", s), "choose gzip or zstd")
}

// repacking makes images with differently packed layers of those that are
// pushed. Configurations, and so image ids, stay; digests of manifests do not.
type repacking struct {
	p  *push
	to image.Compression

	mu   sync.Mutex
	made map[digest.Digest]ocispec.Descriptor // by the old digest; guarded by mu
}

// repack packs the layers of all that is to be pushed as was asked for. What is
// made for that is in the store until the push ends. The same layer gives the
// same bytes, so that a registry that has them gets nothing twice.
func (p *push) repack(ctx context.Context) error {
	r := &repacking{p: p, to: p.o.Compression, made: map[digest.Digest]ocispec.Descriptor{}}
	if err := r.layers(ctx); err != nil {
		return err
	}
	for i, m := range p.manifests {
		raw, mediaType, err := r.document(m)
		if err != nil {
			return fmt.Errorf("manifest %s: %w", m.desc.Digest, err)
		}
		if raw == nil {
			continue
		}
		d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
		r.made[m.desc.Digest] = d
		p.manifests[i] = document{d, raw}
	}
	for i, b := range p.blobs {
		if d, ok := r.made[b.Digest]; ok {
			p.blobs[i], p.layers[d.Digest] = d, true
		}
	}
	return nil
}

// layers packs each layer that is packed otherwise.
func (r *repacking) layers(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(r.p.t.Parallel)
	begun := map[digest.Digest]bool{}
	for _, m := range r.p.manifests {
		parsed, err := image.ParseManifest(m.raw, m.desc.MediaType)
		if err != nil {
			continue // an index, or no image: nothing in it is a layer
		}
		raw, err := r.p.t.Content.ReadAll(parsed.Config.Digest, image.MaxConfig)
		if err != nil {
			return err
		}
		img, err := image.New(m.desc, parsed, raw)
		if err != nil {
			return err
		}
		for _, l := range layersOf(img, parsed) {
			packed, err := image.LayerCompression(l.desc.MediaType)
			if err != nil {
				return err
			}
			if packed == r.to || begun[l.desc.Digest] {
				continue
			}
			begun[l.desc.Digest] = true
			g.Go(func() error {
				d, err := r.layer(ctx, l)
				if err != nil {
					return fmt.Errorf("layer %s: %w", image.ShortID(l.desc.Digest), err)
				}
				r.mu.Lock()
				defer r.mu.Unlock()
				r.made[l.desc.Digest] = d
				return nil
			})
		}
	}
	return g.Wait()
}

// layer packs one layer anew. It must unpack to what the configuration says:
// damage would get a good digest otherwise.
func (r *repacking) layer(ctx context.Context, l layer) (desc ocispec.Descriptor, err error) {
	t := r.p.t
	b, err := t.Content.Open(l.desc.Digest)
	if err != nil {
		return desc, err
	}
	defer b.Close()
	w, err := t.Content.Ingest(content.Expect{Name: ident.New(), Limit: t.Limits.Layer})
	if err != nil {
		return desc, err
	}
	z, err := compressor(w, r.to)
	if err != nil {
		return desc, errors.Join(err, w.Abort())
	}
	note := r.p.rep.counting(image.ShortID(l.desc.Digest), "Compressing", l.desc.Size)
	err = t.unpackInto(ctx, l, b, note, func(ctx context.Context, want digest.Digest, tar io.Reader) error {
		h := want.Algorithm().Digester()
		if _, err := io.Copy(io.MultiWriter(z, h.Hash()), tar); err != nil {
			return err
		}
		if got := h.Digest(); got != want {
			return errdefs.Hint(errdefs.New(errdefs.DataLoss, "it unpacks to %s, not to %s", got, want), "lade system check --repair fetches it again")
		}
		return ctx.Err()
	})
	if err = errors.Join(err, z.Close()); err != nil {
		return desc, errors.Join(err, w.Abort())
	}
	r.p.lease.Hold(w.Sum())
	info, err := w.Commit()
	return ocispec.Descriptor{MediaType: entry{packed: r.to}.layerType(), Digest: info.Digest, Size: info.Size}, err
}

// compressor packs what is written to it, the same bytes always the same.
func compressor(w io.Writer, c image.Compression) (io.WriteCloser, error) {
	if c == image.Zstd {
		return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
	}
	return gzip.NewWriterLevel(w, gzip.DefaultCompression)
}

// document returns a manifest or index that refers to what was made; nil if it
// refers to none of that. Fields that Lade does not know stay. Zstd exists in
// OCI's format only, so Docker's becomes that.
func (r *repacking) document(m document) (raw []byte, mediaType string, err error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(m.raw, &fields); err != nil {
		return nil, "", err
	}
	list := "layers"
	if image.IsIndex(m.desc.MediaType) {
		list = "manifests"
	}
	var entries []map[string]json.RawMessage
	if err := json.Unmarshal(fields[list], &entries); err != nil {
		return nil, "", err
	}
	changed := false
	for _, e := range entries {
		done, err := r.entry(e)
		if err != nil {
			return nil, "", err
		}
		changed = changed || done
	}
	if !changed {
		return nil, "", nil
	}
	mediaType = ocispec.MediaTypeImageManifest
	if list == "manifests" {
		mediaType = ocispec.MediaTypeImageIndex
	} else if err := r.toOCI(fields, entries); err != nil {
		return nil, "", err
	}
	if fields[list], err = json.Marshal(entries); err != nil {
		return nil, "", err
	}
	if fields["mediaType"], err = json.Marshal(mediaType); err != nil {
		return nil, "", err
	}
	raw, err = json.Marshal(fields)
	return raw, mediaType, err
}

// entry makes a descriptor refer to what was made. That of an attestation names
// the image in an annotation.
func (r *repacking) entry(e map[string]json.RawMessage) (bool, error) {
	const attested = "vnd.docker.reference.digest"
	var d ocispec.Descriptor
	whole, err := json.Marshal(e)
	if err == nil {
		err = json.Unmarshal(whole, &d)
	}
	if err != nil {
		return false, err
	}
	set := func(key string, v any) {
		raw, e2 := json.Marshal(v)
		e[key], err = raw, errors.Join(err, e2)
	}
	if n, ok := r.made[digest.Digest(d.Annotations[attested])]; ok {
		d.Annotations[attested] = string(n.Digest)
		set("annotations", d.Annotations)
		return true, err
	}
	n, ok := r.made[d.Digest]
	if !ok {
		return false, nil
	}
	set("mediaType", n.MediaType)
	set("digest", n.Digest)
	set("size", n.Size)
	return true, err
}

// toOCI gives a manifest's other parts the types of OCI's format.
func (r *repacking) toOCI(fields map[string]json.RawMessage, layers []map[string]json.RawMessage) error {
	var config map[string]json.RawMessage
	if err := json.Unmarshal(fields["config"], &config); err != nil {
		return err
	}
	for _, d := range append(slices.Clone(layers), config) {
		var mt string
		if err := json.Unmarshal(d["mediaType"], &mt); err != nil {
			return err
		}
		want := mt
		if mt == image.DockerConfig {
			want = ocispec.MediaTypeImageConfig
		} else if packed, err := image.LayerCompression(mt); err == nil {
			want = entry{packed: packed}.layerType()
		}
		raw, err := json.Marshal(want)
		if err != nil {
			return err
		}
		d["mediaType"] = raw
	}
	var err error
	fields["config"], err = json.Marshal(config)
	return err
}
