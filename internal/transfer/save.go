package transfer

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/image"
	"lade/internal/imagestore"
	"lade/internal/reference"
)

// Saved is one image to save, and the names to save it under.
type Saved struct {
	Entry imagestore.Entry
	Names []reference.Reference
	// Single is set for one platform's image: its names lead to it and to no
	// index.
	Single bool
}

// Save writes images as an archive that is an OCI layout and has manifest.json
// too, as docker save does since version 25: both kinds of readers find what
// they know. Blobs go in as they are, so that all digests are the same after a
// Load. The same images give the same bytes.
func (t *Transfer) Save(ctx context.Context, w io.Writer, images []Saved) error {
	lease := t.Images.Lease()
	defer lease.Release()
	s := &save{t: t, tw: tar.NewWriter(w), index: ocispec.Index{MediaType: ocispec.MediaTypeImageIndex}}
	s.index.SchemaVersion = 2
	for _, one := range images {
		if err := s.include(lease, one.Entry.Record.Descriptor.Digest); err != nil {
			return fmt.Errorf("save images: %w", err)
		}
		for _, n := range one.Names {
			if err := s.include(lease, s.target(one, n).Digest); err != nil {
				return fmt.Errorf("save images: %w", err)
			}
		}
		if err := s.describe(one); err != nil {
			return fmt.Errorf("save images: %w", err)
		}
	}
	if err := s.write(ctx); err != nil {
		return fmt.Errorf("save images: %w", err)
	}
	return nil
}

// save is one Save under way.
type save struct {
	t      *Transfer
	tw     *tar.Writer
	blobs  []digest.Digest
	index  ocispec.Index
	docker []dockerImage
}

// include adds a manifest with all that it refers to. Of an index those images
// go in that are in the store, whole.
func (s *save) include(lease *imagestore.Lease, d digest.Digest) error {
	lease.Hold(d)
	raw, err := s.t.Content.ReadAll(d, image.MaxManifest)
	if err != nil {
		return err
	}
	blobs, manifests, err := image.Refers(raw, "")
	if err != nil {
		return err
	}
	s.blobs = append(s.blobs, d)
	for _, b := range blobs {
		lease.Hold(b.Digest)
		s.blobs = append(s.blobs, b.Digest)
	}
	for _, m := range manifests {
		switch whole, err := s.t.whole(lease, m); {
		case err != nil:
			return err
		case whole:
			if err := s.include(lease, m.Digest); err != nil {
				return err
			}
		}
	}
	return nil
}

// target returns what a name leads to: the manifest, or an index.
func (s *save) target(one Saved, name reference.Reference) ocispec.Descriptor {
	for _, r := range one.Entry.Refs {
		if r.Ref == name && !one.Single {
			return ocispec.Descriptor{Digest: r.Target}
		}
	}
	return one.Entry.Record.Descriptor
}

// describe adds an image to both tables of contents.
func (s *save) describe(one Saved) error {
	e := one.Entry
	d := dockerImage{Config: blobPath(e.ID), RepoTags: []string{}, Layers: []string{}}
	for _, l := range e.Record.Layers {
		d.Layers = append(d.Layers, blobPath(l.Blob))
	}
	for _, n := range one.Names {
		desc := s.target(one, n)
		if desc.MediaType == "" {
			raw, err := s.t.Content.ReadAll(desc.Digest, image.MaxManifest)
			if err != nil {
				return err
			}
			if desc.MediaType, err = image.MediaTypeOf(raw, ""); err != nil {
				return err
			}
			desc.Size = int64(len(raw))
		}
		d.RepoTags = append(d.RepoTags, n.Familiar())
		desc.Annotations = map[string]string{"io.containerd.image.name": n.String(), ocispec.AnnotationRefName: n.Tag}
		s.index.Manifests = append(s.index.Manifests, desc)
	}
	if len(one.Names) == 0 {
		s.index.Manifests = append(s.index.Manifests, e.Record.Descriptor)
	}
	s.docker = append(s.docker, d)
	return nil
}

func blobPath(d digest.Digest) string {
	return "blobs/" + strings.Replace(string(d), ":", "/", 1)
}

func (s *save) write(ctx context.Context) error {
	slices.Sort(s.blobs)
	for _, d := range slices.Compact(s.blobs) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.blob(d); err != nil {
			return err
		}
	}
	for _, f := range []struct {
		name string
		v    any
	}{{indexFile, s.index}, {manifestFile, s.docker}, {layoutFile, ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion}}} {
		raw, err := json.Marshal(f.v)
		if err != nil {
			return err
		}
		if err := s.file(f.name, int64(len(raw)), bytes.NewReader(raw)); err != nil {
			return err
		}
	}
	return s.tw.Close()
}

func (s *save) blob(d digest.Digest) error {
	b, err := s.t.Content.Open(d)
	if err != nil {
		return err
	}
	defer b.Close()
	return s.file(blobPath(d), b.Size(), b)
}

func (s *save) file(name string, size int64, r io.Reader) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size, ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}
	if size >= 1<<33 { // beyond what the classic header can say
		h.Format = tar.FormatPAX
	}
	if err := s.tw.WriteHeader(h); err != nil {
		return err
	}
	_, err := io.Copy(s.tw, r)
	return err
}
