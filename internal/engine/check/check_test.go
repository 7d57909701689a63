package check

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/api"
	"lade/internal/imagestore"
	"lade/internal/platform"
	"lade/internal/reference"
	"lade/internal/registry/client"
	"lade/internal/snapshot"
	"lade/internal/transfer"
	"lade/test/kerneltest"
	"lade/test/stores"
)

func TestMain(m *testing.M) { kerneltest.Main(m, kerneltest.Options{}) }

type fixture struct {
	*Service
	t      *testing.T
	dir    string
	ledger api.Ledger
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t, dir: t.TempDir()}
	blobs := stores.Blobs(t, f.dir)
	snaps, err := snapshot.Open(f.dir, snapshot.Options{})
	if err != nil {
		t.Fatal(err)
	}
	layers := imagestore.Snapshots{Store: snaps}
	images := imagestore.New(imagestore.Config{DB: stores.Records(t), Content: blobs, Layers: layers})
	t.Cleanup(func() { _ = images.Close() })
	registry := client.New(client.Options{Backoff: time.Millisecond, Attempts: 2})
	t.Cleanup(registry.Close)
	f.Service = New(Config{
		Images: images, Content: blobs, Layers: snaps, Log: slog.New(slog.DiscardHandler),
		Transfer: transfer.New(transfer.Config{Content: blobs, Images: images, Layers: layers, Client: registry, Platform: platform.Of("linux", "amd64")}),
		Ledger:   func(context.Context) (api.Ledger, error) { return f.ledger, nil },
	})
	return f
}

func tarOf(t *testing.T, name, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(text)), Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	_, _ = w.Write([]byte(text))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// add puts an image of one plain layer into the store.
func (f *fixture) add(name, text string) imagestore.Entry {
	f.t.Helper()
	ref, err := reference.Parse(name)
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := f.c.Transfer.Add(f.t.Context(), ocispec.Image{Platform: platform.Of("linux", "amd64")}, [][]byte{tarOf(f.t, "file", text)}, ref); err != nil {
		f.t.Fatal(err)
	}
	e, err := f.c.Images.Resolve(name)
	if err != nil {
		f.t.Fatal(err)
	}
	return e
}

func (f *fixture) blobPath(d digest.Digest) string {
	return filepath.Join(f.dir, "content", "blobs", "sha256", d.Encoded())
}

