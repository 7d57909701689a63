package mount

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"lade/test/kerneltest"
)

func TestMain(m *testing.M) { kerneltest.Main(m, kerneltest.Options{}) }

// files makes a directory with the given files, each holding its text.
func files(tb testing.TB, names ...string) string {
	tb.Helper()
	dir := tb.TempDir()
	for _, n := range names {
		p := filepath.Join(dir, n)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			tb.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(n), 0o644); err != nil {
			tb.Fatal(err)
		}
	}
	return dir
}

func image(tb testing.TB, dir string) string {
	tb.Helper()
	img := filepath.Join(tb.TempDir(), "layer.erofs")
	if out, err := exec.CommandContext(tb.Context(), "mkfs.erofs", img, dir).CombinedOutput(); err != nil {
		tb.Fatalf("mkfs.erofs: %v\n%s", err, out)
	}
	return img
}

// layers makes the same two layers of either kind.
func layers(tb testing.TB, kind LayerKind) []Layer {
	tb.Helper()
	ls := []Layer{{files(tb, "a", "dir/b"), kind}, {files(tb, "c", "dir/d"), kind}}
	if kind == EROFS {
		for i := range ls {
			ls[i].Path = image(tb, ls[i].Path)
		}
	}
	return ls
}

func mounted(tb testing.TB, r Root) string {
	tb.Helper()
	target := tb.TempDir()
	if err := r.Mount(target); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := Unmount(target); err != nil {
			tb.Error(err)
		}
	})
	return target
}

func read(tb testing.TB, path string) string {
	tb.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		tb.Error(err)
	}
	return string(b)
}

func owner(tb testing.TB, path string) string {
	tb.Helper()
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil {
		tb.Fatal(err)
	}
	return fmt.Sprintf("%d:%d", st.Uid, st.Gid)
}

func TestMount(t *testing.T) {
	kerneltest.Root(t)
	for _, kind := range []LayerKind{EROFS, Directory} {
		ls := layers(t, kind)
		t.Run(string(kind)+" writable", func(t *testing.T) {
			upper, work := t.TempDir(), t.TempDir()
			at := mounted(t, Root{Layers: ls, Upper: upper, Work: work})
			for _, n := range []string{"a", "c", "dir/b", "dir/d"} {
				if got := read(t, filepath.Join(at, n)); got != n {
					t.Errorf("%s holds %q", n, got)
				}
			}
			if err := os.WriteFile(filepath.Join(at, "a"), []byte("new"), 0); err != nil {
				t.Fatal(err)
			}
			if got := read(t, filepath.Join(upper, "a")); got != "new" {
				t.Errorf("upper has %q", got)
			}
		})
		t.Run(string(kind)+" read-only", func(t *testing.T) {
			at := mounted(t, Root{Layers: ls})
			if read(t, filepath.Join(at, "dir/d")) != "dir/d" {
				t.Error("wrong content")
			}
			if err := os.Remove(filepath.Join(at, "a")); err == nil {
				t.Error("a read-only root was written")
			}
		})
		t.Run(string(kind)+" one layer", func(t *testing.T) {
			at := mounted(t, Root{Layers: ls[:1]})
			if read(t, filepath.Join(at, "dir/b")) != "dir/b" {
				t.Error("wrong content")
			}
			if err := os.Remove(filepath.Join(at, "a")); err == nil {
				t.Error("a read-only root was written")
			}
		})
		t.Run(string(kind)+" user namespace", func(t *testing.T) {
			upper, work := t.TempDir(), t.TempDir()
			const base = 200000
			for _, d := range []string{upper, work} {
				if err := os.Chown(d, base, base); err != nil {
					t.Fatal(err)
				}
			}
			ids := []IDMap{{0, base, 65536}}
			at := mounted(t, Root{Layers: ls, Upper: upper, Work: work, UIDMap: ids, GIDMap: ids})
			for _, n := range []string{".", "a", "dir/d"} {
				if got := owner(t, filepath.Join(at, n)); got != "200000:200000" {
					t.Errorf("%s belongs to %s", n, got)
				}
			}
			// What root in the namespace does: it is its files' owner.
			sh := exec.CommandContext(t.Context(), "/bin/sh", "-ec", "echo x >> a; mkdir new; chown 7:7 new dir/b; mv dir/d new/d")
			sh.Dir = at
			sh.SysProcAttr = &syscall.SysProcAttr{
				Cloneflags:  syscall.CLONE_NEWUSER,
				Credential:  &syscall.Credential{},
				UidMappings: []syscall.SysProcIDMap{{HostID: base, Size: 65536}},
				GidMappings: []syscall.SysProcIDMap{{HostID: base, Size: 65536}},
			}
			// The way to the mount is closed to others but root.
			for d := at; d != "/" && d != "/tmp"; d = filepath.Dir(d) {
				_ = os.Chmod(d, 0o755)
			}
			if out, err := sh.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for n, want := range map[string]string{"a": "200000:200000", "new": "200007:200007", "dir/b": "200007:200007", "new/d": "200000:200000"} {
				if got := owner(t, filepath.Join(upper, n)); got != want {
					t.Errorf("upper has %s of %s, want %s", n, got, want)
				}
			}
		})
	}
}

