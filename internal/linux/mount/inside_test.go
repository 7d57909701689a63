package mount

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
)

// TestOpenInside opens what paths name in a directory that belongs to somebody
// else: what lies in it, by whatever links, and nothing that does not.
func TestOpenInside(t *testing.T) {
	dir := files(t, "root/a/b/file", "canary")
	for name, target := range map[string]string{"in": "a/b", "abs": "/etc", "up": "../..", "self": "self", "magic": "/proc/self/cwd"} {
		if err := os.Symlink(target, filepath.Join(dir, "root", name)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.Open(filepath.Join(dir, "root"))
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for path, ok := range map[string]bool{
		"a": true, "a/b": true, "a/b/file": true, "in": true, "in/file": true, "a/../a": true, ".": true,
		"..": false, "../canary": false, "abs": false, "up": false, "up/canary": false, "self": false, "magic": false, "nope": false, "a/b/file/x": false, "/a": false,
	} {
		m, err := OpenInside(root, path, BindOptions{Recursive: true})
		if ok != (err == nil) {
			t.Errorf("%s: %v", path, err)
		}
		if err != nil && !errdefs.Is(err, errdefs.Invalid) {
			t.Errorf("%s: %v is of class %v", path, err, errdefs.ClassOf(err))
		}
		if m == nil {
			continue
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestOpenInsideRace exchanges a directory for a link out while it is opened.
func TestOpenInsideRace(t *testing.T) {
	dir := files(t, "root/a/mine", "out/canary")
	if err := os.Symlink("../out", filepath.Join(dir, "root/b")); err != nil {
		t.Fatal(err)
	}
	root, err := os.Open(filepath.Join(dir, "root"))
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-end:
				return
			default:
				_ = unix.Renameat2(int(root.Fd()), "a", int(root.Fd()), "b", unix.RENAME_EXCHANGE)
			}
		}
	}()
	defer func() { close(end); <-ended }()
	opened, refused := 0, 0
	for range 10_000 {
		m, err := OpenInside(root, "a", BindOptions{})
		if err != nil {
			refused++
			continue
		}
		opened++
		f, err := m.File()
		if err != nil {
			t.Fatal(err)
		}
		fd, err := unix.Openat(int(f.Fd()), "canary", unix.O_RDONLY, 0)
		if err == nil {
			_ = unix.Close(fd)
			t.Fatal("the mount is of what lies outside")
		}
		if err := errors.Join(f.Close(), m.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if opened == 0 || refused == 0 {
		t.Logf("opened %d times, refused %d times: the exchange was not seen", opened, refused)
	}
}

// TestOpenPeer mounts in a tree that is shared, and in its peer.
func TestOpenPeer(t *testing.T) {
	dir := files(t, "tree/in/x", "tree/out/x", "peer/x")
	tree, peer := filepath.Join(dir, "tree"), filepath.Join(dir, "peer")
	if _, err := OpenPeer(tree, true); err == nil || !strings.Contains(err.Error(), "not a shared mount") {
		t.Errorf("a mount that is private: %v", err)
	}
	mount := func(fs, at string, flags uintptr) {
		t.Helper()
		if err := unix.Mount(fs, at, fs, flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mount(tree, tree, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = Unmount(tree) }()
	if err := unix.Mount("", tree, "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	m, err := OpenPeer(tree, true)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(m.Attach(peer), m.Close()); err != nil {
		t.Fatal(err)
	}
	mount("tmpfs", tree+"/in", 0)
	mount("tmpfs", peer+"/out", 0)
	for _, p := range []string{peer + "/in", tree + "/out"} {
		if is, err := IsMountPoint(p); err != nil || !is {
			t.Errorf("%s: %v, %v; want a mount point", p, is, err)
		}
	}
	if err := UnmountOnly(peer); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{tree + "/in", tree + "/out"} {
		if is, err := IsMountPoint(p); err != nil || !is {
			t.Errorf("%s went with its peer (%v)", p, err)
		}
	}
}
