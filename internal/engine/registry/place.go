package registry

import (
	"context"
	"path/filepath"
	"strings"

	"lade/internal/errdefs"
	"lade/internal/reference"
	"lade/internal/registry/auth"
	"lade/internal/transfer/copy"
)

// The kinds of places that images are copied between.
const (
	inRegistry      = "docker"
	inLayout        = "oci"
	inOCIArchive    = "oci-archive"
	inDockerArchive = "docker-archive"
	inStore         = "lade"
)

// place is one end of a copy.
type place struct {
	ref         reference.Reference // of a registry's image
	source      copy.Source
	target      copy.Target
	object, tag string
	stored      bool         // in the engine's store
	single      bool         // holds images of one platform
	inOrder     bool         // takes one blob after the other
	byDigest    bool         // gets no tag
	mount       []string     // repositories of the same registry that may have the blobs
	finish      func() error // when all went well
	close       func()
}

func nothing() error { return nil }

// parsePlace parts a place's kind from the rest.
func parsePlace(s string) (kind, path, tag string, err error) {
	kind, rest, ok := strings.Cut(s, ":")
	switch {
	case !ok:
	case kind == inRegistry && strings.HasPrefix(rest, "//"):
		return kind, strings.TrimPrefix(rest, "//"), "", nil
	case kind == inStore && rest != "":
		return kind, rest, "", nil
	case kind == inLayout || kind == inOCIArchive || kind == inDockerArchive:
		path, tag, _ = strings.Cut(rest, ":")
		if !filepath.IsAbs(path) {
			return "", "", "", errdefs.New(errdefs.Invalid, "%s: the path must be absolute", s)
		}
		return kind, filepath.Clean(path), tag, nil
	}
	return "", "", "", errdefs.Hint(errdefs.New(errdefs.Invalid, "%.200q is no place for images", s), "write docker://NAME, oci:DIRECTORY[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME] or, for the engine's store, lade:NAME")
}

func (o CopyOptions) credentials(ref reference.Reference) (auth.Credentials, error) {
	for of, a := range o.Auths {
		if auth.ServerDomain(of) == ref.Domain {
			return auth.FromDocker(&a, ref.Domain)
		}
	}
	return auth.Credentials{}, nil
}

func (s *Service) source(ctx context.Context, o CopyOptions) (place, error) {
	kind, path, tag, err := parsePlace(o.From)
	if err != nil {
		return place{}, err
	}
	archive := copy.ArchiveOptions{Limits: s.c.Transfer.Limits, Scratch: s.c.Scratch}
	switch kind {
	case inRegistry:
		ref, err := reference.Parse(path)
		if err != nil {
			return place{}, err
		}
		cred, err := o.credentials(ref)
		if err != nil {
			return place{}, err
		}
		src, err := s.c.Client.Source(ref, cred)
		return place{ref: ref, source: src, object: ref.Object(), tag: ref.Tag, close: func() {}}, err
	case inStore:
		i, err := s.c.Transfer.Stored(path)
		if err != nil {
			return place{}, err
		}
		p := place{source: i, stored: true, close: func() { _ = i.Close() }}
		if ref, err := reference.ParseName(path); err == nil {
			p.tag = ref.Tag
		}
		return p, nil
	case inOCIArchive:
		a, err := copy.OpenOCIArchive(ctx, path, archive)
		if err != nil {
			return place{}, err
		}
		return place{source: a, object: tag, tag: tag, close: func() { _ = a.Close() }}, nil
	case inDockerArchive:
		a, err := copy.OpenDockerArchive(ctx, path, archive)
		if err != nil {
			return place{}, err
		}
		p := place{source: a, object: tag, close: func() { _ = a.Close() }}
		if ref, err := reference.Parse(tag); err == nil {
			p.tag = ref.Tag
		}
		return p, nil
	}
	l, err := copy.OpenLayout(path)
	if err != nil {
		return place{}, err
	}
	return place{source: l, object: tag, tag: tag, close: func() { _ = l.Close() }}, nil
}

func (s *Service) target(ctx context.Context, o CopyOptions, from place) (place, error) {
	kind, path, tag, err := parsePlace(o.To)
	if err != nil {
		return place{}, err
	}
	switch kind {
	case inRegistry:
		ref, err := reference.Parse(path)
		if err != nil {
			return place{}, err
		}
		if ref.Digest != "" && (string(ref.Digest) != from.object || o.Platform != "") {
			return place{}, errdefs.New(errdefs.Invalid, "copy to %s: a digest cannot be chosen", o.To)
		}
		cred, err := o.credentials(ref)
		if err != nil {
			return place{}, err
		}
		var mount []string
		if from.ref.Domain == ref.Domain && from.ref.Path != ref.Path {
			mount = []string{from.ref.Path}
		}
		repo, err := s.c.Client.Target(ref, cred, mount...)
		if err == nil {
			err = repo.Connect(ctx)
		}
		return place{target: repo, tag: ref.Tag, byDigest: ref.Digest != "", mount: mount, finish: nothing, close: func() {}}, err
	case inOCIArchive:
		a, err := copy.PackOCI(path)
		if err != nil {
			return place{}, err
		}
		return place{target: a, tag: tag, inOrder: true, finish: a.Finish, close: func() { _ = a.Close() }}, nil
	case inDockerArchive:
		name := reference.Reference{}
		if tag != "" {
			if name, err = reference.Parse(tag); err != nil {
				return place{}, err
			}
			tag = name.Familiar()
		}
		a, err := copy.PackDocker(path, tag)
		if err != nil {
			return place{}, err
		}
		return place{target: a, tag: name.Tag, single: true, inOrder: true, finish: a.Finish, close: func() { _ = a.Close() }}, nil
	}
	l, err := copy.MakeLayout(path)
	if err != nil {
		return place{}, err
	}
	return place{target: l, tag: tag, finish: nothing, close: func() { _ = l.Close() }}, nil
}
