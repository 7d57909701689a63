package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/platform"
	"lade/internal/reference"
	"lade/test/kerneltest"
)

// noise returns bytes that do not compress.
func noise(n int, seed uint64) string {
	r := rand.NewChaCha8([32]byte{byte(seed)})
	b := make([]byte, n)
	_, _ = r.Read(b)
	return string(b)
}

func TestPull(t *testing.T) {
	for _, c := range []image.Compression{image.Plain, image.Gzip, image.Zstd} {
		t.Run("compression "+string(c), func(t *testing.T) {
			f, reg := newFixture(t, Limits{}), newRegistry(t)
			base, top := tarOf(t, map[string]string{"a": noise(1<<20, 1)}), tarOf(t, map[string]string{"b": "small"})
			desc := reg.image("tag", "amd64", c, base, top, base)
			res, progress, err := f.pull(reg.url + "/x/y:tag")
			if err != nil {
				t.Fatal(err)
			}
			if res.Manifest != desc.Digest || !res.New {
				t.Errorf("result %+v", res)
			}
			e, err := f.Images.Resolve(reg.url + "/x/y:tag")
			if err != nil || e.Manifest != desc.Digest || e.Record.UnpackedSize() != int64(2*len(base)+len(top)) {
				t.Errorf("resolved %+v, %v", e, err)
			}
			if !bytes.Equal(f.layers.Tar(digest.FromBytes(base)), base) || f.left() != [3]int{4, 0, 2} {
				t.Errorf("on disk: %v", f.left())
			}
			var said []string
			for _, p := range progress {
				said = append(said, p.Action)
			}
			for _, want := range []string{"Pulling from x/y", "Pulling fs layer", "Downloading", "Verifying Checksum", "Download complete", "Extracting", "Pull complete", "Digest: " + string(desc.Digest), "Status: Downloaded newer image for " + reg.url + "/x/y:tag"} {
				if !slices.Contains(said, want) {
					t.Errorf("progress lacks %q: %q", want, said)
				}
			}
			// Once more: nothing is fetched but the manifest.
			reg.asked = nil
			res, progress, err = f.pull(reg.url + "/x/y:tag")
			if err != nil || res.New || len(reg.asked) != 1 || !strings.HasPrefix(progress[len(progress)-1].Action, "Status: Image is up to date") {
				t.Errorf("second pull: %+v, %v; asked for %q", res, err, reg.asked)
			}
		})
	}
}

func TestPullChoosesPlatform(t *testing.T) {
	f, reg := newFixture(t, Limits{}), newRegistry(t)
	var ix ocispec.Index
	ix.SchemaVersion, ix.MediaType = 2, ocispec.MediaTypeImageIndex
	want := map[string]digest.Digest{}
	for _, arch := range []string{"arm64", "amd64"} {
		d := reg.image("", arch, image.Gzip, tarOf(t, map[string]string{"arch": arch}))
		d.Platform = &ocispec.Platform{OS: "linux", Architecture: arch}
		ix.Manifests = append(ix.Manifests, d)
		want[arch] = d.Digest
	}
	top := reg.manifest("tag", ocispec.MediaTypeImageIndex, ix)
	res, _, err := f.pull(reg.url + "/x:tag")
	if err != nil || res.Manifest != want["amd64"] || res.Target != top.Digest {
		t.Errorf("pull = %+v, %v", res, err)
	}
	if _, err := f.Images.Resolve(reg.url + "/x@" + string(top.Digest)); err != nil {
		t.Errorf("by the index's digest: %v", err)
	}
	ref, _ := reference.Parse(reg.url + "/x:tag")
	arm, s390 := platform.Of("linux", "arm64"), platform.Of("linux", "s390x")
	res, err = f.Pull(t.Context(), PullOptions{Ref: ref, Platform: &arm}, nil)
	if err != nil || res.Manifest != want["arm64"] {
		t.Errorf("pull for arm64 = %+v, %v", res, err)
	}
	_, err = f.Pull(t.Context(), PullOptions{Ref: ref, Platform: &s390}, nil)
	if !errdefs.Is(err, errdefs.NotFound) || !strings.Contains(err.Error(), "no matching manifest for linux/s390x") || !strings.Contains(errdefs.HintOf(err), "linux/arm64") {
		t.Errorf("pull for s390x: %v (hint %q)", err, errdefs.HintOf(err))
	}
}