// TestOverlayAttached is the way of kernels before 6.15.
func TestOverlayAttached(t *testing.T) {
	kerneltest.Root(t)
	before := read(t, "/proc/self/mountinfo")
	// More layers than a page holds the paths of.
	ls := layers(t, Directory)
	for i := range 60 {
		ls = append(ls, Layer{files(t, fmt.Sprintf("many/%d", i), strings.Repeat("long", 10)), Directory})
	}
	r := Root{Layers: ls, Upper: t.TempDir(), Work: t.TempDir()}
	fds, err := r.openLayers(openLayer)
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll(fds)
	target := t.TempDir()
	fd, err := r.overlayAttached(fds, -1, target)
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll([]int{fd})
	if after := read(t, "/proc/self/mountinfo"); after != before {
		t.Errorf("left in the mount table:\n%s", strings.TrimPrefix(after, before))
	}
	if err := attach(fd, target); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := Unmount(target); err != nil {
			t.Error(err)
		}
	}()
	for _, n := range []string{"a", "dir/d", "many/0", "many/59"} {
		if got := read(t, filepath.Join(target, n)); got != n {
			t.Errorf("%s holds %q", n, got)
		}
	}
	if err := os.WriteFile(filepath.Join(target, "dir/b"), []byte("new"), 0); err != nil {
		t.Error(err)
	}
}

// TestPool has roots share what they are made of, and go through a descriptor as
// if to another process.
func TestPool(t *testing.T) {
	kerneltest.Root(t)
	ids := []IDMap{{0, 200000, 65536}}
	for _, kind := range []LayerKind{EROFS, Directory} {
		ls := layers(t, kind)
		var p Pool
		device := func(r Root) uint64 {
			t.Helper()
			m, err := p.Open(&r, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			f, err := m.File()
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
			if m, err = FromFile(f); err != nil {
				t.Fatal(err)
			}
			at := t.TempDir()
			if err := m.Attach(at); err != nil {
				t.Fatal(err)
			}
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := Unmount(at); err != nil {
					t.Error(err)
				}
			})
			if got := read(t, filepath.Join(at, "a")); got != "a" {
				t.Errorf("a holds %q", got)
			}
			if want := "200000:200000"; len(r.UIDMap) > 0 && owner(t, filepath.Join(at, "a")) != want {
				t.Errorf("a does not belong to %s", want)
			}
			var st syscall.Stat_t
			if err := syscall.Stat(filepath.Join(at, "a"), &st); err != nil {
				t.Fatal(err)
			}
			return st.Dev
		}
		one := Root{Layers: ls[:1]}
		first := device(one)
		if second := device(one); second != first {
			t.Errorf("%s: not shared", kind)
		}
		one.UIDMap, one.GIDMap = ids, ids
		if mapped := device(one); mapped != first {
			t.Errorf("%s: not shared with a user namespace", kind)
		}
		device(Root{Layers: ls, Upper: t.TempDir(), Work: t.TempDir()})
		device(Root{Layers: ls, Upper: t.TempDir(), Work: t.TempDir(), UIDMap: ids, GIDMap: ids})
		p.Forget(ls[0].Path)
		p.Forget("/nonexistent")
		if again := device(Root{Layers: ls[:1]}); kind == EROFS && again == first {
			t.Error("not forgotten")
		}
		p.Close()
	}
}

