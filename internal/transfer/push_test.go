package transfer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/auxprogress"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/platform"
	"lade/internal/reference"
)

// pushAs gives the image that has a name another one, and pushes that.
func pushAs(t *testing.T, f *Transfer, have, to string, p *ocispec.Platform) (Pushed, []Progress, error) {
	t.Helper()
	ref, err := reference.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	e, err := f.Images.Resolve(have)
	if err != nil {
		t.Fatal(err)
	}
	o := PushOptions{Ref: ref, Entry: e, Platform: p}
	for _, r := range e.Refs {
		if r.Ref.Familiar() == have {
			o.Manifest, o.Target = r.Manifest, r.Target
		}
	}
	var said []Progress
	res, err := f.Push(t.Context(), o, func(p Progress) { said = append(said, p) })
	return res, said, err
}

func said(all []Progress, action string) int {
	n := 0
	for _, p := range all {
		if p.Action == action {
			n++
		}
	}
	return n
}

// TestPush pushes to Debian's registry what independent tools packed, in every
// form; other independent tools find the same digests and the same files there.
func TestPush(t *testing.T) {
	addr := dockerRegistry(t)
	oci := umociLayout(t, tarOf(t, map[string]string{"etc/a": noise(300000, 1)}), tarOf(t, map[string]string{"etc/b": "b", "etc/.wh.a": ""}))
	copyTo := []string{"skopeo", "copy", "--insecure-policy", "--dest-tls-verify=false"}
	forms := map[string][]string{"oci": nil, "docker": {"--format", "v2s2"}, "zstd": {"--dest-compress-format", "zstd"}}
	f, _ := real(t)
	for tag, flags := range forms {
		tool(t, slices.Concat(copyTo, flags, []string{"oci:" + oci + ":tag", "docker://" + addr + "/from/" + tag + ":1"})...)
		ref, err := reference.Parse(addr + "/from/" + tag + ":1")
		if err != nil {
			t.Fatal(err)
		}
		pulled, err := f.Pull(t.Context(), PullOptions{Ref: ref}, nil)
		if err != nil {
			t.Fatal(err)
		}
		// Another repository of the registry: nothing needs to be sent.
		res, all, err := pushAs(t, f, ref.Familiar(), addr+"/to/"+tag+":2", nil)
		if err != nil {
			t.Fatal(err)
		}
		if res.Digest != pulled.Target || res.Tag != "2" {
			t.Errorf("%s: pulled %s, pushed %+v", tag, pulled.Target, res)
		}
		if n := said(all, "Mounted from from/oci") + said(all, "Mounted from from/docker") + said(all, "Mounted from from/zstd"); n != 2 {
			t.Errorf("%s: %d layers mounted: %+v", tag, n, all)
		}
		last := all[len(all)-2]
		if want := fmt.Sprintf("2: digest: %s size: %d", res.Digest, res.Size); last.Action != want {
			t.Errorf("%s: said %q, want %q", tag, last.Action, want)
		}
		// Another registry: all is sent, once.
		other := dockerRegistry(t)
		res, all, err = pushAs(t, f, ref.Familiar(), other+"/to/"+tag+":2", nil)
		if err != nil || res.Digest != pulled.Target || said(all, "Pushed") != 2 {
			t.Errorf("%s: %+v, %v: %+v", tag, res, err, all)
		}
		_, all, err = pushAs(t, f, ref.Familiar(), other+"/to/"+tag+":3", nil)
		if err != nil || said(all, "Layer already exists") != 2 {
			t.Errorf("%s: again: %v: %+v", tag, err, all)
		}
		dir := t.TempDir()
		tool(t, "skopeo", "copy", "--insecure-policy", "--src-tls-verify=false", "docker://"+other+"/to/"+tag+":3", "oci:"+dir+"/o:x")
		tool(t, "umoci", "unpack", "--image", dir+"/o:x", dir+"/b")
		if b, err := os.ReadFile(dir + "/b/rootfs/etc/b"); err != nil || string(b) != "b" {
			t.Errorf("%s: etc/b is %q, %v", tag, b, err)
		}
		e, err := f.Images.Resolve(other + "/to/" + tag + "@" + string(res.Digest))
		if err != nil || !slices.Contains(e.Digests, other+"/to/"+tag+"@"+string(res.Digest)) {
			t.Errorf("%s: the digest is not recorded: %v", tag, err)
		}
	}
}

