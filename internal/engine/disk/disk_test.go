package disk

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	containerapi "github.com/moby/moby/api/types/container"
	imageapi "github.com/moby/moby/api/types/image"
	volumeapi "github.com/moby/moby/api/types/volume"
	"github.com/opencontainers/go-digest"

	"lade/internal/content"
	"lade/internal/ident"
	"lade/internal/ledger"
)

const block = 4096

// fixture is a data root with images that are blobs only, one containers'
// directory, and one volume.
type fixture struct {
	root   string
	blobs  *content.Store
	images []Image
	owned  map[digest.Digest]bool
}

func (f *fixture) All(context.Context) ([]Image, error) { return f.images, nil }

func (f *fixture) Sources() ([]ledger.Source, error) {
	return f.blobs.Ledger(func(d digest.Digest) ledger.Owner {
		if f.owned[d] {
			return ledger.Owner{Kind: ledger.Blob, ID: string(d)}
		}
		return ledger.Owner{Kind: ledger.Unused, ID: string(d)}
	}), nil
}

// blob stores a blob that takes n blocks.
func (f *fixture) blob(t *testing.T, text string, n int) digest.Digest {
	t.Helper()
	d, err := f.blobs.Put([]byte(strings.Repeat(text, n*block)[:n*block]))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (f *fixture) image(id string, containers int64, blobs ...digest.Digest) {
	for _, d := range blobs {
		f.owned[d] = true
	}
	f.images = append(f.images, Image{Summary: imageapi.Summary{ID: id, Containers: containers}, Blobs: blobs})
}

type oneVolume struct{ dir string }

func (v oneVolume) All(context.Context) ([]volumeapi.Volume, error) {
	return []volumeapi.Volume{{Name: "v1"}}, nil
}

func (v oneVolume) Sources() ([]ledger.Source, error) {
	return []ledger.Source{{Dir: v.dir, Owner: func(name string) ledger.Owner { return ledger.Owner{Kind: ledger.Volume, ID: name} }}}, nil
}

// TestUsage: what images share counts once, what a container in use keeps is
// not reclaimable, and every byte has an owner.
func TestUsage(t *testing.T) {
	f := &fixture{root: t.TempDir(), owned: map[digest.Digest]bool{}}
	var err error
	if f.blobs, err = content.Open(filepath.Join(f.root, "content")); err != nil {
		t.Fatal(err)
	}
	base, a, b, left := f.blob(t, "base", 4), f.blob(t, "a", 2), f.blob(t, "b", 1), f.blob(t, "x", 3)
	f.image("A", 1, base, a)
	f.image("B", 0, base, b, b)
	running, stopped := ident.New(), ident.New()
	for path, n := range map[string]int{
		filepath.Join("containers", running, "upper", "f"): 5, filepath.Join("containers", running, "log", "0"): 1,
		filepath.Join("containers", stopped, "upper", "f"): 6, filepath.Join("volumes", "v1", "f"): 7, "lade.db": 1,
	} {
		path = filepath.Join(f.root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, make([]byte, n*block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := New(Config{
		Root: f.root, Images: f, Volumes: oneVolume{filepath.Join(f.root, "volumes")},
		Containers: func(context.Context) ([]containerapi.Summary, error) {
			return []containerapi.Summary{
				{ID: running, ImageID: "A", State: containerapi.StateRunning}, {ID: stopped, ImageID: "A", State: containerapi.StateExited},
			}, nil
		},
	})
	u, err := s.Usage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := u.Images
	if i.TotalCount != 2 || i.ActiveCount != 1 || i.TotalSize != 7*block || i.Reclaimable != block {
		t.Errorf("images: %+v", i)
	}
	if x := i.Items[0]; x.Size != 6*block || x.SharedSize != 4*block {
		t.Errorf("image A has %d bytes, %d shared", x.Size, x.SharedSize)
	}
	if x := i.Items[1]; x.Size != 5*block || x.SharedSize != 4*block {
		t.Errorf("image B has %d bytes, %d shared", x.Size, x.SharedSize)
	}
	// A directory may take a block itself.
	c := u.Containers
	if c.TotalCount != 2 || c.ActiveCount != 1 || c.Items[0].SizeRw < 5*block || c.Items[0].SizeRw > 6*block ||
		c.Reclaimable != c.Items[1].SizeRw || c.TotalSize != c.Items[0].SizeRw+c.Items[1].SizeRw {
		t.Errorf("containers: %+v", c)
	}
	if v := u.Volumes; v.TotalCount != 1 || v.Items[0].UsageData.Size < 7*block || v.Reclaimable != v.TotalSize {
		t.Errorf("volumes: %+v", v)
	}
	l, err := s.Ledger(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var sum int64
	for _, line := range l.Lines {
		sum += line.Bytes
		if line.Kind == string(ledger.Unowned) {
			t.Errorf("unowned: %+v", line)
		}
		if line.Kind == string(ledger.Unused) && line.Owner != string(left) {
			t.Errorf("unused: %+v", line)
		}
	}
	if sum != l.Bytes {
		t.Errorf("lines add up to %d, all is %d", sum, l.Bytes)
	}
}
