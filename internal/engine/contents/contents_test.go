package contents

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/api"
	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/imagestore"
	"lade/internal/linux/mount"
	"lade/internal/platform"
	"lade/internal/reference"
	"lade/internal/snapshot"
	"lade/internal/transfer"
	"lade/test/stores"
)

// layerOf makes a tar: "d/" a directory, "a=text" a file, "a->b" a link, "a=>b"
// a hard link.
func layerOf(t *testing.T, entries ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: e, Mode: 0o644}
		text := ""
		if name, to, ok := strings.Cut(e, "->"); ok {
			h.Typeflag, h.Name, h.Linkname = tar.TypeSymlink, name, to
		} else if name, to, ok := strings.Cut(e, "=>"); ok {
			h.Typeflag, h.Name, h.Linkname = tar.TypeLink, name, to
		} else if strings.HasSuffix(e, "/") {
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		} else {
			h.Name, text, _ = strings.Cut(e, "=")
			h.Size = int64(len(text))
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func newService(t *testing.T) (*Service, func(name string, layers ...[]byte)) {
	t.Helper()
	dir := t.TempDir()
	blobs := stores.Blobs(t, dir)
	snaps, err := snapshot.Open(dir, snapshot.Options{Kind: mount.EROFS})
	if err != nil {
		t.Fatal(err)
	}
	layers := imagestore.Snapshots{Store: snaps}
	images := imagestore.New(imagestore.Config{DB: stores.Records(t), Content: blobs, Layers: layers})
	p := platform.Of("linux", "amd64")
	moves := transfer.New(transfer.Config{Content: blobs, Images: images, Layers: layers, Platform: p})
	s := New(Config{Images: images, Layers: snaps, Resolve: func(_ context.Context, ref string) (image.Image, error) {
		e, err := images.Resolve(ref)
		return e.Image, err
	}})
	return s, func(name string, tars ...[]byte) {
		t.Helper()
		ref, err := reference.Parse(name)
		if err != nil {
			t.Fatal(err)
		}
		c := ocispec.Image{Platform: p, Author: name}
		if _, err := moves.Add(t.Context(), c, tars, ref); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTree(t *testing.T) {
	s, add := newService(t)
	base, a, b := layerOf(t, "base=x"), layerOf(t, "a=1"), layerOf(t, "b=2")
	add("one:1", base, a)
	add("two:1", base, a, b)
	add("base:1", base)
	add("none:1")
	tree, err := s.Tree(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(tree.Roots) != 1 || len(tree.Empty) != 1 {
		raw, _ := json.Marshal(tree)
		t.Fatalf("%s", raw)
	}
	root := tree.Roots[0]
	if root.Users != 3 || root.Images[0] != "base:1" || root.Size == 0 || len(root.Above) != 1 {
		t.Errorf("root: %+v", root)
	}
	mid := root.Above[0]
	if mid.Users != 2 || mid.Images[0] != "one:1" || mid.Above[0].Images[0] != "two:1" {
		t.Errorf("above: %+v", mid)
	}
}

func TestFiles(t *testing.T) {
	s, add := newService(t)
	add("x:1",
		layerOf(t, "etc/", "etc/a=1", "etc/b=22", "dir/", "dir/old=3", "over/", "over/f=4", "real=55"),
		layerOf(t, "etc/", "etc/.wh.a", "dir/", "dir/.wh..wh..opq", "dir/new=6", "over=now a file", "link->real", "also=>real"))
	list := func(layer string) string {
		files, err := s.Files(t.Context(), "x:1", layer)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for _, f := range files {
			fmt.Fprintf(&b, "%s %s %d\n", f.Type, f.Path, f.Size)
		}
		return b.String()
	}
	want := "file /also 2\ndir /dir 0\nfile /dir/new 1\ndir /etc 0\nfile /etc/b 2\nlink /link 0\nfile /over 10\nfile /real 2\n"
	if diff := cmp.Diff(want, list("")); diff != "" {
		t.Error(diff)
	}
	want = "hardlink /also 0\ndir /dir 0\nopaque /dir/.wh..wh..opq 0\nfile /dir/new 1\ndir /etc 0\nremoved /etc/a 0\nlink /link 0\nfile /over 10\n"
	if diff := cmp.Diff(want, list("2")); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []string{"0", "3", "zz"} {
		if _, err := s.Files(t.Context(), "x:1", bad); !errdefs.Is(err, errdefs.NotFound) {
			t.Errorf("layer %s: %v", bad, err)
		}
	}
	if _, err := s.Files(t.Context(), "nothing", ""); !errdefs.Is(err, errdefs.NotFound) {
		t.Error(err)
	}
}

func TestDiff(t *testing.T) {
	s, add := newService(t)
	base := layerOf(t, "same=1", "text=old", "gone/", "gone/deep/", "gone/deep/f=1", "kept/", "kept/f=1")
	add("a:1", base)
	add("b:1", base, layerOf(t, "text=new", "more=12345", ".wh.gone", "kept/.wh.f"))
	got, err := s.Diff(t.Context(), "a:1", "b:1")
	if err != nil {
		t.Fatal(err)
	}
	want := []api.ImageChange{{Kind: "D", Path: "/gone"}, {Kind: "D", Path: "/kept/f", Size: -1}, {Kind: "A", Path: "/more", Size: 5}, {Kind: "C", Path: "/text"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got, err := s.Diff(t.Context(), "a:1", "a:1"); err != nil || len(got) != 0 {
		t.Errorf("%v, %v", got, err)
	}
}
