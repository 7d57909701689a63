package snapshot

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"lade/internal/errdefs"
	"lade/internal/linux/mount"
	"lade/test/kerneltest"
)

func TestMain(m *testing.M) { kerneltest.Main(m, kerneltest.Options{}) }

var kinds = []mount.LayerKind{mount.EROFS, mount.Directory}

// each runs a test on a store of either kind.
func each(t *testing.T, f func(t *testing.T, s *Store)) {
	t.Helper()
	kerneltest.Root(t)
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) { f(t, open(t, t.TempDir(), kind)) })
	}
}

func open(t *testing.T, dir string, kind mount.LayerKind) *Store {
	t.Helper()
	s, err := Open(dir, Options{Kind: kind})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// makeTar makes a tar; a header without a type is a file, and Size is that of
// its content, which stands in Linkname.
func makeTar(t *testing.T, headers ...tar.Header) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		content := ""
		if h.Typeflag == 0 || h.Typeflag == tar.TypeReg {
			h.Typeflag, content, h.Linkname = tar.TypeReg, h.Linkname, ""
			h.Size = int64(len(content))
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func unpack(t *testing.T, s *Store, tars ...string) []digest.Digest {
	t.Helper()
	var ids []digest.Digest
	for _, text := range tars {
		id := digest.FromString(text)
		if _, err := s.Unpack(t.Context(), id, strings.NewReader(text), UnpackOptions{}); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}

func mounted(t *testing.T, root mount.Root) string {
	t.Helper()
	at := t.TempDir()
	if err := root.Mount(at); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := mount.Unmount(at); err != nil {
			t.Error(err)
		}
	})
	return at
}

// tree returns what lies below dir: the content of files, the targets of links.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	m := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		name, value := strings.TrimPrefix(p, dir+"/"), "dir"
		switch {
		case d.Type().IsRegular():
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			value = string(b)
		case d.Type()&os.ModeSymlink != 0:
			value, _ = os.Readlink(p)
		case !d.IsDir():
			value = d.Type().String()
		}
		m[name] = value
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestStack(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		t.Helper()
		ids := unpack(t, s,
			makeTar(t,
				tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o1751, Uid: 3, Gid: 4, ModTime: time.Unix(1234, 0)},
				tar.Header{Name: "etc/", Typeflag: tar.TypeDir, Mode: 0o755},
				tar.Header{Name: "etc/a", Linkname: "lower a"},
				tar.Header{Name: "etc/gone", Linkname: "x"},
				tar.Header{Name: "replaced/", Typeflag: tar.TypeDir, Mode: 0o755},
				tar.Header{Name: "replaced/old", Linkname: "x"},
				tar.Header{Name: "whited/", Typeflag: tar.TypeDir, Mode: 0o755},
				tar.Header{Name: "whited/old", Linkname: "x"},
			),
			makeTar(t,
				tar.Header{Name: "etc/", Typeflag: tar.TypeDir, Mode: 0o755},
				tar.Header{Name: "etc/.wh.gone"},
				tar.Header{Name: "etc/b", Linkname: "upper b"},
				tar.Header{Name: "replaced/", Typeflag: tar.TypeDir, Mode: 0o755},
				tar.Header{Name: "replaced/.wh..wh..opq"},
				tar.Header{Name: "replaced/new", Linkname: "y"},
				tar.Header{Name: "whited/", Typeflag: tar.TypeDir, Mode: 0o755},
				tar.Header{Name: ".wh.whited"},
			))
		root, err := s.Prepare("c1", ids, PrepareOptions{})
		if err != nil {
			t.Fatal(err)
		}
		at := mounted(t, root)
		want := map[string]string{
			"etc": "dir", "etc/a": "lower a", "etc/b": "upper b",
			"replaced": "dir", "replaced/new": "y", "whited": "dir",
		}
		if diff := cmp.Diff(want, tree(t, at)); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		var st syscall.Stat_t
		if err := syscall.Stat(at, &st); err != nil {
			t.Fatal(err)
		}
		if st.Mode != syscall.S_IFDIR|0o1751 || st.Uid != 3 || st.Gid != 4 || st.Mtim.Sec != 1234 {
			t.Errorf("the root directory is %+v", st)
		}
	})
}

