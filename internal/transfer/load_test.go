package transfer

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/imagestore"
)

// dockerArchive returns the files of what docker save wrote until version 24.
func dockerArchive(t *testing.T, names []string, tars ...[]byte) map[string]string {
	t.Helper()
	files := map[string]string{}
	c := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}}
	c.RootFS.Type = "layers"
	var layers []string
	for i, tar := range tars {
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, digest.FromBytes(tar))
		dir := fmt.Sprintf("%064d", i)
		files[dir+"/layer.tar"], files[dir+"/VERSION"], files[dir+"/json"] = string(tar), "1.0", "{}"
		layers = append(layers, dir+"/layer.tar")
	}
	raw, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	config := digest.FromBytes(raw).Encoded() + ".json"
	files[config] = string(raw)
	list, err := json.Marshal([]dockerImage{{Config: config, RepoTags: names, Layers: layers}})
	if err != nil {
		t.Fatal(err)
	}
	files["manifest.json"], files["repositories"] = string(list), "{}"
	return files
}

// layout returns the files of an OCI layout that holds what a registry has as
// "tag".
func layout(t *testing.T, reg *registry, annotations ...map[string]string) map[string]string {
	t.Helper()
	files := map[string]string{"oci-layout": `{"imageLayoutVersion":"1.0.0"}`}
	for d, b := range reg.blobs {
		files["blobs/sha256/"+digest.Digest(d).Encoded()] = string(b)
	}
	for d, b := range reg.manifests {
		if strings.HasPrefix(d, "sha256:") {
			files["blobs/sha256/"+digest.Digest(d).Encoded()] = string(b)
		}
	}
	var ix ocispec.Index
	ix.SchemaVersion = 2
	const tag = "tag"
	raw := reg.manifests[tag]
	for _, a := range annotations {
		ix.Manifests = append(ix.Manifests, ocispec.Descriptor{MediaType: reg.types[tag], Digest: digest.FromBytes(raw), Size: int64(len(raw)), Annotations: a})
	}
	b, err := json.Marshal(ix)
	if err != nil {
		t.Fatal(err)
	}
	files["index.json"] = string(b)
	return files
}

func (f *fixture) load(archive []byte) ([]Result, string, error) {
	f.t.Helper()
	var said strings.Builder
	res, err := f.Load(f.t.Context(), bytes.NewReader(archive), func(p Progress) { said.WriteString(p.Message) })
	return res, said.String(), err
}

func TestLoadDockerArchive(t *testing.T) {
	a, b := tarOf(t, map[string]string{"a": noise(100000, 1)}), tarOf(t, map[string]string{"b": "b"})
	plain := dockerArchive(t, []string{"debian:one", "localhost:5000/x:two"}, a, b)
	linked := maps.Clone(plain)
	linked[fmt.Sprintf("%064d/layer.tar", 1)] = "-> ../" + fmt.Sprintf("%064d", 7) + "/layer.tar"
	linked[fmt.Sprintf("%064d/layer.tar", 7)] = string(b)
	packed := maps.Clone(plain)
	packed[fmt.Sprintf("%064d/layer.tar", 0)] = string(pack(t, image.Gzip, a))
	for name, files := range map[string]map[string]string{"plain": plain, "layers as links": linked, "packed layers": packed} {
		for _, c := range []image.Compression{image.Plain, image.Gzip, image.Zstd} {
			t.Run(name+" "+string(c), func(t *testing.T) {
				f := newFixture(t, Limits{})
				res, said, err := f.load(pack(t, c, tarOf(t, files)))
				if err != nil {
					t.Fatal(err)
				}
				if want := "Loaded image: debian:one\nLoaded image: localhost:5000/x:two\n"; said != want || len(res) != 1 {
					t.Errorf("said %q, result %+v", said, res)
				}
				e, err := f.Images.Resolve("localhost:5000/x:two")
				if err != nil || e.ID.Encoded()+".json" == "" || files[e.ID.Encoded()+".json"] == "" {
					t.Errorf("resolved %+v, %v", e, err)
				}
				if f.left() != [3]int{4, 0, 2} {
					t.Errorf("on disk: %v", f.left())
				}
				again, _, err := f.load(tarOf(t, files))
				if err != nil || again[0].Manifest != res[0].Manifest {
					t.Errorf("second load: %+v, %v", again, err)
				}
			})
		}
	}
}