// spoilt is one way in which a registry is wrong, and what comes of it.
type spoilt struct {
	name  string
	setup func(reg *registry, f *fixture)
	class errdefs.Class
	says  string
	keeps bool // blobs for another attempt
}

func TestPullRefuses(t *testing.T) {
	data := tarOf(t, map[string]string{"a": noise(300000, 2)})
	blobOf := func(fn func(w http.ResponseWriter, r *http.Request, data []byte)) func(http.ResponseWriter, *http.Request, []byte) bool {
		return func(w http.ResponseWriter, r *http.Request, d []byte) bool {
			if strings.Contains(r.URL.Path, "/blobs/") && len(d) > 100000 {
				fn(w, r, d)
				return true
			}
			return false
		}
	}
	good := func(reg *registry) { reg.image("tag", "amd64", image.Gzip, data) }
	tests := []spoilt{
		{"nothing there", func(*registry, *fixture) {}, errdefs.NotFound, "manifest unknown", false},
		{"wrong digest", func(reg *registry, _ *fixture) {
			good(reg)
			reg.spoil = blobOf(func(w http.ResponseWriter, _ *http.Request, d []byte) {
				d = slices.Clone(d)
				d[len(d)/2] ^= 1
				_, _ = w.Write(d)
			})
		}, errdefs.DataLoss, "has the digest", false},
		{"truncated", func(reg *registry, _ *fixture) {
			good(reg)
			reg.spoil = blobOf(func(w http.ResponseWriter, _ *http.Request, d []byte) {
				w.Header().Set("Content-Length", fmt.Sprint(len(d)))
				_, _ = w.Write(d[:len(d)/2])
			})
		}, errdefs.DataLoss, "truncated", true},
		{"other size", func(reg *registry, _ *fixture) {
			good(reg)
			reg.spoil = blobOf(func(w http.ResponseWriter, _ *http.Request, d []byte) { _, _ = w.Write(d[:1000]) })
		}, errdefs.DataLoss, "the manifest says", false},
		{"no gzip", func(reg *registry, _ *fixture) {
			d := reg.image("tag", "amd64", image.Gzip, data)
			_ = d
			junk := []byte("\x1f\x8b\x08junk" + noise(1000, 3))
			reg.layerInstead("tag", junk)
		}, errdefs.DataLoss, "unpack", false},
		{"wrong DiffID", func(reg *registry, _ *fixture) {
			good(reg)
			reg.layerInstead("tag", pack(t, image.Gzip, tarOf(t, map[string]string{"b": "other"})))
		}, errdefs.DataLoss, "DiffID", false},
		{"bomb", func(reg *registry, f *fixture) {
			f.Limits = Limits{Free: 1 << 20, Ratio: 100, Layer: 1 << 40}
			reg.image("tag", "amd64", image.Gzip, tarOf(t, map[string]string{"zeros": strings.Repeat("\x00", 64<<20)}))
		}, errdefs.Exhausted, "more than 100 times", false},
		{"bomb of zstd", func(reg *registry, f *fixture) {
			f.Limits = Limits{Free: 1 << 20, Ratio: 100, Layer: 1 << 40}
			reg.image("tag", "amd64", image.Zstd, tarOf(t, map[string]string{"zeros": strings.Repeat("\x00", 64<<20)}))
		}, errdefs.Exhausted, "more than 100 times", false},
		{"too big", func(reg *registry, f *fixture) { f.Limits.Layer = 1000; good(reg) }, errdefs.Exhausted, "more than 1000 bytes", false},
		{"disk full while unpacking", func(reg *registry, f *fixture) { f.layers.Fail = syscall.ENOSPC; good(reg) }, errdefs.Internal, "no space left", false},
		{"index as manifest", func(reg *registry, _ *fixture) {
			good(reg)
			reg.types["tag"] = ocispec.MediaTypeImageIndex
		}, errdefs.DataLoss, "calls itself", false},
		{"foreign layer", func(reg *registry, _ *fixture) {
			good(reg)
			raw := bytes.ReplaceAll(reg.manifests["tag"], []byte(ocispec.MediaTypeImageLayerGzip), []byte("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"))
			reg.manifests["tag"] = raw
		}, errdefs.NotImplemented, "foreign layer", false},
		{"windows", func(reg *registry, _ *fixture) {
			good(reg)
			reg.configInstead("tag", `{"os":"windows","architecture":"amd64","rootfs":{"type":"layers","diff_ids":["`+string(digest.FromBytes(data))+`"]}}`)
		}, errdefs.NotImplemented, "windows", false},
		{"fewer layers than promised", func(reg *registry, _ *fixture) {
			good(reg)
			reg.configInstead("tag", `{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}`)
		}, errdefs.DataLoss, "layers", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, reg := newFixture(t, Limits{}), newRegistry(t)
			tt.setup(reg, f)
			_, _, err := f.pull(reg.url + "/x:tag")
			if !errdefs.Is(err, tt.class) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error = %v (%v), want %q (%v)", err, errdefs.ClassOf(err), tt.says, tt.class)
			}
			if list, err := f.Images.List(); len(list) != 0 || err != nil {
				t.Errorf("images: %v, %v", list, err)
			}
			if left := f.left(); left[2] != 0 || !tt.keeps && left != [3]int{} {
				t.Errorf("left on disk: %v", left)
			}
		})
	}
}

