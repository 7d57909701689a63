package snapshot

import (
	"archive/tar"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"lade/internal/errdefs"
	"lade/internal/linux/mount"
	"lade/test/kerneltest"
)

// TestDiskFull unpacks layers of all sizes to a disk that some of them fill.
func TestDiskFull(t *testing.T) {
	kerneltest.Root(t)
	for _, kind := range kinds {
		disk := t.TempDir()
		if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=1m"); err != nil {
			t.Fatal(err)
		}
		s := open(t, disk, kind)
		ok := 0
		for size := 100 << 10; size < 2<<20; size += 100 << 10 {
			text := makeTar(t, tar.Header{Name: "dir/a", Linkname: strings.Repeat("x", size)})
			id := digest.FromString(text)
			_, err := s.Unpack(t.Context(), id, strings.NewReader(text), UnpackOptions{})
			if err == nil {
				ok++
				if err := s.RemoveLayer(id); err != nil {
					t.Fatal(err)
				}
			} else if !errdefs.Is(err, errdefs.Exhausted) {
				t.Errorf("%s: %d bytes: %v", kind, size, err)
			}
			if left := files(t, s); len(left) > 0 {
				t.Fatalf("%s: %d bytes: left %v", kind, size, left)
			}
		}
		if ok < 5 || ok > 10 {
			t.Errorf("%s: %d layers fit", kind, ok)
		}
		if err := mount.Unmount(disk); err != nil {
			t.Error(err)
		}
	}
}

// killEnv names the store in which a process of this binary unpacks its input
// until it is killed.
const killEnv = "LADE_TEST_UNPACK_IN"

// TestKilledProcess is that process.
func TestKilledProcess(t *testing.T) {
	dir, kind, ok := strings.Cut(os.Getenv(killEnv), ",")
	if !ok {
		return // only TestKill starts it
	}
	s := open(t, dir, mount.LayerKind(kind))
	id, _ := os.LookupEnv(killEnv + "_ID")
	_, err := s.Unpack(t.Context(), digest.Digest(id), os.Stdin, UnpackOptions{})
	t.Log(err)
}

// TestKill kills a writer at many points. The next Open finds nothing, or the
// whole layer.
func TestKill(t *testing.T) {
	kerneltest.Root(t)
	var hs []tar.Header
	for range 20 {
		hs = append(hs, tar.Header{Name: "f" + string(rune('a'+len(hs))), Linkname: strings.Repeat("x", 300<<10)})
	}
	text := makeTar(t, hs...)
	id := digest.FromString(text)
	for _, kind := range kinds {
		dir := t.TempDir()
		for cut := len(text) / 10; cut <= len(text); cut += len(text) / 4 {
			cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestKilledProcess$")
			cmd.Env = append(os.Environ(), killEnv+"="+dir+","+string(kind), killEnv+"_ID="+string(id))
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			// It has nearly all of it when this returns: a pipe holds little.
			if _, err := io.WriteString(in, text[:cut]); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			waitUnlocked(t, filepath.Join(dir, "layers"))
			s := open(t, dir, kind)
			if left := files(t, s); len(left) > 0 {
				t.Errorf("%s, killed after %d bytes: left %v", kind, cut, left)
			}
		}
		s := open(t, dir, kind)
		unpack(t, s, text)
		if got, want := files(t, s), []string{filepath.Base(s.path(id, kind))}; len(got) != 1 || got[0] != want[0] {
			t.Errorf("%s: %v, want %v", kind, got, want)
		}
	}
}

// waitUnlocked waits for the end of all who write in dir: the process that was
// killed had a child.
func waitUnlocked(t *testing.T, dir string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(dir, ".tmp-*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range left {
		f, err := os.Open(p)
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
	}
}