func TestPrepare(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		t.Helper()
		a := unpack(t, s, makeTar(t, tar.Header{Name: "a", Linkname: "a"}))[0]
		b := unpack(t, s, makeTar(t, tar.Header{Name: "b", Linkname: "b"}))[0]
		t.Run("same layer twice", func(t *testing.T) {
			root, err := s.Prepare("twice", []digest.Digest{a, b, a, a}, PrepareOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(map[string]string{"a": "a", "b": "b"}, tree(t, mounted(t, root))); diff != "" {
				t.Error(diff)
			}
		})
		t.Run("no layers", func(t *testing.T) {
			root, err := s.Prepare("scratch", nil, PrepareOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if got := tree(t, mounted(t, root)); len(got) > 0 {
				t.Errorf("got %v", got)
			}
		})
		t.Run("user namespace", func(t *testing.T) {
			ids := []mount.IDMap{{Container: 0, Host: 300000, Size: 65536}}
			root, err := s.Prepare("userns", []digest.Digest{a}, PrepareOptions{UIDMap: ids, GIDMap: ids})
			if err != nil {
				t.Fatal(err)
			}
			at := mounted(t, root)
			for _, p := range []string{at, at + "/a"} {
				var st syscall.Stat_t
				if err := syscall.Stat(p, &st); err != nil || st.Uid != 300000 || st.Gid != 300000 {
					t.Errorf("%s belongs to %d:%d, %v", p, st.Uid, st.Gid, err)
				}
			}
		})
		t.Run("written stays until removed", func(t *testing.T) {
			for i := range 2 {
				root, err := s.Prepare("stays", []digest.Digest{a}, PrepareOptions{})
				if err != nil {
					t.Fatal(err)
				}
				at := mounted(t, root)
				if i == 0 {
					if err := os.WriteFile(at+"/new", []byte("new"), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				if diff := cmp.Diff(map[string]string{"a": "a", "new": "new"}, tree(t, at)); diff != "" {
					t.Error(diff)
				}
			}
			for range 2 {
				if err := s.Remove("stays"); err != nil {
					t.Error(err)
				}
			}
			if left, _ := os.ReadDir(filepath.Join(s.containers, "stays")); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
		t.Run("missing layer", func(t *testing.T) {
			_, err := s.Prepare("x", []digest.Digest{digest.FromString("no")}, PrepareOptions{})
			if !errdefs.Is(err, errdefs.NotFound) {
				t.Errorf("error %v", err)
			}
		})
		for _, id := range []string{"", ".", "..", "a/b", "../x"} {
			if _, err := s.Prepare(id, nil, PrepareOptions{}); !errdefs.Is(err, errdefs.Invalid) {
				t.Errorf("id %q: %v", id, err)
			}
			if err := s.Remove(id); !errdefs.Is(err, errdefs.Invalid) {
				t.Errorf("remove id %q: %v", id, err)
			}
		}
	})
}

// files returns the names in the directory of layers.
func files(t *testing.T, s *Store) []string {
	t.Helper()
	if err := s.Empty(); err != nil {
		t.Error(err)
	}
	es, err := os.ReadDir(s.layers)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range es {
		names = append(names, e.Name())
	}
	return names
}

type failing struct {
	r   io.Reader
	err error
}

func (f failing) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if errors.Is(err, io.EOF) {
		err = f.err
	}
	return n, err
}

func TestUnpackFailureLeavesNothing(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		t.Helper()
		good := makeTar(t, tar.Header{Name: "a", Linkname: strings.Repeat("x", 10000)})
		tests := []struct {
			name  string
			gone  bool // the caller
			id    digest.Digest
			r     io.Reader
			class errdefs.Class
		}{
			{"other digest", false, digest.FromString("x"), strings.NewReader(good), errdefs.DataLoss},
			{"trailing byte", false, digest.FromString(good), strings.NewReader(good + "x"), errdefs.DataLoss},
			{"truncated", false, digest.FromString(good), strings.NewReader(good[:5000]), errdefs.Invalid},
			{"source fails", false, digest.FromString(good), failing{strings.NewReader(good), errdefs.New(errdefs.Unavailable, "gone")}, errdefs.Unavailable},
			{"disk full", false, digest.FromString(good), failing{strings.NewReader(good), syscall.ENOSPC}, errdefs.Exhausted},
			{"cancelled", true, digest.FromString(good), strings.NewReader(good), errdefs.Cancelled},
			{"no digest", false, "sha256:../../x", strings.NewReader(good), errdefs.Invalid},
			{"other algorithm", false, digest.Digest("sha512:" + strings.Repeat("ab", 64)), strings.NewReader(good), errdefs.Invalid},
		}
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if tt.gone {
					cancel()
				}
				_, err := s.Unpack(ctx, tt.id, tt.r, UnpackOptions{})
				if got := errdefs.ClassOf(err); got != tt.class {
					t.Errorf("%v: class %v, want %v", err, got, tt.class)
				}
				if left := files(t, s); len(left) > 0 {
					t.Errorf("left: %v", left)
				}
			})
		}
	})
}