func TestLoadLayout(t *testing.T) {
	reg := newRegistry(t)
	a := tarOf(t, map[string]string{"a": noise(100000, 1)})
	desc := reg.image("tag", "amd64", image.Zstd, a)
	files := layout(t, reg, map[string]string{"io.containerd.image.name": "docker.io/library/debian:one", ocispec.AnnotationRefName: "one"}, map[string]string{ocispec.AnnotationRefName: "ghcr.io/a/b:two"})
	f := newFixture(t, Limits{})
	res, said, err := f.load(tarOf(t, files))
	if err != nil {
		t.Fatal(err)
	}
	if said != "Loaded image: debian:one\nLoaded image: ghcr.io/a/b:two\n" || res[0].Manifest != desc.Digest {
		t.Errorf("said %q, result %+v", said, res)
	}
	e, err := f.Images.Resolve("debian@" + string(desc.Digest))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"debian:one", "ghcr.io/a/b:two"}, e.Names); diff != "" {
		t.Error(diff)
	}
	// Without a whole name: by id.
	f = newFixture(t, Limits{})
	if _, said, err = f.load(tarOf(t, layout(t, reg, map[string]string{ocispec.AnnotationRefName: "tag"}))); err != nil || !strings.HasPrefix(said, "Loaded image ID: sha256:") {
		t.Errorf("said %q, %v", said, err)
	}
	// Both forms in one, as docker save writes since version 25.
	f = newFixture(t, Limits{})
	config := ""
	for name, b := range files {
		if strings.Contains(b, "diff_ids") {
			config = name
		}
	}
	files["manifest.json"] = `[{"Config":"` + config + `","RepoTags":["extra:name"],"Layers":[]}]`
	if _, _, err := f.load(tarOf(t, files)); err != nil {
		t.Fatal(err)
	}
	if e, err := f.Images.Resolve("extra:name"); err != nil || e.Manifest != desc.Digest {
		t.Errorf("name of manifest.json: %v", err)
	}
}

func TestLoadIndex(t *testing.T) {
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
	res, _, err := f.load(tarOf(t, layout(t, reg, map[string]string{ocispec.AnnotationRefName: "x:1"})))
	if err != nil || res[0].Manifest != ix.Manifests[1].Digest || res[0].Target != top.Digest {
		t.Errorf("load = %+v, %v", res, err)
	}
	if f.left() != [3]int{4, 0, 1} { // index, manifest, configuration, layer
		t.Errorf("on disk: %v", f.left())
	}
}

