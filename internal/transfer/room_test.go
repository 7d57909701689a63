package transfer

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"lade/internal/content"
	"lade/internal/errdefs"
	"lade/internal/imagestore"
	"lade/internal/ledger"
	"lade/internal/linux/mount"
	"lade/internal/platform"
	"lade/internal/reference"
	"lade/internal/registry/client"
	"lade/internal/snapshot"
	"lade/test/stores"
)

// bounded is a store of images that may take 20 MiB.
type boundedStore struct {
	*Transfer
	t    *testing.T
	room *imagestore.Room
	reg  string
}

const roomSize = 20 << 20

func newBounded(t *testing.T, registry string) *boundedStore {
	t.Helper()
	dir := t.TempDir()
	blobs, err := content.Open(filepath.Join(dir, "content"))
	if err != nil {
		t.Fatal(err)
	}
	snaps, err := snapshot.Open(dir, snapshot.Options{Kind: mount.EROFS})
	if err != nil {
		t.Fatal(err)
	}
	own := func(kind ledger.Kind) func(digest.Digest) ledger.Owner {
		return func(d digest.Digest) ledger.Owner { return ledger.Owner{Kind: kind, ID: string(d)} }
	}
	room := &imagestore.Room{Max: roomSize, Measure: func() ([]ledger.Report, error) {
		a, err := ledger.Walk(filepath.Join(dir, "content"), blobs.Ledger(own(ledger.Blob)), time.Now())
		if err != nil {
			return nil, err
		}
		b, err := ledger.Walk(filepath.Join(dir, "layers"), []ledger.Source{snaps.Ledger(own(ledger.Layer))}, time.Now())
		return []ledger.Report{a, b}, err
	}}
	blobs.Bound(room.Take)
	snaps.Bound(room.Take)
	layers := imagestore.Snapshots{Store: snaps}
	images := imagestore.New(imagestore.Config{DB: stores.Records(t), Content: blobs, Layers: layers, Room: room})
	t.Cleanup(func() { _ = images.Close() })
	c := client.New(client.Options{Backoff: time.Millisecond})
	t.Cleanup(c.Close)
	tr := New(Config{Content: blobs, Images: images, Layers: layers, Client: c, Platform: platform.Of("linux", "amd64")})
	return &boundedStore{tr, t, room, registry}
}

func (b *boundedStore) pull(tag string) error {
	b.t.Helper()
	ref, err := reference.Parse(b.reg + "/x:" + tag)
	if err != nil {
		b.t.Fatal(err)
	}
	_, err = b.Pull(b.t.Context(), PullOptions{Ref: ref}, nil)
	reports, measureErr := b.room.Measure()
	if measureErr != nil {
		b.t.Fatal(measureErr)
	}
	if n := reports[0].Bytes + reports[1].Bytes; n > roomSize {
		b.t.Errorf("after the pull of %s, %d bytes are taken, of %d", tag, n, roomSize)
	}
	return err
}

// want checks which images are there, whole.
func (b *boundedStore) want(tags ...string) {
	b.t.Helper()
	list, err := b.Images.List()
	if err != nil {
		b.t.Fatal(err)
	}
	var got []string
	for _, e := range list {
		for _, r := range e.Refs {
			if r.Ref.Tag != "" {
				got = append(got, r.Ref.Tag)
			}
		}
		for _, l := range e.Record.Layers {
			if err := b.Content.Verify(l.Blob); err != nil {
				b.t.Error(err)
			}
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, tags) {
		b.t.Errorf("there are %v, want %v", got, tags)
	}
}

// TestRoom pulls more than the store may hold: what was used longest ago goes,
// what a container uses or nobody else has stays, and nothing goes in vain.
func TestRoom(t *testing.T) {
	reg := newRegistry(t)
	for i, tag := range []string{"a", "b", "c"} {
		reg.image(tag, "amd64", "gzip", tarOf(t, map[string]string{"own": noise(4<<20, uint64(i))}))
	}
	reg.image("big", "amd64", "gzip", tarOf(t, map[string]string{"own": noise(12<<20, 7)}))
	reg.image("swells", "amd64", "gzip", tarOf(t, map[string]string{"own": strings.Repeat("x", 60<<20)}))
	b := newBounded(t, reg.url)
	for _, tag := range []string{"a", "b"} {
		if err := b.pull(tag); err != nil {
			t.Fatal(err)
		}
	}
	b.want("a", "b")
	refused := func(tag string) {
		t.Helper()
		err := b.pull(tag)
		if !errdefs.Is(err, errdefs.Exhausted) || errdefs.HintOf(err) == "" {
			t.Errorf("pull of %s: %v (hint %q)", tag, err, errdefs.HintOf(err))
		}
	}
	refused("big")
	refused("swells")
	b.want("a", "b")
	if err := b.pull("c"); err != nil {
		t.Fatal(err)
	}
	b.want("b", "c")
	// A container keeps the image that would go next.
	e, err := b.Images.Resolve(b.reg + "/x:b")
	if err != nil {
		t.Fatal(err)
	}
	var layers []digest.Digest
	for _, l := range e.Record.Layers {
		layers = append(layers, l.DiffID)
	}
	if err := b.Images.Pin("container", layers); err != nil {
		t.Fatal(err)
	}
	if err := b.pull("a"); err != nil {
		t.Fatal(err)
	}
	b.want("a", "b")
	// The container's end was a use, later than the pull of a.
	if err := b.Images.Unpin("container"); err != nil {
		t.Fatal(err)
	}
	if err := b.pull("c"); err != nil {
		t.Fatal(err)
	}
	b.want("b", "c")
	// What is known to no registry is not removed for another.
	for _, tag := range []string{"b", "c"} {
		e, err := b.Images.Resolve(b.reg + "/x:" + tag)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range e.Refs {
			if r.Remote {
				if err := b.Images.Untag(r.Ref); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	refused("a")
	b.want("b", "c")
}
