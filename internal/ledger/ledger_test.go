package ledger

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func write(t *testing.T, path string, size int) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
}

// du is what du(1) says.
func du(t *testing.T, path string) int64 {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "du", "-s", "-x", "--block-size=1", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseInt(strings.Fields(string(out))[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestWalk: every file is charged to who answers for it, once, and the sum is
// du's.
func TestWalk(t *testing.T) {
	root := t.TempDir()
	at := func(parts ...string) string { return filepath.Join(append([]string{root}, parts...)...) }
	write(t, at("records"), 5000)
	write(t, at("a", "blobs", "one"), 100<<10)
	write(t, at("a", "blobs", "two"), 8<<10)
	write(t, at("a", "blobs", "stray"), 12<<10)
	write(t, at("boxes", "b1", "log", "0"), 4096)
	write(t, at("boxes", "b1", "data", "deep", "er"), 20<<10)
	write(t, at("nobody", "s", "file"), 4096)
	for from, to := range map[string]string{"one": at("a", "blobs", "two-again"), "two": at("a", "blobs", "linked")} {
		if err := os.Link(at("a", "blobs", from), to); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/", at("boxes", "b1", "data", "link")); err != nil {
		t.Fatal(err)
	}
	sparse, err := os.Create(at("boxes", "b1", "data", "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	if err := sparse.Truncate(1 << 30); err != nil {
		t.Fatal(err)
	}
	_ = sparse.Close()

	sources := []Source{
		{Dir: root, Loose: true, Owner: func(name string) Owner {
			if name == "records" {
				return Owner{Kind: Record}
			}
			return Owner{}
		}},
		{Dir: at("a", "blobs"), Loose: true, Owner: func(name string) Owner {
			if name == "stray" {
				return Owner{}
			}
			return Owner{Blob, "b"}
		}},
		{Dir: at("boxes"), Owner: func(name string) Owner { return Owner{File, name} }, Part: func(name string) Kind {
			if name == "log" {
				return Log
			}
			return Writable
		}},
	}
	later := time.Now().Add(time.Hour)
	r, err := Walk(root, sources, later)
	if err != nil {
		t.Fatal(err)
	}
	if want := du(t, root); r.Bytes != want {
		t.Errorf("the ledger has %d bytes, du %d", r.Bytes, want)
	}
	got := map[string]int64{}
	for _, l := range r.Lines {
		got[string(l.Kind)+" "+l.ID+" "+l.Path] += l.Files
	}
	want := map[string]int64{
		"  a/blobs/stray": 1, "  nobody": 3, "blob b ": 2, "record  ": 1, "directory  ": 4,
		"container file b1 ": 1, "log b1 ": 2, "writable layer b1 ": 5,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if n := r.Of(Blob)["b"]; n != du(t, at("a", "blobs", "one"))+du(t, at("a", "blobs", "two")) {
		t.Errorf("blobs have %d bytes", n)
	}

	// What nobody knows yet may be in the making.
	r, err = Walk(root, sources, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if files, _ := r.Sum(func(l Line) bool { return l.Kind == Unowned }); files != 0 {
		t.Errorf("%d files are unowned at once", files)
	}
	if files, _ := r.Sum(func(l Line) bool { return l.Kind == Temporary }); files != 4 {
		t.Errorf("%d files are temporary; want 4", files)
	}
	if _, err := Walk(root, []Source{{Dir: "/elsewhere"}}, later); err == nil {
		t.Error("a source outside of the root was accepted")
	}
}