// TestPushIndex: an index goes whole if all of it is here or there, and
// otherwise the image that is here goes without it.
func TestPushIndex(t *testing.T) {
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
	have := reg.url + "/x:tag"
	if _, _, err := f.pull(have); err != nil {
		t.Fatal(err)
	}
	addr := dockerRegistry(t)
	res, all, err := pushAs(t, f.Transfer, have, addr+"/x:tag", nil)
	if err != nil || res.Digest != ix.Manifests[1].Digest {
		t.Errorf("one of two: %+v, %v", res, err)
	}
	if note, ok := all[len(all)-1].Aux.(*auxprogress.ManifestPushedInsteadOfIndex); !ok || note.OriginalIndex.Digest != top.Digest {
		t.Errorf("last message: %+v", all[len(all)-1])
	}
	if _, _, err := pushAs(t, f.Transfer, have, addr+"/x:tag", &ocispec.Platform{OS: "linux", Architecture: "s390x"}); !errdefs.Is(err, errdefs.NotFound) {
		t.Errorf("a platform that is not here: %v", err)
	}
	ref, _ := reference.Parse(have)
	if _, err := f.Pull(t.Context(), PullOptions{Ref: ref, Platform: &ocispec.Platform{OS: "linux", Architecture: "s390x"}}, nil); err != nil {
		t.Fatal(err)
	}
	res, _, err = pushAs(t, f.Transfer, have, addr+"/y:tag", nil)
	if err != nil || res.Digest != top.Digest {
		t.Errorf("both: %+v, %v", res, err)
	}
	p := platform.Of("linux", "amd64")
	res, _, err = pushAs(t, f.Transfer, have, addr+"/y:amd", &p)
	if err != nil || res.Digest != ix.Manifests[1].Digest {
		t.Errorf("one platform: %+v, %v", res, err)
	}
	g := newFixture(t, Limits{})
	got, _, err := g.pull(addr + "/y:tag")
	if err != nil || got.Target != top.Digest || got.Manifest != ix.Manifests[1].Digest {
		t.Errorf("pulled again: %+v, %v", got, err)
	}
}