func TestLoadRefuses(t *testing.T) {
	a := tarOf(t, map[string]string{"a": noise(100000, 1)})
	good := dockerArchive(t, []string{"x:1"}, a)
	with := func(name, text string) []byte {
		files := maps.Clone(good)
		if text == "" {
			delete(files, name)
		} else {
			files[name] = text
		}
		return tarOf(t, files)
	}
	entry := func(h tar.Header, n int) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for range n {
			if err := w.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	reg := newRegistry(t)
	desc := reg.image("tag", "amd64", image.Gzip, a)
	lay := layout(t, reg, map[string]string{})
	damaged := maps.Clone(lay)
	damaged["blobs/sha256/"+desc.Digest.Encoded()] = "{}"
	lacking := maps.Clone(lay)
	delete(lacking, "blobs/sha256/"+desc.Digest.Encoded())
	layer0 := fmt.Sprintf("%064d/layer.tar", 0)
	limits := Limits{Entries: 50, Free: 1 << 20, Ratio: 100}
	tests := []struct {
		name    string
		archive []byte
		class   errdefs.Class
		says    string
	}{
		{"empty", nil, errdefs.Invalid, "no image archive"},
		{"text", []byte(strings.Repeat("not a tar ", 100)), errdefs.Invalid, "no tar"},
		{"a word", []byte("garbage\n"), errdefs.Invalid, "no tar"},
		{"bzip2", []byte("BZh91AY&SY"), errdefs.NotImplemented, "bzip2"},
		{"a root file system", a, errdefs.Invalid, "no image archive"},
		{"cut off", tarOf(t, good)[:60000], errdefs.DataLoss, "truncated"},
		{"cut off gzip", pack(t, image.Gzip, tarOf(t, good))[:60000], errdefs.DataLoss, "truncated"},
		{"a layer is missing", with(layer0, ""), errdefs.DataLoss, "lacks"},
		{"a layer is another", with(layer0, string(tarOf(t, map[string]string{"b": "b"}))), errdefs.DataLoss, "DiffID"},
		{"climbing layer path", with("manifest.json", `[{"Config":"../../etc/passwd","Layers":[]}]`), errdefs.Invalid, "leads out"},
		{"absolute config path", with("manifest.json", `[{"Config":"/etc/passwd","Layers":[]}]`), errdefs.Invalid, "leads out"},
		{"link out", with("link", "-> ../../etc/passwd"), errdefs.Invalid, "leads out"},
		{"absolute link", with("link", "-> /etc/passwd"), errdefs.Invalid, "leads out"},
		{"link to itself", with(layer0, "-> layer.tar"), errdefs.Invalid, "link to a link"},
		{"bad name", with("manifest.json", strings.Replace(good["manifest.json"], "x:1", "X:1:2", 1)), errdefs.Invalid, "invalid reference"},
		{"no images", with("manifest.json", "[]"), errdefs.Invalid, "no image"},
		{"no JSON", with("manifest.json", "{"), errdefs.DataLoss, "manifest.json"},
		{"first format", tarOf(t, map[string]string{"repositories": "{}"}), errdefs.NotImplemented, "first format"},
		{"climbing", entry(tar.Header{Name: "../../x", Typeflag: tar.TypeReg}, 1), errdefs.Invalid, "leads out"},
		{"absolute", entry(tar.Header{Name: "/x", Typeflag: tar.TypeReg}, 1), errdefs.Invalid, "leads out"},
		{"twice", entry(tar.Header{Name: "x", Typeflag: tar.TypeReg}, 2), errdefs.Invalid, "twice"},
		{"device", entry(tar.Header{Name: "x", Typeflag: tar.TypeBlock}, 1), errdefs.Invalid, "neither file"},
		{"fifo", entry(tar.Header{Name: "x", Typeflag: tar.TypeFifo}, 1), errdefs.Invalid, "neither file"},
		{"many entries", entry(tar.Header{Name: "x", Typeflag: tar.TypeDir}, 60), errdefs.Exhausted, "more than 50 entries"},
		{"bomb", pack(t, image.Gzip, with("zeros", strings.Repeat("\x00", 64<<20))), errdefs.Exhausted, "more than 100 times"},
		{"blob is not its name", tarOf(t, damaged), errdefs.DataLoss, "has the digest"},
		{"blob is missing", tarOf(t, lacking), errdefs.DataLoss, "lacks blob"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, limits)
			_, _, err := f.load(tt.archive)
			if !errdefs.Is(err, tt.class) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error = %v (%v), want %q (%v)", err, errdefs.ClassOf(err), tt.says, tt.class)
			}
			if f.left() != [3]int{} {
				t.Errorf("left on disk: %v", f.left())
			}
		})
	}
}

func FuzzLoad(f *testing.F) {
	t := &testing.T{}
	a := tarOf(t, map[string]string{"a": "a"})
	f.Add(tarOf(t, dockerArchive(t, []string{"x:1"}, a)))
	f.Add(pack(t, image.Gzip, tarOf(t, map[string]string{"manifest.json": `[{"Config":"c","Layers":["l"]}]`, "c": "{}", "l": "-> c"})))
	f.Add(tarOf(t, map[string]string{"oci-layout": "{}", "index.json": `{"schemaVersion":2,"manifests":[{"digest":"sha256:` + strings.Repeat("0", 64) + `"}]}`}))
	f.Fuzz(func(t *testing.T, archive []byte) {
		x := newFixture(t, Limits{Entries: 20, Free: 1 << 16, Ratio: 10, Archive: 1 << 20, Layer: 1 << 20})
		res, _, err := x.load(archive)
		list, listErr := x.Images.List()
		if listErr != nil {
			t.Fatal(listErr)
		}
		if err != nil && (len(list) != 0 || x.left() != [3]int{}) {
			t.Fatalf("after %v: %d images, on disk %v", err, len(list), x.left())
		}
		for _, r := range res {
			if !slices.ContainsFunc(list, func(e imagestore.Entry) bool { return e.ID == r.ID }) {
				t.Fatalf("loaded %s, which is not in the store", r.ID)
			}
		}
	})
}
