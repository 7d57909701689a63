package snapshot

import (
	"archive/tar"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"lade/internal/errdefs"
	"lade/internal/linux/mount"
)

func stat(t *testing.T, path string) syscall.Stat_t {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st
}

// TestSupplement stacks layers that leave open what lower ones know.
func TestSupplement(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		t.Helper()
		dir := func(name string, mode int64, uid int) tar.Header {
			return tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: mode, Uid: uid, Gid: uid, ModTime: time.Unix(1000, 0)}
		}
		base := makeTar(t,
			dir("tmp/", 0o1777, 0), dir("home/", 0o755, 0), dir("home/u/", 0o700, 1000), dir("plain/", 0o755, 0),
			dir("usr/", 0o755, 0), dir("usr/lib/", 0o755, 7), tar.Header{Name: "lib", Typeflag: tar.TypeSymlink, Linkname: "usr/lib"},
			tar.Header{
				Name: "usr/lib/f", Linkname: "content", Mode: 0o4755, Uid: 5, ModTime: time.Unix(77, 9), Format: tar.FormatPAX,
				PAXRecords: map[string]string{"SCHILY.xattr.user.k": "v"},
			},
			dir("opaque/", 0o700, 9), dir("opaque/in/", 0o700, 9), tar.Header{Name: "fifo", Typeflag: tar.TypeFifo},
			tar.Header{Name: "gone", Linkname: "x"},
		)
		middle := makeTar(t, tar.Header{Name: ".wh.gone"}, dir("plain/", 0o750, 3))
		top := makeTar(t,
			tar.Header{Name: "tmp/x", Linkname: "in tmp"}, tar.Header{Name: "home/u/deep/er/y", Linkname: "y"},
			tar.Header{Name: "plain/z", Linkname: "z"}, tar.Header{Name: "new/dir/f", Linkname: "n"},
			dir("opaque/", 0o755, 0), tar.Header{Name: "opaque/.wh..wh..opq"}, tar.Header{Name: "opaque/in/f", Linkname: "o"},
			tar.Header{Name: "links/a", Typeflag: tar.TypeLink, Linkname: "/lib/f"},
			tar.Header{Name: "links/b", Typeflag: tar.TypeLink, Linkname: "/lib/f"},
			tar.Header{Name: "links/fifo", Typeflag: tar.TypeLink, Linkname: "fifo"},
		)
		last := makeTar(t, tar.Header{Name: "links/.wh.b"}, dir("tmp/", 0o1770, 0))
		ids := unpack(t, s, base, middle, top, last)
		if err := s.Stack(t.Context(), ids); err != nil {
			t.Fatal(err)
		}
		before := files(t, s)
		root, err := s.Prepare("c", ids[:3], PrepareOptions{})
		if err != nil {
			t.Fatal(err)
		}
		at := mounted(t, root)
		want := map[string]string{
			"tmp": "dir", "tmp/x": "in tmp", "home": "dir", "home/u": "dir", "home/u/deep": "dir", "home/u/deep/er": "dir",
			"home/u/deep/er/y": "y", "plain": "dir", "plain/z": "z", "new": "dir", "new/dir": "dir", "new/dir/f": "n",
			"usr": "dir", "usr/lib": "dir", "lib": "usr/lib", "usr/lib/f": "content", "opaque": "dir", "opaque/in": "dir", "opaque/in/f": "o",
			"links": "dir", "links/a": "content", "links/b": "content", "links/fifo": "p---------", "fifo": "p---------",
		}
		if diff := cmp.Diff(want, tree(t, at)); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		for name, want := range map[string]struct {
			mode uint32
			uid  uint32
		}{
			"tmp": {0o1777, 0}, "home/u": {0o700, 1000}, "home/u/deep": {0o755, 0}, "plain": {0o750, 3}, "usr/lib": {0o755, 7},
			"opaque": {0o755, 0}, "opaque/in": {0o755, 0}, "links/a": {0o4755, 5},
		} {
			if st := stat(t, filepath.Join(at, name)); st.Mode&0o7777 != want.mode || st.Uid != want.uid {
				t.Errorf("%s: mode %o owner %d, want %o %d", name, st.Mode&0o7777, st.Uid, want.mode, want.uid)
			}
		}
		a, b := stat(t, filepath.Join(at, "links/a")), stat(t, filepath.Join(at, "links/b"))
		if a.Ino != b.Ino || a.Nlink != 2 || a.Mtim != (syscall.Timespec{Sec: 77, Nsec: 9}) {
			t.Errorf("links: %+v, %+v", a, b)
		}
		value := make([]byte, 10)
		if n, err := syscall.Getxattr(filepath.Join(at, "links/a"), "user.k", value); err != nil || string(value[:n]) != "v" {
			t.Errorf("attribute %q, %v", value, err)
		}

		// What comes above has the last word.
		root, err = s.Prepare("c4", ids, PrepareOptions{})
		if err != nil {
			t.Fatal(err)
		}
		at = mounted(t, root)
		if st := stat(t, filepath.Join(at, "tmp")); st.Mode&0o7777 != 0o1770 {
			t.Errorf("tmp has mode %o", st.Mode)
		}
		if _, err := os.Lstat(filepath.Join(at, "links/b")); err == nil {
			t.Error("links/b is not removed")
		}
		if diff := cmp.Diff(before, files(t, s)); diff != "" {
			t.Errorf("made again: %s", diff)
		}

		// A supplement is swept without its record, and made again.
		for _, n := range before {
			if strings.HasSuffix(n, stackSuffix) {
				if err := os.Remove(filepath.Join(s.layers, n)); err != nil {
					t.Fatal(err)
				}
			}
		}
		open(t, filepath.Dir(s.layers), s.kind)
		if got := files(t, s); len(got) != len(ids) {
			t.Errorf("not swept: %v", got)
		}
		if err := s.Stack(t.Context(), ids); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, files(t, s)); diff != "" {
			t.Error(diff)
		}
		// It goes with any of its layers.
		if err := s.RemoveLayer(ids[0]); err != nil {
			t.Fatal(err)
		}
		if got := files(t, s); len(got) != len(ids)-1 {
			t.Errorf("left: %v", got)
		}
	})
}