// counted is a source that tells whether it was read.
type counted struct {
	r     io.Reader
	reads *atomic.Int32
	once  sync.Once
}

func (c *counted) Read(p []byte) (int, error) {
	c.once.Do(func() { c.reads.Add(1) })
	return c.r.Read(p)
}

func TestUnpackAtOnce(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		t.Helper()
		text := makeTar(t, tar.Header{Name: "a", Linkname: strings.Repeat("x", 1<<20)})
		id := digest.FromString(text)
		var reads atomic.Int32
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				if _, err := s.Unpack(t.Context(), id, &counted{r: strings.NewReader(text), reads: &reads}, UnpackOptions{}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if got := reads.Load(); got != 1 {
			t.Errorf("%d sources were read", got)
		}
	})
}

// TestUnpackFollowerTakesOver has one wait for another that fails.
func TestUnpackFollowerTakesOver(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		t.Helper()
		text := makeTar(t, tar.Header{Name: "a", Linkname: "x"})
		id := digest.FromString(text)
		r, w := io.Pipe()
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := s.Unpack(t.Context(), id, r, UnpackOptions{}); err == nil {
				t.Error("the first succeeded")
			}
		})
		// Once the first takes bytes, it is in flight.
		if _, err := w.Write([]byte(text[:100])); err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			if _, err := s.Unpack(t.Context(), id, strings.NewReader(text), UnpackOptions{}); err != nil {
				t.Error(err)
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if _, err := s.Unpack(ctx, id, strings.NewReader(text), UnpackOptions{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a waiter with a deadline: %v", err)
		}
		_ = w.CloseWithError(errors.New("boom"))
		wg.Wait()
		if _, err := s.Layer(id); err != nil {
			t.Error(err)
		}
	})
}

// TestTwoStores has two processes, as far as locks can tell, unpack the same.
func TestTwoStores(t *testing.T) {
	kerneltest.Root(t)
	for _, kind := range kinds {
		dir := t.TempDir()
		text := makeTar(t, tar.Header{Name: "a", Linkname: strings.Repeat("x", 1<<20)})
		id := digest.FromString(text)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				s, err := Open(dir, Options{Kind: kind})
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := s.Unpack(t.Context(), id, strings.NewReader(text), UnpackOptions{}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if got := files(t, open(t, dir, kind)); len(got) != 1 {
			t.Errorf("%s: %v", kind, got)
		}
	}
}

func TestSweep(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		t.Helper()
		id := unpack(t, s, makeTar(t, tar.Header{Name: "a", Linkname: "x"}))[0]
		before := files(t, s)
		if err := os.WriteFile(filepath.Join(s.layers, ".tmp-unpack-1"), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(s.layers, ".tmp-unpack-2/staging/x"), 0o700); err != nil {
			t.Fatal(err)
		}
		alive, err := os.OpenFile(filepath.Join(s.layers, ".tmp-unpack-3"), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer alive.Close()
		if err := inUse(alive); err != nil {
			t.Fatal(err)
		}
		s2, err := Open("", Options{Layers: s.layers, Containers: s.containers})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(append([]string{".tmp-unpack-3"}, before...), files(t, s)); diff != "" {
			t.Error(diff)
		}
		if _, err := s2.Layer(id); err != nil {
			t.Errorf("a layer of the kind %s: %v", s.kind, err)
		}
	})
}

