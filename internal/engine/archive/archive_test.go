package archive

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
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"lade/internal/archive"
	"lade/internal/errdefs"
)

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// containers has one container, "box", with its files in a directory.
type containers struct {
	root     string
	readOnly bool
	running  bool
	wanted   atomic.Bool
	open     sync.WaitGroup // trees that are not closed
}

func (c *containers) Tree(_ context.Context, ref string) (*Tree, error) {
	if ref != "box" {
		return nil, errdefs.New(errdefs.NotFound, "No such container: %s", ref)
	}
	f, err := os.Open(c.root)
	if err != nil {
		return nil, err
	}
	c.open.Add(1)
	t := &Tree{ID: "box", Root: f, ReadOnly: c.readOnly, Wanted: c.wanted.Load, User: func() (int, int, error) { return os.Getuid(), os.Getgid(), nil }}
	t.Close = sync.OnceFunc(func() { _ = f.Close(); c.open.Done() })
	if c.running {
		t.Wanted = nil
	}
	return t, nil
}

func (c *containers) Root(ctx context.Context, ref string) (*Tree, error) { return c.Tree(ctx, ref) }

func (c *containers) Changes(context.Context, string) ([]archive.Change, error) {
	return []archive.Change{{Path: "/a", Kind: archive.Added}}, nil
}

func newBox(t *testing.T) (*containers, *Service) {
	t.Helper()
	c := &containers{root: t.TempDir()}
	must(t, os.Mkdir(filepath.Join(c.root, "dir"), 0o755))
	must(t, os.WriteFile(filepath.Join(c.root, "dir/big"), make([]byte, 1<<20), 0o644))
	must(t, os.Symlink("dir/big", filepath.Join(c.root, "link")))
	t.Cleanup(c.open.Wait) // nothing that was opened stays so
	return c, New(c)
}

func archiveOf(tb testing.TB, name, text string) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	must(tb, w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(text)), Uid: os.Getuid(), Gid: os.Getgid()}))
	_, err := io.WriteString(w, text)
	must(tb, err)
	must(tb, w.Close())
	return b.Bytes()
}

func TestStat(t *testing.T) {
	_, s := newBox(t)
	for p, want := range map[string]string{"/dir": "dir", "dir/": "dir", "/link": "link", "/": "/", "/dir/.": "dir"} {
		st, err := s.Stat(t.Context(), "box", p)
		if err != nil || st.Name != want {
			t.Errorf("%s: %+v, %v", p, st, err)
		}
	}
	if st, err := s.Stat(t.Context(), "box", "link"); err != nil || st.Mode&os.ModeSymlink == 0 || st.LinkTarget != "/dir/big" {
		t.Errorf("link: %+v, %v", st, err)
	}
	for p, class := range map[string]errdefs.Class{"": errdefs.Invalid, "/nope": errdefs.NotFound, "/dir/big/": errdefs.Invalid, "/dir/big/x": errdefs.Invalid} {
		if _, err := s.Stat(t.Context(), "box", p); !errdefs.Is(err, class) {
			t.Errorf("%q: %v", p, err)
		}
	}
	if _, err := s.Stat(t.Context(), "nobody", "/"); !errdefs.Is(err, errdefs.NotFound) {
		t.Error(err)
	}
}

func TestGet(t *testing.T) {
	_, s := newBox(t)
	for p, want := range map[string]string{"/dir": "dir/ dir/big", "/dir/.": "./ ./big", "/link": "link", "/dir/big": "big"} {
		_, r, err := s.Get(t.Context(), "box", p)
		must(t, err)
		var names []string
		for a := tar.NewReader(r); ; {
			h, err := a.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			must(t, err)
			names = append(names, h.Name)
		}
		must(t, r.Close())
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s: %s; want %s", p, got, want)
		}
	}
	_, r, err := s.Get(t.Context(), "box", "/dir")
	must(t, err)
	must(t, r.Close()) // of a client that leaves at once
}