func TestMountErrors(t *testing.T) {
	kerneltest.Root(t)
	good := Layer{files(t, "a"), Directory}
	broken := filepath.Join(t.TempDir(), "x.erofs")
	if err := os.WriteFile(broken, make([]byte, 8192), 0o600); err != nil {
		t.Fatal(err)
	}
	ids := []IDMap{{0, 100000, 65536}}
	tests := []struct {
		name string
		root Root
		want string
	}{
		{"no layers", Root{}, "no layers"},
		{"missing", Root{Layers: []Layer{good, {"/nonexistent/layer", Directory}}}, "layer 1 (/nonexistent/layer)"},
		{"missing image", Root{Layers: []Layer{good, {"/nonexistent/layer", EROFS}}}, "layer 1 (/nonexistent/layer)"},
		{"not an image", Root{Layers: []Layer{{broken, EROFS}}}, "create erofs"},
		{"unknown kind", Root{Layers: []Layer{{"/x", "zip"}}}, `unknown kind "zip"`},
		{"upper without work", Root{Layers: []Layer{good}, Upper: "/tmp"}, "go together"},
		{"no upper", Root{Layers: []Layer{good}, Upper: "/nonexistent", Work: "/nonexistent"}, "/nonexistent"},
		{"half a mapping", Root{Layers: []Layer{good}, UIDMap: ids}, "go together"},
		{"bad mapping", Root{Layers: []Layer{good}, UIDMap: []IDMap{{0, 1, 1}, {0, 2, 1}}, GIDMap: ids}, "map ids"},
	}
	before := read(t, "/proc/self/mountinfo")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.root.Mount(t.TempDir())
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
	if after := read(t, "/proc/self/mountinfo"); after != before {
		t.Errorf("left in the mount table:\n%s", strings.TrimPrefix(after, before))
	}
}

func BenchmarkMount(b *testing.B) {
	kerneltest.Root(b)
	ids := []IDMap{{0, 100000, 65536}}
	for _, kind := range []LayerKind{EROFS, Directory} {
		ls := layers(b, kind)
		for _, userNS := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/userns=%v/pool", kind, userNS), func(b *testing.B) {
				r := Root{Layers: ls, Upper: b.TempDir(), Work: b.TempDir()}
				if userNS {
					r.UIDMap, r.GIDMap = ids, ids
				}
				var p Pool
				defer p.Close()
				target := b.TempDir()
				for b.Loop() {
					m, err := p.Open(&r, target)
					if err != nil {
						b.Fatal(err)
					}
					if err := m.Attach(target); err != nil {
						b.Fatal(err)
					}
					_ = m.Close()
					if err := Unmount(target); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run(fmt.Sprintf("%s/userns=%v", kind, userNS), func(b *testing.B) {
				r := Root{Layers: ls, Upper: b.TempDir(), Work: b.TempDir()}
				if userNS {
					r.UIDMap, r.GIDMap = ids, ids
				}
				target := b.TempDir()
				for b.Loop() {
					if err := r.Mount(target); err != nil {
						b.Fatal(err)
					}
					if err := Unmount(target); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