// TestNothingPending has layers that need no supplement, as nearly all do.
func TestNothingPending(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		t.Helper()
		ids := unpack(t, s,
			makeTar(t, tar.Header{Name: "a/b", Linkname: "x"}),
			makeTar(t, tar.Header{Name: "a/c", Linkname: "y"}),
			makeTar(t, tar.Header{Name: "f", Linkname: "y"}))
		root, err := s.Prepare("c", ids, PrepareOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if len(root.Layers) != len(ids) {
			t.Errorf("%d layers to mount", len(root.Layers))
		}
	})
}

func TestDanglingHardLink(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		t.Helper()
		secret := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(secret, []byte("secret"), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, target := range []string{secret, "etc/dir", "etc/removed", "loop/x", "file/x", "up/" + secret} {
			base := makeTar(t,
				tar.Header{Name: "etc/dir/", Typeflag: tar.TypeDir}, tar.Header{Name: "file"},
				tar.Header{Name: "loop", Typeflag: tar.TypeSymlink, Linkname: "loop"}, tar.Header{Name: "etc/removed"},
				tar.Header{Name: "up", Typeflag: tar.TypeSymlink, Linkname: strings.Repeat("../", 20)})
			middle := makeTar(t, tar.Header{Name: "etc/.wh.removed"})
			top := makeTar(t, tar.Header{Name: "link", Typeflag: tar.TypeLink, Linkname: target})
			ids := unpack(t, s, base, middle, top)
			for _, stack := range [][]digest.Digest{ids, ids[2:]} {
				_, err := s.Prepare("c", stack, PrepareOptions{})
				if !errdefs.Is(err, errdefs.Invalid) || !strings.Contains(err.Error(), `"link"`) {
					t.Errorf("%s: %v", target, err)
				}
			}
		}
	})
}

func TestVolatileTwice(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		t.Helper()
		ids := unpack(t, s, makeTar(t, tar.Header{Name: "a"}))
		for range 2 {
			root, err := s.Prepare("c", ids, PrepareOptions{Volatile: true})
			if err != nil {
				t.Fatal(err)
			}
			at := t.TempDir()
			if err := root.Mount(at); err != nil {
				t.Fatal(err)
			}
			if err := mount.Unmount(at); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestForeignOverlayAttributes has a layer bring attributes that mean something
// to overlayfs. They hide and redirect nothing, and show in the container.
func TestForeignOverlayAttributes(t *testing.T) {
	each(t, func(t *testing.T, s *Store) {
		t.Helper()
		base := makeTar(t,
			tar.Header{Name: "dir/", Typeflag: tar.TypeDir, Mode: 0o755}, tar.Header{Name: "dir/lower", Linkname: "visible"},
			tar.Header{Name: "secret/", Typeflag: tar.TypeDir, Mode: 0o755}, tar.Header{Name: "secret/x", Linkname: "secret"})
		with := func(h tar.Header, key, value string) tar.Header {
			h.Mode, h.Format, h.PAXRecords = 0o755, tar.FormatPAX, map[string]string{"SCHILY.xattr." + key: value}
			return h
		}
		top := makeTar(t,
			with(tar.Header{Name: "dir/", Typeflag: tar.TypeDir}, "trusted.overlay.opaque", "y"),
			with(tar.Header{Name: "moved/", Typeflag: tar.TypeDir}, "trusted.overlay.redirect", "/secret"),
			with(tar.Header{Name: "meta", Linkname: "own"}, "trusted.overlay.metacopy", ""))
		root, err := s.Prepare("c", unpack(t, s, base, top), PrepareOptions{})
		if err != nil {
			t.Fatal(err)
		}
		at := mounted(t, root)
		want := map[string]string{
			"dir": "dir", "dir/lower": "visible", "secret": "dir", "secret/x": "secret", "moved": "dir", "meta": "own",
		}
		if diff := cmp.Diff(want, tree(t, at)); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		value := make([]byte, 10)
		if n, err := syscall.Getxattr(filepath.Join(at, "dir"), "trusted.overlay.opaque", value); err != nil || string(value[:n]) != "y" {
			t.Errorf("in the container: %q, %v", value[:max(n, 0)], err)
		}
	})
}