// spoil changes one byte in the middle of a file.
func (f *fixture) spoil(path string) {
	f.t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		f.t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.Chmod(path, 0o600); err != nil {
		f.t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) check(repair bool) []api.Problem {
	f.t.Helper()
	r, err := f.Check(f.t.Context(), repair)
	if err != nil {
		f.t.Fatal(err)
	}
	return r.Problems
}

// TestDamage: what is damaged or missing is found, by its digest and its image,
// and mended from whichever form is left.
func TestDamage(t *testing.T) {
	kerneltest.Root(t)
	f := newFixture(t)
	e := f.add("local/test:1", strings.Repeat("text ", 10000))
	blob, diffID := e.Record.Layers[0].Blob, e.Record.Layers[0].DiffID
	l, err := f.c.Layers.Layer(diffID)
	if err != nil {
		t.Fatal(err)
	}
	if p := f.check(false); len(p) != 0 {
		t.Fatalf("at first: %+v", p)
	}
	for _, tt := range []struct {
		name, kind, object string
		harm               func()
	}{
		{"blob", "damaged blob", string(blob), func() { f.spoil(f.blobPath(blob)) }},
		{"blob is gone", "missing blob", string(blob), func() { _ = os.Remove(f.blobPath(blob)) }},
		{"layer", "damaged layer", string(diffID), func() { f.spoil(l.Path) }},
		{"layer is gone", "missing layer", string(diffID), func() { _ = os.Remove(l.Path) }},
		{"layer is cut", "damaged layer", string(diffID), func() { _ = os.Truncate(l.Path, 100) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.harm()
			for _, repair := range []bool{false, true} {
				p := f.check(repair)
				if len(p) != 1 || p[0].Kind != tt.kind || p[0].Object != tt.object || p[0].Repaired != repair || p[0].Users[0] != "local/test:1" {
					t.Fatalf("repair %v: %+v", repair, p)
				}
			}
			if p := f.check(false); len(p) != 0 {
				t.Errorf("after the repair: %+v", p)
			}
		})
	}
}

// TestRefetch: what is compressed comes from the registry again, by its digest.
func TestRefetch(t *testing.T) {
	kerneltest.Root(t)
	f := newFixture(t)
	plain := tarOf(t, "file", strings.Repeat("from afar ", 5000))
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write(plain)
	_ = z.Close()
	config := []byte(`{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":["` + string(digest.FromBytes(plain)) + `"]}}`)
	manifest := []byte(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageManifest + `","config":` + descriptor(ocispec.MediaTypeImageConfig, config) +
		`,"layers":[` + descriptor(ocispec.MediaTypeImageLayerGzip, packed.Bytes()) + `]}`)
	served := map[string][]byte{}
	for _, b := range [][]byte{config, packed.Bytes(), manifest} {
		served[string(digest.FromBytes(b))] = b
	}
	served["1"] = manifest
	var mu sync.Mutex
	down := false
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		b, ok := served[r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]]
		if !ok || down {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		if strings.Contains(r.URL.Path, "/manifests/") {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
		}
		_, _ = w.Write(b)
	}))
	defer srv.Close()
	ref, err := reference.Parse(strings.TrimPrefix(srv.URL, "http://") + "/a/b:1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.c.Transfer.Pull(t.Context(), transfer.PullOptions{Ref: ref}, nil); err != nil {
		t.Fatal(err)
	}
	harm := func() {
		f.spoil(f.blobPath(digest.FromBytes(packed.Bytes())))
		f.spoil(f.blobPath(digest.FromBytes(config)))
		if err := os.Remove(f.blobPath(digest.FromBytes(manifest))); err != nil {
			t.Error(err)
		}
	}
	harm()
	mu.Lock()
	down = true
	mu.Unlock()
	for _, p := range f.check(true) {
		if p.Repaired || !strings.Contains(p.Repair, "/a/b") {
			t.Errorf("without a registry: %+v", p)
		}
	}
	mu.Lock()
	down = false
	mu.Unlock()
	if p := f.check(true); len(p) != 3 || !p[0].Repaired || !p[1].Repaired || !p[2].Repaired {
		t.Errorf("repair: %+v", p)
	}
	if p := f.check(false); len(p) != 0 {
		t.Errorf("after it: %+v", p)
	}
}

func descriptor(mediaType string, b []byte) string {
	raw, err := json.Marshal(ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))})
	if err != nil {
		panic(err)
	}
	return string(raw)
}

// TestUnowned: only what lies there twice is reported, and only what has a name
// of ours is removed.
func TestUnowned(t *testing.T) {
	kerneltest.Root(t)
	f := newFixture(t)
	ours, foreign := filepath.Join(f.dir, ".tmp-left"), filepath.Join(f.dir, "notes.txt")
	for _, p := range []string{ours, foreign} {
		if err := os.WriteFile(p, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f.ledger = api.Ledger{Root: f.dir, Lines: []api.LedgerLine{{Path: ".tmp-left", Files: 1}, {Path: "notes.txt", Files: 1}, {Kind: "blob", Owner: "x"}}}
	p := f.check(true)
	if len(p) != 2 || !p[0].Repaired || p[1].Repaired {
		t.Errorf("%+v", p)
	}
	if _, err := os.Lstat(ours); err == nil {
		t.Error("ours is still there")
	}
	if _, err := os.Lstat(foreign); err != nil {
		t.Error("somebody's file is gone")
	}
}

// TestNoFalseAlarms checks again and again while images come and go.
func TestNoFalseAlarms(t *testing.T) {
	kerneltest.Root(t)
	f := newFixture(t)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for _, name := range []string{"a", "b"} {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				e := f.add("local/"+name+":1", "the same text")
				if _, err := f.c.Images.Delete(e.ID, imagestore.DeleteOptions{Named: true}); err != nil && !strings.Contains(err.Error(), "No such image") {
					t.Error(err)
				}
			}
		})
	}
	for range 50 {
		if p := f.check(true); len(p) != 0 {
			t.Errorf("a false alarm: %+v", p)
		}
	}
	close(stop)
	wg.Wait()
}
