package transfer

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/image"
	"lade/internal/imagestore"
	"lade/internal/platform"
	"lade/internal/reference"
)

// TestSaveLoad: what was pulled, by name through an index, has the same digests
// after a save and a load elsewhere; and the same images save as the same
// bytes.
func TestSaveLoad(t *testing.T) {
	reg := newRegistry(t)
	var ix ocispec.Index
	ix.SchemaVersion, ix.MediaType = 2, ocispec.MediaTypeImageIndex
	d := reg.image("amd64", "amd64", image.Gzip, tarOf(t, map[string]string{"a": noise(100000, 1)}))
	arm := platform.Of("linux", "arm64")
	d.Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64"}
	other := reg.image("arm64", "arm64", image.Gzip, tarOf(t, map[string]string{"a": "arm"}))
	other.Platform = &arm
	ix.Manifests = []ocispec.Descriptor{d, other}
	top := reg.manifest("tag", ocispec.MediaTypeImageIndex, ix)

	f := newFixture(t, Limits{})
	if _, _, err := f.pull(reg.url + "/x:tag"); err != nil {
		t.Fatal(err)
	}
	save := func(f *fixture) []byte {
		e, err := f.Images.Resolve(reg.url + "/x:tag")
		if err != nil {
			t.Fatal(err)
		}
		name, _ := reference.Parse(reg.url + "/x:tag")
		var b bytes.Buffer
		if err := f.Save(t.Context(), &b, []Saved{{Entry: e, Names: []reference.Reference{name}}}); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	archive := save(f)
	g := newFixture(t, Limits{})
	res, _, err := g.load(archive)
	if err != nil {
		t.Fatal(err)
	}
	if res[0].Target != top.Digest || res[0].Manifest != d.Digest {
		t.Errorf("loaded %+v, want index %s and manifest %s", res[0], top.Digest, d.Digest)
	}
	a, _ := f.Images.Resolve(reg.url + "/x:tag")
	b, _ := g.Images.Resolve(reg.url + "/x@" + string(top.Digest))
	if diff := cmp.Diff(a.Refs, b.Refs, cmpopts.IgnoreFields(imagestore.Ref{}, "Remote")); diff != "" {
		t.Errorf("names (-saved +loaded):\n%s", diff)
	}
	if !bytes.Equal(archive, save(g)) {
		t.Error("saved again, the archive is another")
	}
	if f.left() != g.left() {
		t.Errorf("on disk: %v before, %v after", f.left(), g.left())
	}
}

// TestSaveForOthers: skopeo reads the archive, as a docker-archive and as an
// OCI archive.
func TestSaveForOthers(t *testing.T) {
	reg := newRegistry(t)
	reg.image("tag", "amd64", image.Gzip, tarOf(t, map[string]string{"a": noise(100000, 1)}), tarOf(t, map[string]string{"b": "b"}))
	f := newFixture(t, Limits{})
	if _, _, err := f.pull(reg.url + "/x:tag"); err != nil {
		t.Fatal(err)
	}
	e, err := f.Images.Resolve(reg.url + "/x:tag")
	if err != nil {
		t.Fatal(err)
	}
	name, _ := reference.Parse("lade/x:saved")
	if err := f.Images.Tag(e.ID, name); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var b bytes.Buffer
	if err := f.Save(t.Context(), &b, []Saved{{Entry: e, Names: []reference.Reference{name}}}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "a.tar")
	writeFile(t, file, b.Bytes())
	for i, from := range []string{"docker-archive:" + file, "oci-archive:" + file} {
		tool(t, "skopeo", "copy", "--insecure-policy", from, "oci:"+filepath.Join(dir, string(rune('a'+i)))+":x")
	}
	if _, err := f.Images.Delete(e.ID, imagestore.DeleteOptions{Named: true}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.load(b.Bytes()); err != nil {
		t.Error(err)
	}
}
