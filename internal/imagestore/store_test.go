package imagestore

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/content"
	"lade/internal/errdefs"
	"lade/internal/metadata"
	"lade/internal/reference"
	"lade/test/stores"
)

type fixture struct {
	t      *testing.T
	store  *Store
	blobs  *content.Store
	layers *stores.Layers
	db     *metadata.DB
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t, blobs: stores.Blobs(t, t.TempDir()), layers: &stores.Layers{}, db: stores.Records(t)}
	clock := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var mu sync.Mutex
	f.store = New(Config{DB: f.db, Content: f.blobs, Layers: f.layers, Now: func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		clock = clock.Add(time.Second)
		return clock
	}})
	return f
}

func (f *fixture) blob(text string) (digest.Digest, int64) {
	f.t.Helper()
	d, err := f.blobs.Put([]byte(text))
	if err != nil {
		f.t.Fatal(err)
	}
	return d, int64(len(text))
}

// image puts an image of the given layers on disk and returns its record.
func (f *fixture) image(label string, layers ...string) Manifest {
	f.t.Helper()
	c := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}, Config: ocispec.ImageConfig{Labels: map[string]string{"l": label}}}
	m := Manifest{Platform: c.Platform}
	for _, l := range layers {
		b, n := f.blob("blob of " + l)
		diff := digest.FromString(l)
		f.layers.Add(diff, make([]byte, 100))
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, diff)
		m.Layers = append(m.Layers, Layer{Blob: b, Size: n, DiffID: diff})
	}
	c.RootFS.Type = "layers"
	raw, err := json.Marshal(c)
	if err != nil {
		f.t.Fatal(err)
	}
	m.Config, _ = f.blob(string(raw))
	m.Descriptor.Digest, m.Descriptor.Size = f.blob("manifest of " + label + string(raw))
	return m
}

func ref(s string) reference.Reference {
	r, err := reference.Parse(s)
	if err != nil {
		panic(err)
	}
	return r
}

func (f *fixture) put(m Manifest, names ...string) {
	f.t.Helper()
	var all []Name
	for _, n := range names {
		all = append(all, Name{Ref: ref(n)})
	}
	if err := f.store.Put(m, all...); err != nil {
		f.t.Fatal(err)
	}
}

// left returns how many blobs and layers are on disk.
func (f *fixture) left() [2]int {
	f.t.Helper()
	blobs, err := f.blobs.List()
	if err != nil {
		f.t.Fatal(err)
	}
	return [2]int{len(blobs), f.layers.Len()}
}

func TestPutResolve(t *testing.T) {
	f := newFixture(t)
	m := f.image("a", "base", "top")
	by := "debian@" + string(m.Descriptor.Digest)
	f.put(m, "debian:bookworm", by)
	hex := m.Config.Encoded()
	for _, r := range []string{"debian:bookworm", "docker.io/library/debian:bookworm", by, "debian:other@" + string(m.Descriptor.Digest), hex, "sha256:" + hex, hex[:12], hex[:4], "sha256:" + hex[:7], string(m.Descriptor.Digest)} {
		e, err := f.store.Resolve(r)
		if err != nil {
			t.Errorf("Resolve(%s): %v", r, err)
			continue
		}
		if e.ID != m.Config || len(e.Config.RootFS.DiffIDs) != 2 {
			t.Errorf("Resolve(%s) = %+v", r, e)
		}
		if diff := cmp.Diff([]string{"debian:bookworm"}, e.Names); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{by}, e.Digests); diff != "" {
			t.Error(diff)
		}
	}
	for r, says := range map[string]string{
		"debian":                "No such image: debian:latest",
		"ubuntu:bookworm":       "No such image: ubuntu:bookworm",
		strings.Repeat("0", 64): "No such image: " + strings.Repeat("0", 64),
	} {
		if _, err := f.store.Resolve(r); !errdefs.Is(err, errdefs.NotFound) || err.Error() != says {
			t.Errorf("Resolve(%s): %v", r, err)
		}
	}
	if _, err := f.store.Resolve("no such"); !errdefs.Is(err, errdefs.Invalid) {
		t.Errorf("Resolve of nonsense: %v", err)
	}
}

func TestAmbiguousPrefix(t *testing.T) {
	f := newFixture(t)
	seen := map[string]bool{}
	for i := range 20 { // more images than hexadecimal digits
		m := f.image(fmt.Sprint(i), "base")
		f.put(m)
		first := m.Config.Encoded()[:1]
		if seen[first] {
			if _, err := f.store.Resolve("sha256:" + first); !errdefs.Is(err, errdefs.Conflict) {
				t.Errorf("Resolve(%s): %v, want a conflict", first, err)
			}
			return
		}
		seen[first] = true
	}
}

