package transfer

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/image"
	"lade/internal/imagestore"
	"lade/internal/reference"
	"lade/internal/registry/client"
	"lade/test/kerneltest"
	"lade/test/stores"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("LADE_TEST_PULLER"); dir != "" {
		pullForever(dir, os.Getenv("LADE_TEST_REGISTRY"))
	}
	if dir := os.Getenv("LADE_TEST_PUSHER"); dir != "" {
		pushForever(dir, os.Getenv("LADE_TEST_NAME"), os.Getenv("LADE_TEST_REGISTRY"))
	}
	kerneltest.Main(m, kerneltest.Options{})
}

type fixture struct {
	*Transfer
	t      *testing.T
	dir    string
	layers *stores.Layers
}

func newFixture(t *testing.T, limits Limits) *fixture {
	t.Helper()
	return newFixtureIn(t, t.TempDir(), limits)
}

func newFixtureIn(t *testing.T, dir string, limits Limits) *fixture {
	t.Helper()
	blobs, layers := stores.Blobs(t, dir), &stores.Layers{}
	c := client.New(client.Options{Backoff: time.Millisecond, Attempts: 3, Stall: 5 * time.Second})
	t.Cleanup(c.Close)
	images := imagestore.New(imagestore.Config{DB: stores.Records(t), Content: blobs, Layers: layers})
	t.Cleanup(func() { _ = images.Close() })
	return &fixture{
		t: t, dir: dir, layers: layers,
		Transfer: New(Config{
			Content: blobs, Layers: layers, Client: c, Limits: limits, Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"},
			Images: images,
		}),
	}
}

// left lists what is on disk: blobs, unfinished blobs, layers.
func (f *fixture) left() [3]int {
	f.t.Helper()
	blobs, err := f.Content.List()
	if err != nil {
		f.t.Fatal(err)
	}
	partial, err := os.ReadDir(filepath.Join(f.dir, "content", "ingest"))
	if err != nil {
		f.t.Fatal(err)
	}
	return [3]int{len(blobs), len(partial), f.layers.Len()}
}

func (f *fixture) pull(ref string) (Result, []Progress, error) {
	f.t.Helper()
	r, err := reference.Parse(ref)
	if err != nil {
		f.t.Fatal(err)
	}
	var all []Progress
	res, err := f.Pull(f.t.Context(), PullOptions{Ref: r}, func(p Progress) { all = append(all, p) })
	return res, all, err
}

func tarOf(tb testing.TB, files map[string]string) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	var names []string
	for n := range files {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		h := &tar.Header{Name: n, Mode: 0o644, Size: int64(len(files[n])), Typeflag: tar.TypeReg}
		if target, ok := strings.CutPrefix(files[n], "-> "); ok {
			h.Size, h.Typeflag, h.Linkname = 0, tar.TypeSymlink, target
		}
		if err := w.WriteHeader(h); err != nil {
			tb.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := io.WriteString(w, files[n]); err != nil {
				tb.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func pack(tb testing.TB, c image.Compression, data []byte) []byte {
	tb.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	switch c {
	case image.Gzip:
		w = gzip.NewWriter(&b)
	case image.Zstd:
		z, err := zstd.NewWriter(&b)
		if err != nil {
			tb.Fatal(err)
		}
		w = z
	case image.Plain:
		return data
	}
	if _, err := w.Write(data); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// registry is a registry in memory, whose answers a test can spoil.
type registry struct {
	t         testing.TB
	url       string
	mu        sync.Mutex
	blobs     map[string][]byte // by digest
	manifests map[string][]byte // by tag and digest
	types     map[string]string
	asked     []string
	spoil     func(w http.ResponseWriter, r *http.Request, data []byte) bool // true: it answered
}

func newRegistry(tb testing.TB) *registry {
	tb.Helper()
	r := &registry{t: tb, blobs: map[string][]byte{}, manifests: map[string][]byte{}, types: map[string]string{}}
	s := httptest.NewServer(r)
	tb.Cleanup(s.Close)
	r.url = strings.TrimPrefix(s.URL, "http://")
	return r
}

func (r *registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	r.asked = append(r.asked, req.URL.Path)
	last := req.URL.Path[strings.LastIndexByte(req.URL.Path, '/')+1:]
	data, ok := r.blobs[last]
	if strings.Contains(req.URL.Path, "/manifests/") {
		data, ok = r.manifests[last]
		w.Header().Set("Content-Type", r.types[last])
	}
	spoil := r.spoil
	r.mu.Unlock()
	if spoil != nil && spoil(w, req, data) {
		return
	}
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}`)
		return
	}
	w.Header().Set("Docker-Content-Digest", string(digest.FromBytes(data)))
	if strings.Contains(req.URL.Path, "/manifests/") {
		_, _ = w.Write(data)
		return
	}
	http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(data))
}

func (r *registry) blob(data []byte) digest.Digest {
	d := digest.FromBytes(data)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.blobs[string(d)] = data
	return d
}

func (r *registry) manifest(tag, mediaType string, v any) ocispec.Descriptor {
	r.t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		r.t.Fatal(err)
	}
	d := digest.FromBytes(raw)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, key := range []string{string(d), tag} {
		r.manifests[key], r.types[key] = raw, mediaType
	}
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(raw))}
}

var layerTypes = map[image.Compression]string{image.Plain: ocispec.MediaTypeImageLayer, image.Gzip: ocispec.MediaTypeImageLayerGzip, image.Zstd: ocispec.MediaTypeImageLayerZstd}

// image puts an image of the given tars under a tag.
func (r *registry) image(tag, arch string, c image.Compression, tars ...[]byte) ocispec.Descriptor {
	r.t.Helper()
	config := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: arch}}
	config.RootFS.Type = "layers"
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest}
	m.SchemaVersion = 2
	for _, tar := range tars {
		packed := pack(r.t, c, tar)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.FromBytes(tar))
		m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: layerTypes[c], Digest: r.blob(packed), Size: int64(len(packed))})
	}
	raw, err := json.Marshal(config)
	if err != nil {
		r.t.Fatal(err)
	}
	m.Config = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: r.blob(raw), Size: int64(len(raw))}
	return r.manifest(tag, ocispec.MediaTypeImageManifest, m)
}

func writeFile(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
