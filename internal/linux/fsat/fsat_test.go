package fsat

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lade/test/kerneltest"
)

func TestMain(m *testing.M) { kerneltest.Main(m, kerneltest.Options{}) }

// TestNames gives every operation what is not a name.
func TestNames(t *testing.T) {
	outside := t.TempDir()
	dir := filepath.Join(outside, "dir")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	d, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, name := range []string{"", ".", "..", "../x", "/x", "a/b", "a\x00b"} {
		for op, f := range map[string]func() error{
			"open":    func() error { _, err := d.OpenDir(name); return err },
			"mkdir":   func() error { return d.Mkdir(name) },
			"create":  func() error { _, err := d.Create(name); return err },
			"mknod":   func() error { return d.Mknod(name, 0o010600, 0) },
			"symlink": func() error { return d.Symlink("x", name) },
			"link":    func() error { return d.Link(d, "x", name) },
			"link of": func() error { return d.Link(d, name, "x") },
			"move":    func() error { return d.Move(d, "x", name) },
			"move of": func() error { return d.Move(d, name, "x") },
			"attr":    func() error { return d.SetAttr(name, Attr{}, false) },
			"usage":   func() error { _, err := d.DiskUsage(name); return err },
		} {
			if err := f(); err == nil || !strings.Contains(err.Error(), "is not a name") {
				t.Errorf("%s %q: %v", op, name, err)
			}
		}
	}
	if es, _ := os.ReadDir(outside); len(es) != 1 {
		t.Errorf("made outside: %v", es)
	}
}

// TestNoFollow has symbolic links where an operation might go through.
func TestNoFollow(t *testing.T) {
	kerneltest.Root(t)
	top := t.TempDir()
	target := filepath.Join(top, "target")
	dir := filepath.Join(top, "dir")
	for _, p := range []string{target, dir} {
		if err := os.Mkdir(p, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(target, "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	before, err := StatPath(file)
	if err != nil {
		t.Fatal(err)
	}
	d, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for name, to := range map[string]string{"d": target, "f": file} {
		if err := d.Symlink(to, name); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.OpenDir("d"); err == nil {
		t.Error("opened a directory through a link")
	}
	if _, err := d.Create("f"); err == nil {
		t.Error("created a file through a link")
	}
	// A link has no mode; what has one is behind it.
	if err := d.SetAttr("f", Attr{Mode: 0o777, UID: 5, GID: 5, Seconds: 9, Xattrs: map[string]string{"trusted.x": "y"}}, true); err != nil {
		t.Error(err)
	}
	if err := d.SetAttr("f", Attr{Mode: 0o777}, false); err == nil {
		t.Error("set the mode of a link")
	}
	if err := d.Link(d, "f", "g"); err != nil {
		t.Error(err)
	}
	if s, err := StatPath(filepath.Join(dir, "g")); err != nil || s.Target != file || s.Links != 2 || s.Xattrs["trusted.x"] != "y" || s.Seconds != 9 {
		t.Errorf("the link's second name: %+v, %v", s, err)
	}
	after, err := StatPath(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("behind the link: %s", diff)
	}
	if err := d.Move(d, "g", "f"); err == nil {
		t.Error("replaced a file")
	}
}