func TestLayers(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		t.Helper()
		text := makeTar(t, tar.Header{Name: "a", Linkname: "x"}, tar.Header{Name: "b", Linkname: "x"})
		id := unpack(t, s, text)[0]
		if err := os.WriteFile(filepath.Join(s.layers, "README"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		ls, err := s.Layers()
		if err != nil || len(ls) != 1 {
			t.Fatalf("%v, %v", ls, err)
		}
		l := ls[0]
		if l.DiffID != id || l.Kind != s.kind || l.TarSize != int64(len(text)) || l.Entries != 3 || l.Size == 0 || l.Damaged != nil {
			t.Errorf("%+v", l)
		}
		if err := s.Verify(id); err != nil {
			t.Error(err)
		}
		for range 2 {
			if err := s.RemoveLayer(id); err != nil {
				t.Error(err)
			}
		}
		if _, err := s.Layer(id); !errdefs.Is(err, errdefs.NotFound) {
			t.Errorf("error %v", err)
		}
		if diff := cmp.Diff([]string{"README"}, files(t, s)); diff != "" {
			t.Error(diff)
		}
	})
}

// TestDamage changes every region of an image: each is found, and repaired by
// unpacking again.
func TestDamage(t *testing.T) {
	s := open(t, t.TempDir(), mount.EROFS)
	text := makeTar(t, tar.Header{Name: "a", Linkname: "content"}, tar.Header{Name: "dir/b"})
	id := unpack(t, s, text)[0]
	l, err := s.Layer(id)
	if err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(l.Path)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{20, 1024, 1036, 4096 + 512, 4096 + len(text), len(good) - 1} {
		bad := bytes.Clone(good)
		bad[at] ^= 1
		if err := os.Remove(l.Path); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(l.Path, bad, 0o400); err != nil {
			t.Fatal(err)
		}
		if err := s.Verify(id); !errdefs.Is(err, errdefs.DataLoss) {
			t.Errorf("byte %d: %v", at, err)
		}
	}
	if err := os.Truncate(l.Path, 6000); err != nil {
		t.Fatal(err)
	}
	if ls, err := s.Layers(); err != nil || len(ls) != 1 || ls[0].Damaged == nil {
		t.Errorf("%+v, %v", ls, err)
	}
	unpack(t, s, text)
	if err := s.Verify(id); err != nil {
		t.Errorf("after the repair: %v", err)
	}
}

func TestRepairDirectory(t *testing.T) {
	kerneltest.Root(t)
	s := open(t, t.TempDir(), mount.Directory)
	text := makeTar(t, tar.Header{Name: "a", Linkname: "content"})
	id := unpack(t, s, text)[0]
	if err := os.WriteFile(filepath.Join(s.path(id, mount.Directory), "layer.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Layer(id); !errdefs.Is(err, errdefs.DataLoss) {
		t.Errorf("error %v", err)
	}
	unpack(t, s, text)
	if _, err := s.Layer(id); err != nil {
		t.Error(err)
	}
}

func TestKind(t *testing.T) {
	kerneltest.Root(t)
	s := open(t, t.TempDir(), "")
	if kind, why := s.Kind(); kind != mount.EROFS || why == "" {
		t.Errorf("%s because %s", kind, why)
	}
	// An overlay leaves no room for two more file systems on top of it.
	at := mounted(t, mount.Root{
		Layers: []mount.Layer{{Path: t.TempDir(), Kind: mount.Directory}}, Upper: t.TempDir(), Work: t.TempDir(),
	})
	s = open(t, at, "")
	if kind, why := s.Kind(); kind != mount.Directory || !strings.Contains(why, "needs Linux >= 6.12") {
		t.Errorf("on an overlay: %s because %s", kind, why)
	}
	if _, err := Open(t.TempDir(), Options{Kind: "zip"}); err == nil {
		t.Error("opened with an unknown kind")
	}
}