func TestPut(t *testing.T) {
	c, s := newBox(t)
	plain := archiveOf(t, "file", "text")
	var gz, zst bytes.Buffer
	g := gzip.NewWriter(&gz)
	_, err := g.Write(plain)
	must(t, errors.Join(err, g.Close()))
	z, err := zstd.NewWriter(&zst)
	must(t, err)
	_, err = z.Write(plain)
	must(t, errors.Join(err, z.Close()))
	for name, in := range map[string][]byte{"plain": plain, "gzip": gz.Bytes(), "zstd": zst.Bytes()} {
		must(t, os.RemoveAll(filepath.Join(c.root, "dir/file")))
		must(t, s.Put(t.Context(), "box", "/dir", bytes.NewReader(in), PutOptions{ToUser: true}))
		if text, err := os.ReadFile(filepath.Join(c.root, "dir/file")); string(text) != "text" {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
	for name, f := range map[string]struct {
		path  string
		in    []byte
		o     PutOptions
		class errdefs.Class
	}{
		"no path":        {"", plain, PutOptions{}, errdefs.Invalid},
		"not there":      {"/nope", plain, PutOptions{}, errdefs.NotFound},
		"a file":         {"/dir/big", plain, PutOptions{}, errdefs.Invalid},
		"another kind":   {"/", archiveOf(t, "dir", "x"), PutOptions{KeepKinds: true}, errdefs.Invalid},
		"cut off":        {"/dir", plain[:514], PutOptions{}, errdefs.Invalid},
		"no archive":     {"/dir", []byte(strings.Repeat("x", 2048)), PutOptions{}, errdefs.Invalid},
		"xz":             {"/dir", []byte("\xfd7zXZ\x00\x00\x00"), PutOptions{}, errdefs.NotImplemented},
		"gzip, cut off":  {"/dir", gz.Bytes()[:15], PutOptions{}, errdefs.Invalid},
		"gzip, its head": {"/dir", gz.Bytes()[:3], PutOptions{}, errdefs.Invalid},
	} {
		if err := s.Put(t.Context(), "box", f.path, bytes.NewReader(f.in), f.o); !errdefs.Is(err, f.class) {
			t.Errorf("%s: %v is of class %v", name, err, errdefs.ClassOf(err))
		}
	}
	c.readOnly = true
	if err := s.Put(t.Context(), "box", "/dir", bytes.NewReader(plain), PutOptions{}); !errdefs.Is(err, errdefs.Denied) {
		t.Error(err)
	}
}

// TestStalledClient has clients that neither take nor send anything, while
// somebody wants to start the container, and while nobody does.
func TestStalledClient(t *testing.T) {
	c, s := newBox(t)
	s.patience = 20 * time.Millisecond
	_, out, err := s.Get(t.Context(), "box", "/dir")
	must(t, err)
	exported, err := s.Export(t.Context(), "box")
	must(t, err)
	body, send := io.Pipe()
	put := make(chan error, 1)
	go func() { put <- s.Put(t.Context(), "box", "/dir", body, PutOptions{}) }()
	in := archiveOf(t, "file", "text")
	_, err = send.Write(in[:600])
	must(t, err)
	free := make(chan struct{})
	go func() { c.open.Wait(); close(free) }()
	select {
	case <-free:
		t.Fatal("copies were given up that nobody waits for")
	case <-time.After(5 * s.patience):
	}
	c.wanted.Store(true)
	<-free
	if err := <-put; !errdefs.Is(err, errdefs.Unavailable) || !strings.Contains(err.Error(), "somebody waits for container box") {
		t.Errorf("put: %v", err)
	}
	for _, r := range []io.ReadCloser{out, exported} {
		if _, err := io.Copy(io.Discard, r); !errdefs.Is(err, errdefs.Unavailable) {
			t.Errorf("get: %v", err)
		}
		must(t, r.Close())
	}
	must(t, send.Close()) // the connection ends

	// Who moves is not given up.
	_, out, err = s.Get(t.Context(), "box", "/dir")
	must(t, err)
	if _, err := io.Copy(io.Discard, out); err != nil {
		t.Error(err)
	}
	must(t, out.Close())

	// A container that runs keeps nobody waiting.
	c.running = true
	tree, err := c.Tree(t.Context(), "box")
	must(t, err)
	defer tree.Close()
	if s.watch(tree, nil) != nil {
		t.Error("a copy from a container that runs is watched")
	}
}

func TestDiff(t *testing.T) {
	_, s := newBox(t)
	got, err := s.Diff(t.Context(), "box")
	if err != nil || len(got) != 1 || got[0].Path != "/a" {
		t.Errorf("%+v, %v", got, err)
	}
}
