package image

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	spec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/errdefs"
	"lade/internal/image/change"
	"lade/internal/imagestore"
	"lade/internal/platform"
	"lade/internal/reference"
	"lade/internal/transfer"
)

// ImportOptions says what becomes of the archive.
type ImportOptions struct {
	Name     string   // of the image; empty: none
	Message  string   // of the layer's history
	Changes  []string // instructions of a Dockerfile for the configuration
	Platform string   // os/architecture[/variant]; empty: the engine's own
}

// Import makes an image of the tar of a root file system, and returns its id.
func (s *Service) Import(ctx context.Context, tar io.Reader, o ImportOptions) (string, error) {
	var names []reference.Reference
	if o.Name != "" {
		ref, err := reference.Parse(o.Name)
		if err != nil {
			return "", err
		}
		if ref.Digest != "" {
			return "", errdefs.With(errdefs.Invalid, errors.New("cannot import digest reference"))
		}
		names = append(names, ref)
	}
	p := s.c.Platform
	if o.Platform != "" {
		var err error
		if p, err = platform.Parse(o.Platform, p); err != nil {
			return "", err
		}
	}
	if o.Message == "" {
		o.Message = "Imported from -"
	}
	now := time.Now().UTC()
	var config spec.DockerOCIImage
	config.Created, config.Platform = &now, p
	config.History = []ocispec.History{{Created: &now, Comment: o.Message}}
	if err := change.Apply(&config.Config, o.Changes); err != nil {
		return "", err
	}
	res, err := s.c.Transfer.Import(ctx, tar, config, names...)
	return string(res.ID), err
}

// Save writes images as an archive that Load, docker load and OCI tools read.
// An image that is given by name is saved under that name; a repository without
// a tag stands for all its tags. With a platform, that one's image is saved of
// each, without the index that it is in.
func (s *Service) Save(ctx context.Context, refs []string, p *ocispec.Platform, w io.Writer) error {
	if len(refs) == 0 {
		return errdefs.New(errdefs.Invalid, "save: no image is named")
	}
	var all []transfer.Saved
	add := func(e imagestore.Entry, names ...reference.Reference) {
		for i := range all {
			if all[i].Entry.ID == e.ID {
				all[i].Names = append(all[i].Names, names...)
				return
			}
		}
		all = append(all, transfer.Saved{Entry: e, Names: names, Single: p != nil})
	}
	for _, ref := range refs {
		list, err := s.saved(ctx, ref)
		if err != nil {
			return err
		}
		for _, one := range list {
			if p != nil {
				if one.Entry, err = s.forPlatform(one, ref, *p); err != nil {
					return err
				}
			}
			add(one.Entry, one.Names...)
		}
	}
	return s.c.Transfer.Save(ctx, w, all)
}

// saved returns the images that a text means, each with the name it has in it.
func (s *Service) saved(ctx context.Context, ref string) ([]transfer.Saved, error) {
	bare, err := reference.ParseName(ref)
	if err == nil && bare.Tag == "" && bare.Digest == "" {
		list, err := s.c.Images.List()
		if err != nil {
			return nil, err
		}
		var found []transfer.Saved
		for _, e := range list {
			for _, r := range e.Refs {
				if r.Ref.Tag != "" && sameRepository(r.Ref, bare) {
					found = append(found, transfer.Saved{Entry: e, Names: []reference.Reference{r.Ref}})
				}
			}
		}
		if len(found) > 0 {
			return found, nil
		}
	}
	e, err := s.resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	if name, ok := nameIn(e, ref); ok && name.Digest == "" {
		return []transfer.Saved{{Entry: e, Names: []reference.Reference{name}}}, nil
	}
	return []transfer.Saved{{Entry: e}}, nil
}

// forPlatform returns the image for a platform among those of the same name.
func (s *Service) forPlatform(one transfer.Saved, ref string, p ocispec.Platform) (imagestore.Entry, error) {
	if platform.Rank(p, one.Entry.Record.Platform) > 0 && sameArch(p, one.Entry.Record.Platform) {
		return one.Entry, nil
	}
	for _, r := range one.Entry.Refs {
		if !slices.Contains(one.Names, r.Ref) || r.Target == r.Manifest {
			continue
		}
		raw, err := s.c.Transfer.Content.ReadAll(r.Target, 4<<20)
		if err != nil {
			return imagestore.Entry{}, err
		}
		var ix ocispec.Index
		if err := json.Unmarshal(raw, &ix); err != nil {
			return imagestore.Entry{}, errdefs.New(errdefs.DataLoss, "index %s: %w", r.Target, err)
		}
		if d, ok := platform.Choose(p, ix.Manifests); ok {
			if e, err := s.c.Images.Resolve(string(d.Digest)); err == nil {
				return e, nil
			}
		}
	}
	return imagestore.Entry{}, errdefs.Hint(errdefs.New(errdefs.NotFound, "image with reference %s was found but does not provide the specified platform (%s)", ref, platform.Format(p)), "pull it first: lade pull --platform %s %s", platform.Format(p), strings.TrimSpace(ref))
}

func sameArch(a, b ocispec.Platform) bool {
	return platform.Normalize(a).Architecture == platform.Normalize(b).Architecture
}
