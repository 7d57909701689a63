package mount

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lade/internal/linux/inroot"
	"lade/test/kerneltest"
)

// TestView looks at a root with mounts in it, behind links and where there was
// no mount point, while nobody else sees any of it.
func TestView(t *testing.T) {
	kerneltest.Root(t)
	lower := files(t, "etc/one", "real/two")
	for name, to := range map[string]string{"link": "/real", "etc/nothing": "../../../there/is/none"} {
		if err := os.Symlink(to, filepath.Join(lower, name)); err != nil {
			t.Fatal(err)
		}
	}
	upper, work, scratch := t.TempDir(), t.TempDir(), t.TempDir()
	root := Root{Layers: []Layer{{Path: lower, Kind: Directory}}, Upper: upper, Work: work}
	vol, single := files(t, "three"), filepath.Join(files(t, "four"), "four")
	bind := func(p string, o BindOptions) func() (*Detached, error) {
		return func() (*Detached, error) { return OpenBind(p, o) }
	}
	before, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	v, err := OpenView(root.Open, scratch, []ViewMount{
		{Target: "/link", Dir: true, Open: bind(vol, BindOptions{})},
		{Target: "/link/sub/deep", Dir: true, Open: bind(vol, BindOptions{Flags: []string{"ro"}})},
		{Target: "/new/file", Open: bind(single, BindOptions{})},
		{Target: "/etc/nothing", Open: bind(single, BindOptions{})},
	})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"/real/three": "three", "/real/sub/deep/three": "three", "/new/file": "four", "/there/is/none": "four", "/etc/one": "etc/one"} {
		got, err := inroot.ReadFile(v.Root, path, 100)
		if err != nil || string(got) != want {
			t.Errorf("%s: %q (%v), want %q", path, got, err, want)
		}
	}
	after, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || string(after) != string(before) {
		t.Errorf("the view is seen outside (%v)", err)
	}
	if _, err := os.Stat(filepath.Join(upper, "new/file")); err != nil {
		t.Errorf("the mount point was not made in the root: %v", err)
	}
	fd, err := v.open("/real/sub/deep")
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkdirat(fd, "x", 0o700); err == nil {
		t.Error("a read-only mount was written to")
	}
	_ = unix.Close(fd)
	if err := v.Close(); err != nil {
		t.Error(err)
	}
}

// TestViewErrors leaves nothing of a view that cannot be.
func TestViewErrors(t *testing.T) {
	kerneltest.Root(t)
	root := Root{Layers: []Layer{{Path: files(t, "file"), Kind: Directory}}, Upper: t.TempDir(), Work: t.TempDir()}
	_, err := OpenView(root.Open, t.TempDir(), []ViewMount{{Target: "/file/below", Dir: true, Open: func() (*Detached, error) { return OpenBind("/", BindOptions{}) }}})
	if err == nil || !strings.Contains(err.Error(), "mount at /file/below") {
		t.Errorf("a mount below a file: %v", err)
	}
	_, err = OpenView(root.Open, t.TempDir(), []ViewMount{{Target: "/x", Dir: true, Open: func() (*Detached, error) { return OpenBind("/no/such", BindOptions{}) }}})
	if err == nil {
		t.Error("a mount of nothing succeeded")
	}
}
