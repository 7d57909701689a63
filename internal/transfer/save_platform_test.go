package transfer

import (
	"bytes"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/image"
	"lade/internal/reference"
)

// TestSavePlatforms: an index of which both images are here is saved with both,
// and one that is saved by itself has no index.
func TestSavePlatforms(t *testing.T) {
	reg := newRegistry(t)
	var ix ocispec.Index
	ix.SchemaVersion, ix.MediaType = 2, ocispec.MediaTypeImageIndex
	for _, arch := range []string{"s390x", "amd64"} {
		d := reg.image(arch, arch, image.Gzip, tarOf(t, map[string]string{"arch": arch}))
		d.Platform = &ocispec.Platform{OS: "linux", Architecture: arch}
		ix.Manifests = append(ix.Manifests, d)
	}
	top := reg.manifest("tag", ocispec.MediaTypeImageIndex, ix)
	f := newFixture(t, Limits{})
	ref, _ := reference.Parse(reg.url + "/x:tag")
	for i := range ix.Manifests {
		if _, err := f.Pull(t.Context(), PullOptions{Ref: ref, Platform: ix.Manifests[i].Platform}, nil); err != nil {
			t.Fatal(err)
		}
	}
	e, err := f.Images.Resolve(ref.String())
	if err != nil {
		t.Fatal(err)
	}
	var both, one bytes.Buffer
	if err := f.Save(t.Context(), &both, []Saved{{Entry: e, Names: []reference.Reference{ref}}}); err != nil {
		t.Fatal(err)
	}
	if err := f.Save(t.Context(), &one, []Saved{{Entry: e, Names: []reference.Reference{ref}, Single: true}}); err != nil {
		t.Fatal(err)
	}
	for _, d := range ix.Manifests {
		if !bytes.Contains(both.Bytes(), []byte("blobs/sha256/"+d.Digest.Encoded())) {
			t.Errorf("the archive lacks %s", d.Digest)
		}
	}
	g := newFixture(t, Limits{})
	if res, _, err := g.load(both.Bytes()); err != nil || res[0].Target != top.Digest || res[0].Manifest != ix.Manifests[1].Digest {
		t.Errorf("both: %+v, %v", res, err)
	}
	g = newFixture(t, Limits{})
	if res, _, err := g.load(one.Bytes()); err != nil || res[0].Target != ix.Manifests[1].Digest {
		t.Errorf("one: %+v, %v", res, err)
	}
}
