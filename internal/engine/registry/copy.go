package registry

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/platform"
	"lade/internal/reference"
	"lade/internal/registry/auth"
	"lade/internal/registry/client"
	"lade/internal/transfer"
	"lade/internal/transfer/copy"
)

// CopyOptions says what to copy, and as whom.
type CopyOptions struct {
	// From and To are docker://NAME, oci:DIRECTORY[:TAG] or
	// oci-archive:FILE[:TAG]; paths are absolute.
	From, To string
	Platform string                         // empty: all platforms of an index
	Auths    map[string]registry.AuthConfig // by registry
}

// Copy copies an image from one place to another, without unpacking it and
// without the store, and returns its digest.
func (s *Service) Copy(ctx context.Context, o CopyOptions, progress func(transfer.Progress)) (string, error) {
	var p *ocispec.Platform
	if o.Platform != "" {
		one, err := platform.Parse(o.Platform, ocispec.Platform{OS: "linux"})
		if err != nil {
			return "", err
		}
		p = &one
	}
	from, err := s.source(o)
	if err != nil {
		return "", err
	}
	defer from.close()
	if err := s.trusted(ctx, &from); err != nil {
		return "", fmt.Errorf("copy %s to %s: %w", o.From, o.To, err)
	}
	to, err := s.target(ctx, o)
	if err != nil {
		return "", err
	}
	defer to.close()
	tag := to.tag
	if tag == "" {
		tag = from.tag
	}
	desc, err := copy.Copy(ctx, from.source, to.target, copy.Options{
		Object: from.object, Tag: tag, Platform: p,
		Progress: func(d ocispec.Descriptor, action string, n int64) {
			progress(transfer.Progress{ID: image.ShortID(d.Digest), Action: action, Current: n, Total: d.Size})
		},
	})
	if err == nil {
		err = to.finish()
	}
	if err != nil {
		return "", fmt.Errorf("copy %s to %s: %w", o.From, o.To, err)
	}
	progress(transfer.Progress{Action: "Digest: " + string(desc.Digest)})
	return string(desc.Digest), nil
}

// trusted asks the policy whether an image may be copied. What it was asked
// about, by digest, is what is copied.
func (s *Service) trusted(ctx context.Context, from *place) error {
	if from.ref == (reference.Reference{}) {
		return s.c.Trust.CheckArchive()
	}
	_, desc, err := from.source.Manifest(ctx, from.object)
	if err != nil {
		return err
	}
	from.object = string(desc.Digest)
	return s.c.Trust.Check(ctx, from.ref, from.source, desc.Digest)
}

// place is one end of a copy.
type place struct {
	ref         reference.Reference // of a registry's image
	source      copy.Source
	target      copy.Target
	object, tag string
	finish      func() error // when all went well
	close       func()
}

func nothing() error { return nil }

// parsePlace parts a place's kind from the rest.
func parsePlace(s string) (kind, path, tag string, err error) {
	kind, rest, ok := strings.Cut(s, ":")
	switch {
	case !ok:
	case kind == "docker" && strings.HasPrefix(rest, "//"):
		return kind, strings.TrimPrefix(rest, "//"), "", nil
	case kind == "oci" || kind == "oci-archive":
		path, tag, _ = strings.Cut(rest, ":")
		if !filepath.IsAbs(path) {
			return "", "", "", errdefs.New(errdefs.Invalid, "%s: the path must be absolute", s)
		}
		return kind, filepath.Clean(path), tag, nil
	}
	return "", "", "", errdefs.Hint(errdefs.New(errdefs.Invalid, "%.200q is no place for images", s), "write docker://NAME, oci:DIRECTORY[:TAG] or oci-archive:FILE[:TAG]")
}

func (o CopyOptions) credentials(ref reference.Reference) (auth.Credentials, error) {
	for of, a := range o.Auths {
		if auth.ServerDomain(of) == ref.Domain {
			return auth.FromDocker(&a, ref.Domain)
		}
	}
	return auth.Credentials{}, nil
}

func (s *Service) source(o CopyOptions) (place, error) {
	kind, path, tag, err := parsePlace(o.From)
	if err != nil {
		return place{}, err
	}
	switch kind {
	case "docker":
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
	case "oci-archive":
		dir, err := os.MkdirTemp(filepath.Dir(path), ".tmp-copy-")
		if err != nil {
			return place{}, fmt.Errorf("copy %s: %w", o.From, err)
		}
		if err := extract(path, dir); err != nil {
			return place{}, errors.Join(fmt.Errorf("copy %s: %w", o.From, err), os.RemoveAll(dir))
		}
		l, err := copy.OpenLayout(dir)
		if err != nil {
			return place{}, errors.Join(err, os.RemoveAll(dir))
		}
		return place{source: l, object: tag, tag: tag, close: func() { _ = l.Close(); _ = os.RemoveAll(dir) }}, nil
	}
	l, err := copy.OpenLayout(path)
	if err != nil {
		return place{}, err
	}
	return place{source: l, object: tag, tag: tag, close: func() { _ = l.Close() }}, nil
}

