package archive

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lade/internal/linux/fsat"
	"lade/test/kerneltest"
)

// TestDiff compares what a container has written with its image.
func TestDiff(t *testing.T) {
	kerneltest.Root(t)
	lower, upper := t.TempDir(), t.TempDir()
	at := time.Unix(1000, 0)
	for _, p := range []string{"etc/passwd", "etc/group", "opt/old/file", "opt/kept", "usr/share/doc", "srv/x"} {
		must(t, os.MkdirAll(filepath.Join(lower, filepath.Dir(p)), 0o755))
		must(t, os.WriteFile(filepath.Join(lower, p), nil, 0o644))
	}
	put := func(p string) {
		must(t, os.MkdirAll(filepath.Join(upper, filepath.Dir(p)), 0o755))
		must(t, os.WriteFile(filepath.Join(upper, p), []byte("x"), 0o644))
	}
	put("etc/passwd")
	put("new/deep/file")
	put("opt/old/other")
	must(t, syscall.Setxattr(filepath.Join(upper, "opt/old"), "trusted.overlay.opaque", []byte("y"), 0))
	must(t, syscall.Mknod(filepath.Join(upper, "etc/group"), syscall.S_IFCHR, 0))
	must(t, os.MkdirAll(filepath.Join(upper, "usr/share"), 0o700)) // another mode
	must(t, os.MkdirAll(filepath.Join(upper, "proc"), 0o755))      // a mount point
	must(t, os.MkdirAll(filepath.Join(upper, "mnt/vol"), 0o755))
	must(t, os.MkdirAll(filepath.Join(upper, "srv"), 0o755)) // the way to one
	must(t, os.WriteFile(filepath.Join(upper, "srv/stub"), nil, 0o644))
	for _, root := range []string{lower, upper} {
		must(t, filepath.WalkDir(root, func(p string, _ os.DirEntry, err error) error {
			return os.Chtimes(p, at, at)
		}))
	}
	u, err := fsat.Open(upper)
	must(t, err)
	defer u.Close()
	l, err := fsat.Open(lower)
	must(t, err)
	defer l.Close()
	got, err := Diff(t.Context(), u, l, IDs{}, map[string]bool{"/proc": true, "/mnt/vol": true, "/srv/stub": true})
	must(t, err)
	want := []Change{
		{"/etc", Modified},
		{"/etc/group", Deleted},
		{"/etc/passwd", Modified},
		{"/new", Added},
		{"/new/deep", Added},
		{"/new/deep/file", Added},
		{"/opt", Modified},
		{"/opt/old", Modified},
		{"/opt/old/file", Deleted},
		{"/opt/old/other", Added},
		{"/usr", Modified},
		{"/usr/share", Modified},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