func TestPutRefusesWhatIsMissing(t *testing.T) {
	f := newFixture(t)
	m := f.image("a", "base")
	if err := f.layers.Remove(m.Layers[0].DiffID); err != nil {
		t.Fatal(err)
	}
	if err := f.store.Put(m); !errdefs.Is(err, errdefs.DataLoss) {
		t.Errorf("without a layer: %v", err)
	}
	m = f.image("b", "base")
	if err := f.blobs.Delete(m.Layers[0].Blob); err != nil {
		t.Fatal(err)
	}
	if err := f.store.Put(m); !errdefs.Is(err, errdefs.DataLoss) {
		t.Errorf("without a blob: %v", err)
	}
	if list, err := f.store.List(); len(list) != 0 || err != nil {
		t.Errorf("List = %v, %v", list, err)
	}
}

func TestDeleteKeepsWhatOthersUse(t *testing.T) {
	f := newFixture(t)
	a, b := f.image("a", "base", "a"), f.image("b", "base", "b")
	f.put(a, "a:1", "a:2")
	f.put(b, "b")
	if _, err := f.store.Delete(a.Config, DeleteOptions{}); !errdefs.Is(err, errdefs.Conflict) {
		t.Errorf("delete of a named image: %v", err)
	}
	gone, err := f.store.Delete(a.Config, DeleteOptions{Named: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(gone.Names) != 2 || !slices.Equal(gone.Layers, []digest.Digest{digest.FromString("a")}) || gone.Bytes == 0 {
		t.Errorf("gone: %+v", gone)
	}
	if _, err := f.store.Resolve("b"); err != nil {
		t.Error(err)
	}
	if got := f.left(); got != [2]int{4, 2} {
		t.Errorf("left: %v, want b's 4 blobs and 2 layers", got)
	}
	if _, err := f.store.Delete(b.Config, DeleteOptions{Named: true}); err != nil {
		t.Fatal(err)
	}
	if got := f.left(); got != [2]int{} {
		t.Errorf("left: %v, want nothing", got)
	}
	if _, err := f.store.Delete(b.Config, DeleteOptions{}); !errdefs.Is(err, errdefs.NotFound) {
		t.Errorf("delete twice: %v", err)
	}
}

func TestNamesMove(t *testing.T) {
	f := newFixture(t)
	a, b := f.image("a", "base"), f.image("b", "base")
	index, _ := f.blob("index")
	if err := f.store.Put(a, Name{Ref: ref("x"), Target: index}); err != nil {
		t.Fatal(err)
	}
	f.put(b, "x")
	if _, ok, _ := f.blobs.Has(index); ok {
		t.Error("the index that had the name is still on disk")
	}
	e, err := f.store.Resolve(a.Config.Encoded())
	if err != nil || len(e.Names) != 0 {
		t.Errorf("the old image has names %v, %v", e.Names, err)
	}
	if err := f.store.Tag(a.Config, ref("y:1")); err != nil {
		t.Fatal(err)
	}
	if err := f.store.Tag(a.Config, ref("y@"+string(a.Config))); !errdefs.Is(err, errdefs.Invalid) {
		t.Errorf("tag with a digest: %v", err)
	}
	if err := f.store.Tag("sha256:0", ref("z")); !errdefs.Is(err, errdefs.NotFound) {
		t.Errorf("tag of nothing: %v", err)
	}
	if err := f.store.Untag(ref("y:1")); err != nil {
		t.Fatal(err)
	}
	if err := f.store.Untag(ref("y:1")); !errdefs.Is(err, errdefs.NotFound) {
		t.Errorf("untag twice: %v", err)
	}
}

func TestPinKeepsLayers(t *testing.T) {
	f := newFixture(t)
	m := f.image("a", "base", "top")
	f.put(m, "a")
	diffs := []digest.Digest{m.Layers[0].DiffID, m.Layers[1].DiffID}
	if err := f.store.Pin("c1", diffs); err != nil {
		t.Fatal(err)
	}
	if _, err := f.store.Delete(m.Config, DeleteOptions{Named: true}); err != nil {
		t.Fatal(err)
	}
	if got := f.left(); got != [2]int{0, 2} {
		t.Errorf("left while pinned: %v", got)
	}
	if _, err := f.store.Sweep(time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if got := f.left(); got != [2]int{0, 2} {
		t.Errorf("left after a sweep while pinned: %v", got)
	}
	if err := f.store.Unpin("c1"); err != nil {
		t.Fatal(err)
	}
	if got := f.left(); got != [2]int{} {
		t.Errorf("left after unpin: %v", got)
	}
	if err := f.store.Pin("c2", diffs); !errdefs.Is(err, errdefs.NotFound) {
		t.Errorf("pin of what is gone: %v", err)
	}
}

func TestSweepSparesLeases(t *testing.T) {
	f := newFixture(t)
	m := f.image("a", "base")
	lease := f.store.Lease()
	lease.Hold(blobsOf(m)...)
	lease.Hold(layersOf(m)...)
	f.image("lost", "other") // on disk, but nobody's
	got, err := f.store.Sweep(time.Now().Add(time.Hour))
	if err != nil || got.Blobs != 3 || got.Layers != 1 {
		t.Errorf("Sweep = %+v, %v", got, err)
	}
	f.put(m, "a")
	lease.Release()
	if got, err := f.store.Sweep(time.Now().Add(time.Hour)); err != nil || got != (Swept{}) {
		t.Errorf("second Sweep = %+v, %v", got, err)
	}
	f.image("young", "young")
	if got, err := f.store.Sweep(time.Now().Add(-time.Hour)); err != nil || got.Blobs != 0 {
		t.Errorf("Sweep of old ones = %+v, %v", got, err)
	}
}

// TestPullsAndRemovals lets pulls of images that share layers meet removals of
// them: an image that is recorded is always whole.
func TestPullsAndRemovals(t *testing.T) {
	f := newFixture(t)
	m := []Manifest{f.image("a", "base", "a"), f.image("b", "base", "b")}
	var wg sync.WaitGroup
	for i, n := range []int{0, 1, 0, 1} {
		container := fmt.Sprint(i)
		wg.Go(func() {
			for range 50 {
				lease := f.store.Lease()
				lease.Hold(blobsOf(m[n])...)
				lease.Hold(layersOf(m[n])...)
				again := f.image([]string{"a", "b"}[n], "base", []string{"a", "b"}[n])
				if err := f.store.Put(again, Name{Ref: ref("x")}); err != nil {
					t.Error(err)
				}
				lease.Release()
			}
		})
		wg.Go(func() {
			for range 50 {
				_, err := f.store.Delete(m[n].Config, DeleteOptions{Named: true})
				if err != nil && !errdefs.Is(err, errdefs.NotFound) {
					t.Error(err)
				}
				if e, err := f.store.Resolve("x"); err == nil {
					if err := f.store.Pin(container, layersOf(e.Record)); err == nil {
						for _, d := range layersOf(e.Record) {
							if _, ok, _ := f.layers.Size(d); !ok {
								t.Error("a pinned layer is gone")
							}
						}
						_ = f.store.Unpin(container)
					}
				}
			}
		})
	}
	stop, swept := make(chan struct{}), make(chan struct{})
	go func() { // garbage collection beside all that
		defer close(swept)
		for {
			select {
			case <-stop:
				return
			default:
				if _, err := f.store.Sweep(time.Now().Add(time.Hour)); err != nil {
					t.Error(err)
				}
			}
		}
	}()
	wg.Wait()
	close(stop)
	<-swept
	list, err := f.store.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if err := f.store.present(e.Record, nil); err != nil {
			t.Error(err)
		}
		if _, err := f.store.Delete(e.ID, DeleteOptions{Named: true}); err != nil {
			t.Error(err)
		}
	}
	if _, err := f.store.Sweep(time.Now().Add(time.Hour)); err != nil {
		t.Error(err)
	}
	if got := f.left(); got != [2]int{} {
		t.Errorf("left: %v", got)
	}
}

func TestListPassesOverDamage(t *testing.T) {
	f := newFixture(t)
	good, bad := f.image("good", "base"), f.image("bad", "base")
	f.put(good, "good")
	f.put(bad, "bad")
	if err := f.blobs.Delete(bad.Config); err != nil {
		t.Fatal(err)
	}
	list, err := f.store.List()
	if err != nil || len(list) != 1 || list[0].ID != good.Config {
		t.Errorf("List = %v, %v", list, err)
	}
	if _, err := f.store.Resolve("bad"); !errdefs.Is(err, errdefs.NotFound) || errors.Is(err, nil) {
		t.Errorf("Resolve of the damaged image: %v", err)
	}
	// It can still be removed.
	if _, err := f.store.Delete(bad.Config, DeleteOptions{Named: true}); err != nil {
		t.Error(err)
	}
}
