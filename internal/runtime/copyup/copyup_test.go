package copyup_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/runtime/copyup"
)

func descriptor(t *testing.T, dir string) int {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

// TestLimits: a tree that is too large ends the copy with the limit's name.
func TestLimits(t *testing.T) {
	source := t.TempDir()
	for i := range 5 {
		if err := os.WriteFile(filepath.Join(source, fmt.Sprint(i)), make([]byte, 100), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(source, "a/b/c/d"), 0o755); err != nil {
		t.Fatal(err)
	}
	// A file that is large and holds nothing.
	if err := errors.Join(os.MkdirAll(filepath.Join(source, "sparse"), 0o755), os.WriteFile(filepath.Join(source, "sparse/file"), nil, 0o600), os.Truncate(filepath.Join(source, "sparse/file"), 10<<20)); err != nil {
		t.Fatal(err)
	}
	for want, o := range map[string]copyup.Options{
		"more than 7 files":         {Entries: 7, Bytes: 1 << 30, Depth: 9},
		"more than 10484000 bytes":  {Entries: 99, Bytes: 10484000, Depth: 9},
		"nested more than 2 deep":   {Entries: 99, Bytes: 1 << 30, Depth: 2},
		"copy ./sparse/file: there": {Entries: 99, Bytes: 4096, Depth: 9},
		"":                          {Entries: 99, Bytes: 1 << 30, Depth: 9},
	} {
		err := copyup.Copy(descriptor(t, source), descriptor(t, t.TempDir()), o)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || errdefs.ClassOf(err) != errdefs.Exhausted) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

// TestLinksAreNotFollowed: CVE-2022-23648, CVE-2024-45310. What a link of the
// container leads to is not read, and what is in the way is not written to.
func TestLinksAreNotFollowed(t *testing.T) {
	host, source, target := t.TempDir(), t.TempDir(), t.TempDir()
	if err := errors.Join(
		os.WriteFile(filepath.Join(host, "secret"), []byte("secret"), 0o600),
		os.Symlink(filepath.Join(host, "secret"), filepath.Join(source, "file")),
		os.Symlink(host, filepath.Join(source, "dir")),
	); err != nil {
		t.Fatal(err)
	}
	if err := copyup.Copy(descriptor(t, source), descriptor(t, target), copyup.Limits()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"file", "dir"} {
		if fi, err := os.Lstat(filepath.Join(target, name)); err != nil || fi.Mode()&os.ModeSymlink == 0 {
			t.Errorf("%s: %v, %v", name, fi, err)
		}
	}
	// A target that is not empty: nothing in it is written through.
	if err := errors.Join(os.Mkdir(filepath.Join(source, "again"), 0o755), os.WriteFile(filepath.Join(source, "again/new"), nil, 0o600),
		os.Remove(filepath.Join(target, "file")), os.Remove(filepath.Join(target, "dir")), os.Symlink(host, filepath.Join(target, "again"))); err != nil {
		t.Fatal(err)
	}
	if err := copyup.Copy(descriptor(t, source), descriptor(t, target), copyup.Limits()); !errors.Is(err, unix.EEXIST) {
		t.Errorf("a name that is taken: %v", err)
	}
	if left, _ := os.ReadDir(host); len(left) != 1 {
		t.Errorf("in the host's directory: %v", left)
	}
}