// TestPushDamaged: bytes that changed on disk are told from a registry that is
// wrong, and the tag is not set.
func TestPushDamaged(t *testing.T) {
	addr := dockerRegistry(t)
	reg := newRegistry(t)
	desc := reg.image("tag", "amd64", image.Gzip, tarOf(t, map[string]string{"a": noise(100000, 1)}))
	f := newFixture(t, Limits{})
	if _, _, err := f.pull(reg.url + "/x:tag"); err != nil {
		t.Fatal(err)
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(reg.manifests[string(desc.Digest)], &m); err != nil {
		t.Fatal(err)
	}
	blob := filepath.Join(f.dir, "content", "blobs", "sha256", m.Layers[0].Digest.Encoded())
	data, err := os.ReadFile(blob)
	if err != nil {
		t.Fatal(err)
	}
	data = bytes.Clone(data)
	data[5000] ^= 1
	writeFile(t, blob, data)
	if _, _, err := pushAs(t, f.Transfer, reg.url+"/x:tag", addr+"/x:tag", nil); !errdefs.Is(err, errdefs.DataLoss) || !strings.Contains(err.Error(), "is damaged") {
		t.Errorf("push of a damaged layer: %v", err)
	}
	writeFile(t, blob, data[:5000])
	if _, _, err := pushAs(t, f.Transfer, reg.url+"/x:tag", addr+"/x:tag", nil); !errdefs.Is(err, errdefs.DataLoss) || !strings.Contains(err.Error(), "is damaged") {
		t.Errorf("push of a layer that was cut: %v", err)
	}
	g := newFixture(t, Limits{})
	if _, _, err := g.pull(addr + "/x:tag"); !errdefs.Is(err, errdefs.NotFound) {
		t.Errorf("the tag is there: %v", err)
	}
}

// TestPushRepacks packs the layers of an index in Docker's format anew. Other
// tools find the same image ids and files under it; the store is as before.
func TestPushRepacks(t *testing.T) {
	reg := newRegistry(t)
	base := tarOf(t, map[string]string{"etc/base": noise(200000, 1)})
	var ix ocispec.Index
	ix.SchemaVersion, ix.MediaType = 2, image.DockerList
	for _, arch := range []string{"amd64", "arm64"} {
		d := reg.image("t-"+arch, arch, image.Gzip, base, tarOf(t, map[string]string{"etc/own": arch}))
		d.Platform = &ocispec.Platform{OS: "linux", Architecture: arch}
		ix.Manifests = append(ix.Manifests, d)
	}
	ix.Annotations = map[string]string{"kept": "yes"}
	reg.manifest("both", ix.MediaType, ix)
	f, dir := real(t)
	for _, arch := range []string{"arm64", "amd64"} {
		ref, err := reference.Parse(reg.url + "/x:both")
		if err != nil {
			t.Fatal(err)
		}
		p := platform.Of("linux", arch)
		if _, err := f.Pull(t.Context(), PullOptions{Ref: ref, Platform: &p}, nil); err != nil {
			t.Fatal(err)
		}
	}
	before, err := f.Content.List()
	if err != nil {
		t.Fatal(err)
	}
	addr := dockerRegistry(t)
	ref, err := reference.Parse(addr + "/zstd:1")
	if err != nil {
		t.Fatal(err)
	}
	e, err := f.Images.Resolve(reg.url + "/x:both")
	if err != nil {
		t.Fatal(err)
	}
	o := PushOptions{Ref: ref, Entry: e, Compression: image.Zstd}
	for _, r := range e.Refs {
		o.Manifest, o.Target = r.Manifest, r.Target
	}
	var digests []string
	for range 2 {
		res, err := f.Push(t.Context(), o, nil)
		if err != nil {
			t.Fatal(err)
		}
		if digests = append(digests, string(res.Digest)); res.Digest == o.Target || digests[0] != string(res.Digest) {
			t.Errorf("pushed %s, then %s; it was %s", digests[0], res.Digest, o.Target)
		}
	}
	if after, err := f.Content.List(); err != nil || len(after) != len(before) {
		t.Errorf("%d blobs in the store, %d before: %v", len(after), len(before), err)
	}
	out := t.TempDir()
	tool(t, "skopeo", "copy", "--all", "--insecure-policy", "--src-tls-verify=false", "docker://"+addr+"/zstd:1", "oci:"+out+"/o:x")
	for _, arch := range []string{"amd64", "arm64"} {
		// Debian's umoci knows no zstd: zstd itself and tar read the layers.
		tool(t, "skopeo", "copy", "--insecure-policy", "--src-tls-verify=false", "--override-arch", arch, "docker://"+addr+"/zstd:1", "oci:"+out+"/"+arch+":x")
		sh := exec.CommandContext(t.Context(), "sh", "-c", `for b in `+out+"/"+arch+`/blobs/sha256/*; do zstd -dcq "$b" 2>/dev/null | tar -xO etc/own 2>/dev/null; done`)
		if got, _ := sh.Output(); string(got) != arch {
			t.Errorf("%s: etc/own is %q", arch, got)
		}
	}
	// Bytes that do not unpack to what the configuration says get no good digest.
	damaged := e.Record.Layers[0].Blob
	path := filepath.Join(dir, "content", "blobs", "sha256", damaged.Encoded())
	writeFile(t, path, pack(t, image.Gzip, tarOf(t, map[string]string{"etc/base": "other"})))
	if _, err := f.Push(t.Context(), o, nil); !errdefs.Is(err, errdefs.DataLoss) {
		t.Errorf("a damaged layer was packed: %v", err)
	}
}