// layerInstead makes the image under tag hold another blob as its first layer,
// with all digests right.
func (r *registry) layerInstead(tag string, blob []byte) {
	r.edit(tag, func(m *ocispec.Manifest) {
		m.Layers[0].Digest, m.Layers[0].Size = r.blob(blob), int64(len(blob))
	})
}

func (r *registry) configInstead(tag, config string) {
	r.edit(tag, func(m *ocispec.Manifest) {
		m.Config.Digest, m.Config.Size = r.blob([]byte(config)), int64(len(config))
	})
}

func (r *registry) edit(tag string, fn func(*ocispec.Manifest)) {
	r.t.Helper()
	m, err := image.ParseManifest(r.manifests[tag], "")
	if err != nil {
		r.t.Fatal(err)
	}
	fn(&m)
	r.manifest(tag, m.MediaType, m)
}

// TestPullGoesOn: what a broken pull had is not fetched again.
func TestPullGoesOn(t *testing.T) {
	f, reg := newFixture(t, Limits{}), newRegistry(t)
	data := tarOf(t, map[string]string{"a": noise(500000, 4)})
	reg.image("tag", "amd64", image.Gzip, data)
	var mu sync.Mutex
	broken, sent := true, 0
	reg.spoil = func(w http.ResponseWriter, r *http.Request, d []byte) bool {
		mu.Lock()
		defer mu.Unlock()
		if !strings.Contains(r.URL.Path, "/blobs/") || len(d) < 100000 {
			return false
		}
		if broken && r.Header.Get("Range") == "" {
			w.Header().Set("Content-Length", fmt.Sprint(len(d)))
			_, _ = w.Write(d[:len(d)/2])
			return true
		}
		if broken {
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
		var from int
		if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); err != nil {
			t.Errorf("the retry began at the start: %v", err)
		}
		sent = len(d) - from
		return false
	}
	if _, _, err := f.pull(reg.url + "/x:tag"); !errdefs.Is(err, errdefs.Unavailable) {
		t.Fatalf("error = %v", err)
	}
	if left := f.left(); left[1] != 1 || left[2] != 0 {
		t.Errorf("left on disk: %v, want the beginning of the layer", left)
	}
	broken = false
	if _, _, err := f.pull(reg.url + "/x:tag"); err != nil {
		t.Fatal(err)
	}
	if sent == 0 || sent > 260000 {
		t.Errorf("the retry fetched %d bytes", sent)
	}
	if left := f.left(); left != [3]int{3, 0, 1} || !bytes.Equal(f.layers.Tar(digest.FromBytes(data)), data) {
		t.Errorf("on disk: %v", left)
	}
}

