package volume

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lade/internal/errdefs"
	"lade/internal/linux/fsat"
	"lade/internal/linux/mount"
	"lade/test/kerneltest"
)

func TestMain(m *testing.M) { kerneltest.Main(m, kerneltest.Options{}) }

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// image makes a directory with what an image may have at a volume's place.
func image(t *testing.T) Source {
	t.Helper()
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o750))
	must(t, os.Chown(dir, 999, 998))
	must(t, os.Mkdir(filepath.Join(dir, "base"), 0o700))
	must(t, os.WriteFile(filepath.Join(dir, "base/file"), []byte("text"), 0o640))
	must(t, os.Chown(filepath.Join(dir, "base/file"), 999, 999))
	must(t, os.Link(filepath.Join(dir, "base/file"), filepath.Join(dir, "again")))
	must(t, os.Symlink("/etc/passwd", filepath.Join(dir, "out")))
	must(t, syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
	must(t, syscall.Mknod(filepath.Join(dir, "null"), syscall.S_IFCHR|0o666, 1<<8|3))
	return func() (*fsat.Dir, error) { return fsat.Open(dir) }
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// TestFill copies an image's directory into an empty volume, and never again.
func TestFill(t *testing.T) {
	kerneltest.Root(t)
	s := open(t, t.TempDir())
	must(t, s.Make("data"))
	must(t, s.Fill("data", image(t)))
	root := s.Path("data")
	if diff := cmp.Diff([]string{"again", "base", "out", "pipe"}, names(t, root)); diff != "" {
		t.Errorf("the volume holds something else: %s", diff)
	}
	fi, err := os.Stat(root)
	must(t, err)
	st := fi.Sys().(*syscall.Stat_t)
	if fi.Mode().Perm() != 0o750 || st.Uid != 999 || st.Gid != 998 {
		t.Errorf("the volume is %v of %d:%d, want the image's 0750 of 999:998", fi.Mode(), st.Uid, st.Gid)
	}
	a, err := os.Stat(filepath.Join(root, "again"))
	must(t, err)
	b, err := os.Stat(filepath.Join(root, "base/file"))
	must(t, err)
	if !os.SameFile(a, b) {
		t.Error("two names of a file have become two files")
	}
	if target, err := os.Readlink(filepath.Join(root, "out")); err != nil || target != "/etc/passwd" {
		t.Errorf("the link is %q (%v)", target, err)
	}
	must(t, os.Remove(filepath.Join(root, "out")))
	must(t, s.Fill("data", image(t)))
	if _, err := os.Lstat(filepath.Join(root, "out")); err == nil {
		t.Error("a volume that was not empty was filled")
	}
}

// TestFillEmptied fills a volume of which nothing is left but its directory.
func TestFillEmptied(t *testing.T) {
	kerneltest.Root(t)
	s := open(t, t.TempDir())
	must(t, s.Make("data"))
	must(t, s.Make("data")) // as often as it is asked for
	must(t, s.Fill("data", image(t)))
	for _, n := range names(t, s.Path("data")) {
		must(t, os.RemoveAll(filepath.Join(s.Path("data"), n)))
	}
	must(t, s.Fill("data", image(t)))
	if len(names(t, s.Path("data"))) != 4 {
		t.Errorf("the volume holds %v", names(t, s.Path("data")))
	}
}

// TestKilled opens a store whose writer was killed at each point of a copy.
func TestKilled(t *testing.T) {
	kerneltest.Root(t)
	t.Run("in the copy", func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir)
		must(t, s.Make("data"))
		must(t, os.MkdirAll(filepath.Join(dir, "data", stageName, "base"), 0o700))
		s = open(t, dir)
		if got := names(t, filepath.Join(dir, "data")); !cmp.Equal(got, []string{dataName}) {
			t.Errorf("left: %v", got)
		}
		must(t, s.Fill("data", image(t)))
		if len(names(t, s.Path("data"))) != 4 {
			t.Errorf("the volume holds %v", names(t, s.Path("data")))
		}
	})
	for moved := range 4 {
		dir := t.TempDir()
		s := open(t, dir)
		must(t, s.Make("data"))
		own, err := fsat.Open(filepath.Join(dir, "data"))
		must(t, err)
		must(t, own.Mkdir(readyName))
		source, err := image(t)()
		must(t, err)
		must(t, copyInto(own, readyName, source))
		must(t, source.Close())
		must(t, own.Close())
		ready := filepath.Join(dir, "data", readyName)
		for _, n := range names(t, ready)[:moved] {
			must(t, os.Rename(filepath.Join(ready, n), filepath.Join(s.Path("data"), n)))
		}
		s = open(t, dir)
		if got := names(t, s.Path("data")); len(got) != 4 {
			t.Errorf("killed after %d of 4 names: the volume holds %v", moved, got)
		}
		if got := names(t, filepath.Join(dir, "data")); !cmp.Equal(got, []string{dataName}) {
			t.Errorf("left: %v", got)
		}
		if fi, err := os.Stat(s.Path("data")); err != nil || fi.Mode().Perm() != 0o750 {
			t.Errorf("the volume's mode is %v (%v)", fi.Mode(), err)
		}
	}
	t.Run("in a removal", func(t *testing.T) {
		dir := t.TempDir()
		must(t, os.MkdirAll(filepath.Join(dir, removedPrefix+"data", dataName, "x"), 0o700))
		open(t, dir)
		if got := names(t, dir); len(got) != 0 {
			t.Errorf("left: %v", got)
		}
	})
}