func (s *Service) target(ctx context.Context, o CopyOptions) (place, error) {
	kind, path, tag, err := parsePlace(o.To)
	if err != nil {
		return place{}, err
	}
	switch kind {
	case "docker":
		ref, err := reference.Parse(path)
		if err != nil {
			return place{}, err
		}
		if ref.Digest != "" {
			return place{}, errdefs.New(errdefs.Invalid, "copy to %s: a digest cannot be chosen", o.To)
		}
		cred, err := o.credentials(ref)
		if err != nil {
			return place{}, err
		}
		repo, err := s.c.Client.Target(ref, cred)
		if err == nil {
			err = repo.Connect(ctx)
		}
		return place{target: repo, tag: ref.Tag, finish: nothing, close: func() {}}, err
	case "oci-archive":
		dir, err := os.MkdirTemp(filepath.Dir(path), ".tmp-copy-")
		if err != nil {
			return place{}, fmt.Errorf("copy to %s: %w", o.To, err)
		}
		l, err := copy.MakeLayout(dir)
		if err != nil {
			return place{}, errors.Join(err, os.RemoveAll(dir))
		}
		return place{target: l, tag: tag, finish: func() error { return pack(dir, path) }, close: func() { _ = l.Close(); _ = os.RemoveAll(dir) }}, nil
	}
	l, err := copy.MakeLayout(path)
	if err != nil {
		return place{}, err
	}
	return place{target: l, tag: tag, finish: nothing, close: func() { _ = l.Close() }}, nil
}

// extract takes the files of an OCI layout out of a plain tar.
func extract(archive, dir string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	tr := tar.NewReader(f)
	for n := 0; ; n++ {
		h, err := tr.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return errdefs.New(errdefs.DataLoss, "read the archive: %w", err)
		case n > 100000:
			return errdefs.New(errdefs.Exhausted, "the archive has more than %d entries", n)
		case h.Typeflag != tar.TypeReg:
			continue
		}
		name := filepath.Clean(h.Name)
		if name != ocispec.ImageIndexFile && name != ocispec.ImageLayoutFile && !strings.HasPrefix(name, "blobs/") {
			continue
		}
		if err := root.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			return err
		}
		out, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(out, tr)
		if err = errors.Join(err, out.Close()); err != nil {
			return err
		}
	}
}

// pack makes an archive of a layout; the same layout makes the same archive.
func pack(dir, archive string) error {
	var names []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			names = append(names, path)
		}
		return err
	})
	if err != nil {
		return err
	}
	slices.Sort(names)
	tmp, err := os.CreateTemp(filepath.Dir(archive), ".tmp-archive-")
	if err != nil {
		return err
	}
	w := tar.NewWriter(tmp)
	for _, name := range names {
		if err = packOne(w, dir, name); err != nil {
			break
		}
	}
	if err = errors.Join(err, w.Close(), tmp.Sync(), tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), archive)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
	}
	return err
}

func packOne(w *tar.Writer, dir, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	rel, err := filepath.Rel(dir, name)
	if err != nil {
		return err
	}
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: rel, Mode: 0o644, Size: info.Size(), ModTime: time.Unix(0, 0)}); err != nil {
		return err
	}
	_, err = io.Copy(w, f)
	return err
}

// remote returns a repository to read from.
func (s *Service) remote(name string, a *registry.AuthConfig) (reference.Reference, *client.Source, error) {
	ref, err := reference.Parse(name)
	if err != nil {
		return ref, nil, err
	}
	cred, err := auth.FromDocker(a, ref.Domain)
	if err != nil {
		return ref, nil, err
	}
	src, err := s.c.Client.Source(ref, cred)
	return ref, src, err
}

// Remote returns a manifest or index as the registry has it.
func (s *Service) Remote(ctx context.Context, name string, a *registry.AuthConfig) ([]byte, ocispec.Descriptor, error) {
	ref, src, err := s.remote(name, a)
	if err != nil {
		return nil, ocispec.Descriptor{}, err
	}
	raw, desc, err := src.Manifest(ctx, ref.Object())
	if err == nil && desc.MediaType == "" {
		desc.MediaType, err = image.MediaTypeOf(raw, "")
	}
	return raw, desc, err
}

// Distribution returns what a registry has under a name, in Docker's form.
func (s *Service) Distribution(ctx context.Context, name string, a *registry.AuthConfig) (registry.DistributionInspect, error) {
	ref, src, err := s.remote(name, a)
	if err != nil {
		return registry.DistributionInspect{}, err
	}
	raw, desc, err := src.Manifest(ctx, ref.Object())
	if err != nil {
		return registry.DistributionInspect{}, err
	}
	if desc.MediaType, err = image.MediaTypeOf(raw, desc.MediaType); err != nil {
		return registry.DistributionInspect{}, err
	}
	d := registry.DistributionInspect{Descriptor: desc, Platforms: []ocispec.Platform{}}
	if image.IsIndex(desc.MediaType) {
		ix, err := image.ParseIndex(raw, desc.MediaType)
		for _, m := range ix.Manifests {
			if m.Platform != nil {
				d.Platforms = append(d.Platforms, *m.Platform)
			}
		}
		return d, err
	}
	m, err := image.ParseManifest(raw, desc.MediaType)
	if err != nil {
		return d, nil // an artifact has no platform
	}
	body, err := src.Blob(ctx, m.Config, 0)
	if err != nil {
		return d, err
	}
	defer body.Close()
	config, err := io.ReadAll(io.LimitReader(body, image.MaxConfig))
	if err != nil {
		return d, err
	}
	if got := m.Config.Digest.Algorithm().FromBytes(config); got != m.Config.Digest {
		return d, errdefs.New(errdefs.DataLoss, "configuration %s came with the digest %s", m.Config.Digest, got)
	}
	c, err := image.ParseConfig(config)
	if err == nil {
		d.Platforms = append(d.Platforms, c.Platform)
	}
	return d, err
}

// Tags returns the tags that a repository has in its registry.
func (s *Service) Tags(ctx context.Context, name string, a *registry.AuthConfig) ([]string, error) {
	_, src, err := s.remote(name, a)
	if err != nil {
		return nil, err
	}
	return src.Registry().Tags(ctx)
}
