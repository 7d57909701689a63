package content

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/opencontainers/go-digest"

	"lade/internal/errdefs"
	"lade/test/kerneltest"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("LADE_TEST_WRITER"); dir != "" {
		writeForever(dir)
	}
	kerneltest.Main(m, kerneltest.Options{})
}

func open(t *testing.T) *Store {
	t.Helper()
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func files(t *testing.T, s *Store) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(s.root, func(p string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(s.root, p)
			names = append(names, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func write(t *testing.T, s *Store, e Expect, data string) (*Writer, error) {
	t.Helper()
	w, err := s.Ingest(e)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(w, strings.NewReader(data)); err != nil {
		return w, err
	}
	_, err = w.Commit()
	return w, err
}

func TestBlobLife(t *testing.T) {
	for _, alg := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		t.Run(string(alg), func(t *testing.T) {
			s := open(t)
			data := strings.Repeat("layer ", 10000)
			d := alg.FromString(data)
			if _, ok, err := s.Has(d); ok || err != nil {
				t.Fatalf("Has before = %v, %v", ok, err)
			}
			if _, err := s.Open(d); !errdefs.Is(err, errdefs.NotFound) {
				t.Fatalf("Open before: %v", err)
			}
			if _, err := write(t, s, Expect{Digest: d, Size: int64(len(data))}, data); err != nil {
				t.Fatal(err)
			}
			b, err := s.Open(d)
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			at := make([]byte, 5)
			if _, err := b.ReadAt(at, 6); err != nil || string(at) != "layer" || b.Size() != int64(len(data)) {
				t.Errorf("ReadAt = %q, %v; size %d", at, err, b.Size())
			}
			list, err := s.List()
			if diff := cmp.Diff([]Info{{Digest: d, Size: int64(len(data))}}, list, cmpopts.IgnoreFields(Info{}, "Written")); diff != "" || err != nil {
				t.Errorf("List: %v\n%s", err, diff)
			}
			if err := s.Verify(d); err != nil {
				t.Error(err)
			}
			for range 2 {
				if err := s.Delete(d); err != nil {
					t.Error(err)
				}
			}
			if err := s.Empty(); err != nil {
				t.Error(err)
			}
			if left := files(t, s); len(left) != 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

func TestCommitRefuses(t *testing.T) {
	d := digest.FromString("right")
	tests := []struct {
		name   string
		expect Expect
		data   string
		class  errdefs.Class
		left   int // ingests kept for a retry
	}{
		{"wrong digest", Expect{Digest: d}, "wrong", errdefs.DataLoss, 0},
		{"too short", Expect{Digest: d, Size: 5}, "righ", errdefs.DataLoss, 1},
		{"too long", Expect{Digest: d, Size: 4}, "right", errdefs.DataLoss, 0},
		{"too long for empty", Expect{Digest: d, SizeKnown: true}, "right", errdefs.DataLoss, 0},
		{"over the limit", Expect{Name: "x", Limit: 3}, "right", errdefs.Exhausted, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := open(t)
			w, err := write(t, s, tt.expect, tt.data)
			if !errdefs.Is(err, tt.class) {
				t.Errorf("error = %v, want class %v", err, tt.class)
			}
			if tt.left == 0 {
				_ = w.Abort()
			}
			if left := files(t, s); len(left) != tt.left {
				t.Errorf("left: %v", left)
			}
		})
	}
}

func TestNamesThatAreNoDigests(t *testing.T) {
	s := open(t)
	for _, d := range []digest.Digest{"", "sha256:", "sha256:../../../etc/passwd", "md5:d41d8cd98f00b204e9800998ecf8427e", "sha256:" + digest.Digest(strings.Repeat("A", 64)), "../blobs", "sha256:" + digest.Digest(strings.Repeat("a", 63)+"/")} {
		if _, err := s.Open(d); !errdefs.Is(err, errdefs.Invalid) {
			t.Errorf("Open(%q): %v", d, err)
		}
		if _, _, err := s.Has(d); !errdefs.Is(err, errdefs.Invalid) {
			t.Errorf("Has(%q): %v", d, err)
		}
		if err := s.Delete(d); !errdefs.Is(err, errdefs.Invalid) {
			t.Errorf("Delete(%q): %v", d, err)
		}
		if _, err := s.Ingest(Expect{Name: "x", Digest: d}); d != "" && !errdefs.Is(err, errdefs.Invalid) {
			t.Errorf("Ingest(%q): %v", d, err)
		}
	}
}

func TestResume(t *testing.T) {
	s := open(t)
	data := strings.Repeat("0123456789", 1000)
	e := Expect{Digest: digest.FromString(data), Size: int64(len(data))}
	w, err := s.Ingest(e)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, data[:4321]); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Ingest(e); !errors.Is(err, ErrBusy) {
		t.Errorf("second writer: %v, want ErrBusy", err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	w, err = s.Ingest(e)
	if err != nil {
		t.Fatal(err)
	}
	prefix, err := io.ReadAll(w.Prefix())
	if err != nil || string(prefix) != data[:4321] || w.Offset() != 4321 {
		t.Fatalf("prefix has %d bytes, offset %d, %v", len(prefix), w.Offset(), err)
	}
	if _, err := io.WriteString(w, data[w.Offset():]); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(e.Digest); err != nil {
		t.Error(err)
	}
}

func TestDamageIsFound(t *testing.T) {
	s := open(t)
	d, err := s.Put([]byte("manifest"))
	if err != nil {
		t.Fatal(err)
	}
	path, _ := s.path(d)
	if err := os.WriteFile(path, []byte("manifesT"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ReadAll(d, 100); !errdefs.Is(err, errdefs.DataLoss) {
		t.Errorf("ReadAll: %v", err)
	}
	if err := s.Verify(d); !errdefs.Is(err, errdefs.DataLoss) {
		t.Errorf("Verify: %v", err)
	}
	if _, err := s.ReadAll(d, 3); !errdefs.Is(err, errdefs.Exhausted) {
		t.Errorf("ReadAll beyond the limit: %v", err)
	}
}

func TestConcurrentPut(t *testing.T) {
	s := open(t)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if _, err := s.Put([]byte("the same bytes")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if left := files(t, s); len(left) != 1 {
		t.Errorf("left: %v", left)
	}
}

func TestSweepSparesWriters(t *testing.T) {
	s := open(t)
	live, err := s.Ingest(Expect{Name: "live"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = live.Abort() }()
	dead, err := s.Ingest(Expect{Name: "dead"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(dead, "12345"); err != nil {
		t.Fatal(err)
	}
	_ = dead.Close()
	if n, err := s.Sweep(time.Now().Add(-time.Hour)); n != 0 || err != nil {
		t.Errorf("Sweep of old ones = %d, %v", n, err)
	}
	if n, err := s.Sweep(time.Now().Add(time.Hour), "dead"); n != 0 || err != nil {
		t.Errorf("Sweep of all but one = %d, %v", n, err)
	}
	if n, err := s.Sweep(time.Now().Add(time.Hour)); n != 5 || err != nil {
		t.Errorf("Sweep = %d, %v; want 5 bytes", n, err)
	}
	if left := files(t, s); len(left) != 1 {
		t.Errorf("left: %v", left)
	}
	if _, err := live.Write([]byte("still writing")); err != nil {
		t.Error(err)
	}
}

// TestFullDisk fills a file system of 1 MiB: the error says what to do, and an
// aborted ingest gives its space back.
func TestFullDisk(t *testing.T) {
	kerneltest.Root(t)
	dir := t.TempDir()
	if err := syscall.Mount("lade-test", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) }()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	w, err := s.Ingest(Expect{Name: "big"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(w, bytes.NewReader(make([]byte, 4<<20)))
	if !errdefs.Is(err, errdefs.Exhausted) || !errors.Is(err, syscall.ENOSPC) || errdefs.HintOf(err) == "" {
		t.Errorf("error = %v (class %v, hint %q)", err, errdefs.ClassOf(err), errdefs.HintOf(err))
	}
	if err := w.Abort(); err != nil {
		t.Error(err)
	}
	if left := files(t, s); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	if _, err := s.Put([]byte("there is space again")); err != nil {
		t.Error(err)
	}
}

// writeForever is the process that TestKilledWriter kills: it commits blobs
// and says so, until it dies.
func writeForever(dir string) {
	s, err := Open(dir)
	if err != nil {
		panic(err)
	}
	for i := 0; ; i++ {
		d, err := s.Put(bytes.Repeat([]byte{byte(i), byte(i >> 8)}, 50000))
		if err != nil {
			panic(err)
		}
		if _, err := fmt.Fprintln(os.Stdout, d); err != nil {
			os.Exit(0)
		}
	}
}

// TestKilledWriter kills a writer at many moments. Every blob that was
// committed is whole, every file under a blob's name is that blob, and a sweep
// leaves nothing else.
func TestKilledWriter(t *testing.T) {
	s := open(t)
	for round := range 20 {
		cmd := kerneltest.Command(t, "/proc/self/exe")
		cmd.Env = append(os.Environ(), "LADE_TEST_WRITER="+s.root)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// Let it come some way, then kill it without regard to what it does.
		buf := make([]byte, (round%5)*72+1)
		if _, err := io.ReadFull(out, buf); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		rest, _ := io.ReadAll(out)
		_ = cmd.Wait()
		for d := range strings.FieldsSeq(string(buf) + string(rest)) {
			if len(d) != 71 {
				continue // cut in the middle of a line
			}
			if err := s.Verify(digest.Digest(d)); err != nil {
				t.Errorf("committed, but: %v", err)
			}
		}
	}
	list, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range list {
		if err := s.Verify(b.Digest); err != nil {
			t.Error(err)
		}
	}
	if _, err := s.Sweep(time.Now().Add(time.Hour)); err != nil {
		t.Error(err)
	}
	if left := files(t, s); len(left) != len(list) {
		t.Errorf("%d files for %d blobs", len(left), len(list))
	}
}
