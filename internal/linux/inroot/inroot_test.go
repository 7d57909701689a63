package inroot

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(dir, "canary")
	root := filepath.Join(dir, "root")
	write := func(path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(outside, "token")
	write(filepath.Join(root, "etc/passwd"), "inside")
	write(filepath.Join(root, "canary"), "inner")
	write(filepath.Join(root, "big"), "0123456789")
	for name, target := range map[string]string{"abs": "/etc/passwd", "up": "../../../canary", "out": outside, "magic": "/proc/self/cwd", "loop": "loop"} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(root, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for path, want := range map[string]string{
		"etc/passwd": "inside", "/etc/passwd": "inside", "abs": "inside", "up": "inner", "../../canary": "inner",
		"out": "", "magic": "", "loop": "", "fifo": "", "big": "", "etc": "", "none": "",
	} {
		got, err := ReadFile(f, path, 8)
		if want == "" && err == nil {
			t.Errorf("%s: read %q; want an error", path, got)
		}
		if want != "" && string(got) != want {
			t.Errorf("%s: read %q, %v; want %q", path, got, err, want)
		}
	}
}