// TestPullsShareLayers: concurrent pulls fetch a shared layer once.
func TestPullsShareLayers(t *testing.T) {
	f, reg := newFixture(t, Limits{}), newRegistry(t)
	base := tarOf(t, map[string]string{"a": noise(500000, 5)})
	var wg sync.WaitGroup
	for i := range 4 {
		tag := fmt.Sprint("t", i)
		reg.image(tag, "amd64", image.Zstd, base, tarOf(t, map[string]string{"n": tag}))
	}
	for i := range 8 {
		wg.Go(func() {
			ref, _ := reference.Parse(fmt.Sprintf("%s/x:t%d", reg.url, i%4))
			if _, err := f.Pull(t.Context(), PullOptions{Ref: ref}, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	shared := 0
	for _, p := range reg.asked {
		if strings.HasSuffix(p, string(digest.FromBytes(pack(t, image.Zstd, base)))) {
			shared++
		}
	}
	if shared != 1 || f.left() != [3]int{13, 0, 5} {
		t.Errorf("the shared layer was fetched %d times; on disk: %v", shared, f.left())
	}
}

func TestPullCancelled(t *testing.T) {
	f, reg := newFixture(t, Limits{}), newRegistry(t)
	reg.image("tag", "amd64", image.Gzip, tarOf(t, map[string]string{"a": noise(1<<20, 6)}))
	ctx, cancel := context.WithCancel(t.Context())
	reg.spoil = func(w http.ResponseWriter, r *http.Request, d []byte) bool {
		if !strings.Contains(r.URL.Path, "/blobs/") || len(d) < 100000 {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(d)))
		_, _ = w.Write(d[:len(d)/2])
		_ = http.NewResponseController(w).Flush()
		cancel()
		<-r.Context().Done()
		return true
	}
	ref, _ := reference.Parse(reg.url + "/x:tag")
	if _, err := f.Pull(ctx, PullOptions{Ref: ref}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v", err)
	}
	if list, _ := f.Images.List(); len(list) != 0 || f.left()[2] != 0 {
		t.Errorf("left: %v, images %v", f.left(), list)
	}
}

// TestPullToFullDisk pulls onto a file system that is too small.
func TestPullToFullDisk(t *testing.T) {
	kerneltest.Root(t)
	dir := t.TempDir()
	if err := syscall.Mount("lade-test", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) }()
	f, reg := newFixtureIn(t, dir, Limits{}), newRegistry(t)
	reg.image("tag", "amd64", image.Gzip, tarOf(t, map[string]string{"a": noise(3<<20, 7)}), tarOf(t, map[string]string{"b": "small"}))
	_, _, err := f.pull(reg.url + "/x:tag")
	if !errdefs.Is(err, errdefs.Exhausted) || !strings.Contains(err.Error(), "no space left") || errdefs.HintOf(err) == "" {
		t.Errorf("error = %v (class %v, hint %q)", err, errdefs.ClassOf(err), errdefs.HintOf(err))
	}
	if left := f.left(); left != [3]int{} {
		t.Errorf("left on disk: %v", left)
	}

	// The same with real layers: the blob fits, and what it unpacks to does not.
	reg.image("packed", "amd64", image.Gzip, tarOf(t, map[string]string{"a": strings.Repeat("packs well ", 300000)}))
	tr, snaps, closeDB, err := storeIn(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = closeDB() }()
	ref, _ := reference.Parse(reg.url + "/x:packed")
	if _, err := tr.Pull(t.Context(), PullOptions{Ref: ref}, nil); !errdefs.Is(err, errdefs.Exhausted) || errdefs.HintOf(err) == "" {
		t.Errorf("error = %v (class %v, hint %q)", err, errdefs.ClassOf(err), errdefs.HintOf(err))
	}
	if layers, err := snaps.Layers(); len(layers) != 0 || err != nil || f.left() != [3]int{} {
		t.Errorf("left on disk: %v, layers %v, %v", f.left(), layers, err)
	}
}