// TestMount mounts a tmpfs and a host's directory on volumes, and removes them
// without a trace in the directory.
func TestMount(t *testing.T) {
	kerneltest.Root(t)
	s := open(t, t.TempDir())
	host := t.TempDir()
	must(t, os.WriteFile(filepath.Join(host, "kept"), nil, 0o600))
	for name, opts := range map[string]map[string]string{
		"tmp":  {"type": "tmpfs", "device": "tmpfs", "o": "size=1m,uid=7,nosuid,_netdev"},
		"host": {"type": "none", "device": host, "o": "bind,ro"},
	} {
		o, err := ParseOptions(opts)
		must(t, err)
		must(t, s.Make(name))
		must(t, s.Mount(name, o))
		must(t, s.Mount(name, o)) // it is mounted
		if ok, err := mount.IsMountPoint(s.Path(name)); err != nil || !ok {
			t.Fatalf("%s: nothing is mounted (%v)", name, err)
		}
	}
	if fi, err := os.Stat(s.Path("tmp")); err != nil || fi.Sys().(*syscall.Stat_t).Uid != 7 {
		t.Errorf("the tmpfs is not as its options say (%v)", err)
	}
	if err := os.WriteFile(filepath.Join(s.Path("host"), "new"), nil, 0o600); err == nil {
		t.Error("the read-only directory was written to")
	}
	must(t, s.Remove("host", nil))
	must(t, s.Unmount("tmp"))
	must(t, s.Unmount("tmp"))
	must(t, s.Remove("tmp", nil))
	if got := names(t, host); !cmp.Equal(got, []string{"kept"}) {
		t.Errorf("to remove the volume left %v of the host's directory", got)
	}
}

// TestFillMounted copies into what is mounted on a volume.
func TestFillMounted(t *testing.T) {
	kerneltest.Root(t)
	s := open(t, t.TempDir())
	must(t, s.Make("data"))
	must(t, s.Mount("data", Options{Type: "tmpfs", Device: "tmpfs"}))
	must(t, s.Fill("data", image(t)))
	if got := names(t, s.Path("data")); len(got) != 4 {
		t.Errorf("the volume holds %v", got)
	}
	must(t, s.Remove("data", nil))
}

// TestMountErrors says what is wrong, and leaves nothing mounted.
func TestMountErrors(t *testing.T) {
	kerneltest.Root(t)
	s := open(t, t.TempDir())
	must(t, s.Make("data"))
	for _, o := range []Options{
		{Type: "nosuchfs", Device: "x"},
		{Type: "tmpfs", Device: "tmpfs", Data: "nosuchoption=1"},
		{Type: "none", Device: "/no/such/directory", Data: "bind"},
		{Type: "ext4", Device: "/dev/null"},
	} {
		err := s.Mount("data", o)
		if !errdefs.Is(err, errdefs.Invalid) || !strings.Contains(err.Error(), "failed to mount local volume") {
			t.Errorf("%+v: %v", o, err)
		}
		if ok, _ := mount.IsMountPoint(s.Path("data")); ok {
			t.Errorf("%+v: something is mounted", o)
		}
	}
}

func TestParseOptions(t *testing.T) {
	for _, tc := range []struct {
		opts map[string]string
		err  string
	}{
		{nil, ""},
		{map[string]string{"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}, ""},
		{map[string]string{"foo": "bar"}, `invalid option: "foo"`},
		{map[string]string{"type": "tmpfs"}, `missing required option: "device"`},
		{map[string]string{"device": "/x"}, `missing required option: "type"`},
		{map[string]string{"size": "1g"}, "quota size requested but no quota support"},
		{map[string]string{"type": "a\x00", "device": "b"}, "an option of the volume holds a NUL byte"},
	} {
		_, err := ParseOptions(tc.opts)
		if got := errdefs.Message(err); got != tc.err {
			t.Errorf("%v: %q, want %q", tc.opts, got, tc.err)
		}
		if err != nil && !errdefs.Is(err, errdefs.Invalid) {
			t.Errorf("%v: class %v", tc.opts, errdefs.ClassOf(err))
		}
	}
}

// TestNames gives names that would lead out of the store.
func TestNames(t *testing.T) {
	s := open(t, t.TempDir())
	for _, name := range []string{"", ".", "..", "../x", "a/b", ".removed-x", "a\x00"} {
		for op, err := range map[string]error{
			"make": s.Make(name), "remove": s.Remove(name, nil), "mount": s.Mount(name, Options{}), "unmount": s.Unmount(name), "fill": s.Fill(name, nil),
		} {
			if !errdefs.Is(err, errdefs.Invalid) {
				t.Errorf("%s %q: %v", op, name, err)
			}
		}
	}
}
