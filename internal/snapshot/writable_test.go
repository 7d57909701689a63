package snapshot

import (
	"archive/tar"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lade/internal/errdefs"
	"lade/internal/linux/fsat"
	"lade/internal/linux/mount"
	"lade/internal/linux/quota"
	"lade/test/kerneltest"
)

// needMkfs ends the test where there is no mkfs.ext4.
func needMkfs(t *testing.T) {
	t.Helper()
	kerneltest.Root(t)
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		t.Skip("mkfs.ext4 is not installed")
	}
}

// fill writes to a file until it is refused, and returns how far it came.
func fill(t *testing.T, path string) (int64, error) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var n int64
	for block := bytes.Repeat([]byte{1}, 1<<20); n < 1<<30; {
		k, err := f.Write(block)
		n += int64(k)
		if err == nil {
			err = f.Sync()
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

func allocated(t *testing.T, path string) int64 {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

// TestBoundedImage fills a writable layer of 32 MiB: it is refused there and
// not before, what is removed is given back to the disk, and all that one can do
// with a writable layer can be done with this one.
func TestBoundedImage(t *testing.T) {
	needMkfs(t)
	for _, base := range []uint32{0, 1 << 20} {
		s := open(t, t.TempDir(), "")
		ids := unpack(t, s, makeTar(t, tar.Header{Name: "lower", Linkname: "from the image"}, tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o1751, Uid: 3}))
		o := PrepareOptions{Size: 32 << 20}
		if base > 0 {
			o.UIDMap = []mount.IDMap{{Host: base, Size: 1 << 16}}
			o.GIDMap = o.UIDMap
		}
		root, err := s.Prepare("c", ids, o)
		if err != nil {
			t.Fatal(err)
		}
		if n := allocated(t, root.Image); n > 8<<20 {
			t.Errorf("an empty one takes %d bytes", n)
		}
		at := mounted(t, root)
		if st := stat(t, at); st.Mode&0o7777 != 0o1751 || st.Uid != base+3 {
			t.Errorf("root has mode %o and owner %d", st.Mode, st.Uid)
		}
		n, err := fill(t, filepath.Join(at, "big"))
		if !errors.Is(err, syscall.ENOSPC) || n < 20<<20 || n > 32<<20 {
			t.Errorf("wrote %d bytes: %v; want ENOSPC near 32 MiB", n, err)
		}
		full := allocated(t, root.Image)
		if full < n {
			t.Errorf("%d bytes are on disk", full)
		}
		if err := errors.Join(os.Remove(filepath.Join(at, "big")), fsat.Syncfs(at)); err != nil {
			t.Fatal(err)
		}
		if left := allocated(t, root.Image); left > full-n/2 {
			t.Errorf("%d of %d bytes are still taken after the file is gone", left, full)
		}
		if err := errors.Join(os.Remove(filepath.Join(at, "lower")), os.WriteFile(filepath.Join(at, "new"), []byte("kept"), 0o600)); err != nil {
			t.Fatal(err)
		}

		// While it is mounted, and by another store, as of the next engine.
		var b bytes.Buffer
		again := open(t, filepath.Dir(s.layers), "")
		if any, err := again.Changes(t.Context(), "c", &b, ChangesOptions{UIDMap: o.UIDMap, GIDMap: o.GIDMap}); !any || err != nil {
			t.Fatalf("Changes = %v, %v", any, err)
		}
		var names []string
		for r := tar.NewReader(&b); ; {
			h, err := r.Next()
			if err != nil {
				break
			}
			names = append(names, h.Name)
		}
		if diff := cmp.Diff([]string{"./", ".wh.lower", "new"}, slices.DeleteFunc(names, func(n string) bool { return strings.HasPrefix(n, "lost") })); diff != "" {
			t.Errorf("Changes: -want +got:\n%s", diff)
		}

		// The next start finds what the first one wrote, whatever it asks for.
		next, err := s.Prepare("c", ids, PrepareOptions{UIDMap: o.UIDMap, GIDMap: o.GIDMap, Volatile: true})
		if err != nil {
			t.Fatal(err)
		}
		next.Volatile = false // the first still has it
		if b, err := os.ReadFile(filepath.Join(mounted(t, next), "new")); err != nil || string(b) != "kept" {
			t.Errorf("after the next start: %q, %v", b, err)
		}
		if err := s.Remove("c"); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Upper("c"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Upper after Remove: %v", err)
		}
	}
}

// TestBoundedAtOnce opens one image from many sides at once: there is one
// device, or the file system would be destroyed.
func TestBoundedAtOnce(t *testing.T) {
	needMkfs(t)
	s := open(t, t.TempDir(), "")
	ids := unpack(t, s, makeTar(t, tar.Header{Name: "x", Linkname: "x"}))
	root, err := s.Prepare("c", ids, PrepareOptions{Size: MinSize})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				m, err := mount.OpenImage(root.Image)
				if err != nil {
					t.Error(err)
					return
				}
				if err := m.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if out, err := exec.Command("e2fsck", "-fn", root.Image).CombinedOutput(); err != nil {
		t.Errorf("the file system is damaged: %v\n%s", err, out)
	}
}

// TestBoundedFailure lets mkfs.ext4 fail: nothing of it is left, and the next
// try succeeds.
func TestBoundedFailure(t *testing.T) {
	needMkfs(t)
	s := open(t, t.TempDir(), "")
	ids := unpack(t, s, makeTar(t, tar.Header{Name: "x", Linkname: "x"}))
	path := os.Getenv("PATH")
	t.Setenv("PATH", "")
	if err := s.CheckSize(MinSize); quota.Check(s.containers) != nil && (!errdefs.Is(err, errdefs.Unavailable) || errdefs.HintOf(err) == "") {
		t.Errorf("without mkfs.ext4: %v", err)
	}
	if _, err := s.Prepare("c", ids, PrepareOptions{Size: MinSize}); err == nil {
		t.Fatal("a file system without mkfs.ext4")
	}
	if left, _ := os.ReadDir(filepath.Join(s.containers, "c")); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	t.Setenv("PATH", path)
	if err := s.CheckSize(MinSize - 1); !errdefs.Is(err, errdefs.Invalid) {
		t.Errorf("too small: %v", err)
	}
	if err := s.CheckSize(MinSize); err != nil {
		t.Error(err)
	}
	// As a process leaves it that is killed.
	if err := os.WriteFile(filepath.Join(s.containers, "c", imageFile+".new"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	root, err := s.Prepare("c", ids, PrepareOptions{Size: MinSize})
	if err != nil {
		t.Fatal(err)
	}
	mounted(t, root)
}

// TestBoundedProject fills a writable layer on file systems that have project
// quotas, where the kernel has them.
func TestBoundedProject(t *testing.T) {
	needMkfs(t)
	for kind, mkfs := range map[string][]string{
		"ext4": {"mkfs.ext4", "-q", "-F", "-O", "quota,project", "-E", "quotatype=prjquota"}, "xfs": {"mkfs.xfs", "-q"},
	} {
		t.Run(kind, func(t *testing.T) { boundedProject(t, mkfs) })
	}
}

func boundedProject(t *testing.T, mkfs []string) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(t.TempDir(), "disk")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, 400<<20)); err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath(mkfs[0]); err != nil {
		t.Skip(err)
	}
	if out, err := exec.Command(mkfs[0], append(mkfs[1:], file)...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := exec.Command("mount", "-o", "loop,prjquota", file, dir).CombinedOutput(); err != nil {
		t.Skipf("the kernel has no project quota for %s (CONFIG_QFMT_V2, CONFIG_XFS_QUOTA): %v: %s", filepath.Base(mkfs[0]), err, out)
	}
	t.Cleanup(func() {
		if err := mount.Unmount(dir); err != nil {
			t.Error(err)
		}
	})
	if err := quota.Check(dir); err != nil {
		t.Skip(err)
	}
	s := open(t, dir, "")
	ids := unpack(t, s, makeTar(t, tar.Header{Name: "x", Linkname: "x"}))
	for _, id := range []string{"one", "two"} {
		root, err := s.Prepare(id, ids, PrepareOptions{Size: MinSize})
		if err != nil {
			t.Fatal(err)
		}
		if root.Image != "" {
			t.Error("made an image although there are quotas")
		}
		at := mounted(t, root)
		for range 2 {
			n, err := fill(t, filepath.Join(at, "big"))
			if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) || n < MinSize-1<<20 || n > MinSize {
				t.Errorf("wrote %d bytes: %v; want to be refused at %d", n, err, MinSize)
			}
			if err := os.Remove(filepath.Join(at, "big")); err != nil {
				t.Fatal(err)
			}
		}
	}
	one, err := quota.Project(filepath.Join(s.containers, "one", upperDir))
	two, err2 := quota.Project(filepath.Join(s.containers, "two", workDir))
	if err != nil || err2 != nil || one == two || one == 0 || two == 0 {
		t.Errorf("projects %d and %d; %v, %v", one, two, err, err2)
	}
	// One that was never mounted: what is mounted keeps its removed files.
	if _, err := s.Prepare("three", ids, PrepareOptions{Size: MinSize}); err != nil {
		t.Fatal(err)
	}
	three, err := quota.Project(filepath.Join(s.containers, "three", upperDir))
	if err := errors.Join(err, s.Remove("three"), fsat.Syncfs(dir)); err != nil {
		t.Fatal(err)
	}
	kerneltest.Eventually(t, "the project of a removed layer is free", func() bool {
		free, err := quota.Free(dir, three)
		return err == nil && free == three
	})
}
