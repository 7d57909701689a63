package copy

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/errdefs"
)

// fill puts an index of two images into a layout, and an artifact beside them.
func fill(t *testing.T, l *Layout) (index, artifact digest.Digest) {
	t.Helper()
	put := func(tag, mediaType string, v any) ocispec.Descriptor {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
		if err := l.PutManifest(t.Context(), tag, d, raw); err != nil {
			t.Fatal(err)
		}
		return d
	}
	blob := func(mediaType, text string) ocispec.Descriptor {
		d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromString(text), Size: int64(len(text))}
		if err := l.write(t.Context(), d, strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
		return d
	}
	var ix ocispec.Index
	ix.SchemaVersion, ix.MediaType = 2, ocispec.MediaTypeImageIndex
	for _, arch := range []string{"amd64", "arm64"} {
		m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: blob(ocispec.MediaTypeImageConfig, "config "+arch)}
		m.SchemaVersion = 2
		m.Layers = []ocispec.Descriptor{blob(ocispec.MediaTypeImageLayer, "layer "+arch), blob(ocispec.MediaTypeImageLayer, "shared")}
		d := put("", m.MediaType, m)
		d.Platform = &ocispec.Platform{OS: "linux", Architecture: arch}
		ix.Manifests = append(ix.Manifests, d)
	}
	a := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, ArtifactType: "application/x", Config: blob(ocispec.MediaTypeEmptyJSON, "{}")}
	a.SchemaVersion = 2
	a.Layers = []ocispec.Descriptor{blob("text/plain", "hello")}
	return put("both", ix.MediaType, ix).Digest, put("artifact", a.MediaType, a).Digest
}

func layout(t *testing.T) (*Layout, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "new", "layout")
	l, err := MakeLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l, dir
}

func count(t *testing.T, dir string) int {
	t.Helper()
	all, err := os.ReadDir(filepath.Join(dir, "blobs", "sha256"))
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

func TestCopy(t *testing.T) {
	from, _ := layout(t)
	index, artifact := fill(t, from)
	for _, tt := range []struct {
		object, platform string
		want             digest.Digest
		blobs            int
	}{
		{"both", "", index, 8}, // an index, two manifests, two configurations, three layers
		{"both", "arm64", "", 4},
		{"artifact", "", artifact, 3},
		{string(index), "", index, 8},
	} {
		to, dir := layout(t)
		o := Options{Object: tt.object, Tag: "copied"}
		if tt.platform != "" {
			o.Platform = &ocispec.Platform{OS: "linux", Architecture: tt.platform}
		}
		for range 2 { // the second time all is there
			got, err := Copy(t.Context(), from, to, o)
			if err != nil || tt.want != "" && got.Digest != tt.want || count(t, dir) != tt.blobs {
				t.Errorf("%s %s: %s, %v; %d blobs, want %s and %d", tt.object, tt.platform, got.Digest, err, count(t, dir), tt.want, tt.blobs)
			}
			if _, d, err := to.Manifest(t.Context(), "copied"); err != nil || d.Digest != got.Digest {
				t.Errorf("%s: the tag leads to %s, %v", tt.object, d.Digest, err)
			}
		}
		if tags, err := to.Tags(); err != nil || len(tags) != 1 {
			t.Errorf("tags %q, %v", tags, err)
		}
	}
}

// spoiled is a source that lies.
type spoiled struct {
	Source
	manifest func(raw []byte) []byte
	blob     func(io.Reader) io.Reader
}

func (s spoiled) Manifest(ctx context.Context, object string) ([]byte, ocispec.Descriptor, error) {
	raw, d, err := s.Source.Manifest(ctx, object)
	if s.manifest != nil && strings.Contains(object, ":") {
		raw = s.manifest(raw)
		d.Size = int64(len(raw))
	}
	return raw, d, err
}

func (s spoiled) Blob(ctx context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	b, err := s.Source.Blob(ctx, d, offset)
	if err != nil || s.blob == nil {
		return b, err
	}
	return io.NopCloser(s.blob(b)), nil
}

func TestCopyRefuses(t *testing.T) {
	from, dir := layout(t)
	fill(t, from)
	for name, s := range map[string]spoiled{
		"short blob":     {blob: func(r io.Reader) io.Reader { return io.LimitReader(r, 1) }},
		"long blob":      {blob: func(r io.Reader) io.Reader { return io.MultiReader(r, strings.NewReader("more")) }},
		"other blob":     {blob: func(r io.Reader) io.Reader { _, _ = io.ReadAll(r); return strings.NewReader("xxxxxx") }},
		"other manifest": {manifest: func(raw []byte) []byte { return append(raw, ' ') }},
	} {
		to, dir := layout(t)
		s.Source = from
		if _, err := Copy(t.Context(), s, to, Options{Object: "both", Tag: "x"}); !errdefs.Is(err, errdefs.DataLoss) {
			t.Errorf("%s: %v", name, err)
		}
		if tags, err := to.Tags(); err != nil || len(tags) != 0 {
			t.Errorf("%s: the copy has tags %q, %v", name, tags, err)
		}
		left, _ := filepath.Glob(filepath.Join(dir, "blobs", "sha256", "*tmp*"))
		if len(left) != 0 {
			t.Errorf("%s: left %q", name, left)
		}
	}
	if _, err := Copy(t.Context(), from, from, Options{Object: "nosuch"}); !errdefs.Is(err, errdefs.NotFound) {
		t.Errorf("no such tag: %v", err)
	}
	if _, _, err := from.Manifest(t.Context(), "sha256:../../etc/passwd"); !errdefs.Is(err, errdefs.Invalid) {
		t.Errorf("a digest that climbs: %v", err)
	}
	// A link out of the layout is not followed.
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := digest.FromString("secret")
	if err := os.Symlink(secret, filepath.Join(dir, "blobs", "sha256", d.Encoded())); err != nil {
		t.Fatal(err)
	}
	if _, err := from.Blob(t.Context(), ocispec.Descriptor{Digest: d, Size: 6}, 0); err == nil {
		t.Error("a link out of the layout was followed")
	}
	full := t.TempDir()
	if err := os.WriteFile(full+"/x", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := MakeLayout(full); !errdefs.Is(err, errdefs.Conflict) {
		t.Errorf("a directory with other things: %v", err)
	}
	if _, err := OpenLayout(full + "/absent"); !errdefs.Is(err, errdefs.NotFound) || errors.Is(err, os.ErrExist) {
		t.Errorf("no directory: %v", err)
	}
}
