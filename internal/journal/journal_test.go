package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"lade/internal/errdefs"
)

func open(t *testing.T, dir string, o Options) *Journal {
	t.Helper()
	j, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

func add(t *testing.T, j *Journal, data ...string) uint64 {
	t.Helper()
	var all [][]byte
	for _, d := range data {
		all = append(all, []byte(d))
	}
	first, err := j.Append(all...)
	if err != nil {
		t.Fatal(err)
	}
	return first
}

// read returns all records from a number on as NUMBER=DATA, and what is gone.
func read(t *testing.T, j *Journal, from uint64) string {
	t.Helper()
	if err := j.Sync(); err != nil {
		t.Fatal(err)
	}
	r := j.Read(from)
	defer r.Close()
	var out []string
	for {
		n, data, err := r.Next()
		switch {
		case errors.Is(err, io.EOF):
			return strings.Join(out, " ")
		case errors.Is(err, ErrGone) && errdefs.Is(err, errdefs.DataLoss):
			out = append(out, "!"+strings.TrimPrefix(err.Error(), ErrGone.Error()+": numbers "))
		case err != nil:
			t.Fatal(err)
		default:
			out = append(out, fmt.Sprintf("%d=%s", n, data))
		}
	}
}

func check(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func TestJournal(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{})
	if n := add(t, j, "a", "b"); n != 1 {
		t.Errorf("first number %d", n)
	}
	r := j.Read(0)
	defer r.Close()
	if _, _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("a record is shown that may not be on disk: %v", err)
	}
	check(t, "all", read(t, j, 0), "1=a 2=b")
	for _, want := range []string{"a", "b"} {
		if _, data, err := r.Next(); err != nil || string(data) != want {
			t.Errorf("%q, %v; want %q", data, err, want)
		}
	}
	// Another writer goes on where this one ended, and so does a reader.
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j = open(t, dir, Options{})
	if string(j.Last()) != "b" || j.Next() != 3 {
		t.Errorf("last %q, next %d", j.Last(), j.Next())
	}
	add(t, j, "c", "")
	check(t, "from 2", read(t, j, 2), "2=b 3=c 4=")
	check(t, "from beyond", read(t, j, 9), "")
	if _, err := j.Append(make([]byte, maxData+1)); !errdefs.Is(err, errdefs.Invalid) {
		t.Errorf("a record that is too large: %v", err)
	}
}

// TestSegments: full segments are followed by others, and the oldest go.
func TestSegments(t *testing.T) {
	o := Options{SegmentBytes: 40, Segments: 3} // two records each
	dir := t.TempDir()
	j := open(t, dir, o)
	slow := j.Read(1)
	defer slow.Close()
	for i := range 9 {
		add(t, j, strconv.Itoa(i+1)+"..................")
		if i == 0 {
			if err := j.Sync(); err != nil {
				t.Fatal(err)
			}
			if n, _, err := slow.Next(); n != 1 || err != nil {
				t.Fatal(n, err)
			}
		}
	}
	if all, err := segments(dir); err != nil || len(all) != 3 {
		t.Errorf("segments %v, %v", all, err)
	}
	check(t, "bounded", strings.ReplaceAll(read(t, j, 0), ".", ""), "5=5 6=6 7=7 8=8 9=9")
	check(t, "gone", strings.ReplaceAll(read(t, j, 2), ".", ""), "!2 to 4 5=5 6=6 7=7 8=8 9=9")
	// Who holds a segment open reads it to its end.
	if n, _, err := slow.Next(); n != 2 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if _, _, err := slow.Next(); !errors.Is(err, ErrGone) {
		t.Errorf("records that are gone: %v", err)
	}
	if n, _, err := slow.Next(); n != 5 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	// A segment without records: the writer died when it had just made it.
	if err := os.WriteFile(j.path(10), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	j = open(t, dir, o)
	if j.Next() != 10 || !strings.HasPrefix(string(j.Last()), "9") {
		t.Errorf("next %d, last %q", j.Next(), j.Last())
	}
}

// TestTorn: whatever a writer that was killed left of a record is cut off, and
// its number given to the next.
func TestTorn(t *testing.T) {
	whole := appendRecord(appendRecord(nil, 1, []byte("one")), 2, []byte("two"))
	third := appendRecord(nil, 3, []byte("three"))
	for cut := range third {
		dir := t.TempDir()
		j := open(t, dir, Options{})
		if err := os.WriteFile(j.path(1), append(bytes.Clone(whole), third[:cut]...), 0o600); err != nil {
			t.Fatal(err)
		}
		j = open(t, dir, Options{})
		if n := add(t, j, "new"); n != 3 {
			t.Errorf("after %d bytes of a third: number %d", cut, n)
		}
		check(t, "torn", read(t, j, 0), "1=one 2=two 3=new")
	}
}

// TestDamage: a byte that changed costs the record that it is in, is reported,
// and no number is given twice.
func TestDamage(t *testing.T) {
	var whole []byte
	for i := range 4 {
		whole = appendRecord(whole, uint64(i+1), []byte{'a' + byte(i)})
	}
	size := len(whole) / 4
	for at := range whole {
		dir := t.TempDir()
		bad := bytes.Clone(whole)
		bad[at] ^= 0x40
		j := open(t, dir, Options{})
		if err := os.WriteFile(j.path(1), bad, 0o600); err != nil {
			t.Fatal(err)
		}
		j = open(t, dir, Options{})
		add(t, j, "e")
		var want []string
		for i := range 4 {
			switch {
			case i != at/size:
				want = append(want, fmt.Sprintf("%d=%c", i+1, 'a'+i))
			case i < 3:
				want = append(want, fmt.Sprintf("!%d to %d", i+1, i+1))
			}
		}
		next := 5
		if at/size == 3 {
			next = 4 // at the very end it cannot be told from a torn one
		}
		want = append(want, fmt.Sprintf("%d=e", next))
		check(t, fmt.Sprintf("byte %d", at), read(t, j, 0), strings.Join(want, " "))
	}
}

// TestFull: a write that does not succeed leaves nothing, and the next one does.
func TestFull(t *testing.T) {
	j := open(t, t.TempDir(), Options{})
	add(t, j, "a")
	good := j.f
	r, err := os.Open(good.Name()) // cannot be written to
	if err != nil {
		t.Fatal(err)
	}
	j.f = r
	if _, err := j.Append([]byte("b")); err == nil {
		t.Error("written to a file that cannot be")
	}
	_ = r.Close()
	j.f = good
	if n := add(t, j, "c"); n != 2 {
		t.Errorf("number %d", n)
	}
	check(t, "all", read(t, j, 0), "1=a 2=c")
}

// TestKilledWriter kills a writer again and again: every number that it said
// it gave is there, once, with what was said to be in it.
func TestKilledWriter(t *testing.T) {
	if dir := os.Getenv("LADE_TEST_JOURNAL"); dir != "" {
		j, err := Open(dir, Options{SegmentBytes: 2000, Segments: 1000})
		if err != nil {
			t.Fatal(err)
		}
		for {
			n, err := j.Append(fmt.Append(nil, "of ", j.Next()))
			if err != nil {
				t.Fatal(err)
			}
			fmt.Println(n)
		}
	}
	dir := t.TempDir()
	last := uint64(0)
	for range 20 {
		c := exec.Command(os.Args[0], "-test.run=TestKilledWriter$")
		c.Env = append(os.Environ(), "LADE_TEST_JOURNAL="+dir)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		for range 30 {
			var n uint64
			if _, err := fmt.Fscan(out, &n); err != nil {
				t.Fatal(err)
			}
			if n <= last {
				t.Fatalf("number %d was given before", n)
			}
			last = n
		}
		_ = c.Process.Kill()
		_ = c.Wait()
	}
	j := open(t, dir, Options{})
	if j.Next() <= last {
		t.Errorf("next %d, though %d was given", j.Next(), last)
	}
	for i, rec := range strings.Fields(strings.ReplaceAll(read(t, j, 0), "of ", "")) {
		if want := fmt.Sprintf("%d=%d", i+1, i+1); rec != want {
			t.Fatalf("%s where %s should be", rec, want)
		}
	}
}

// FuzzOpen: whatever a segment holds, the journal opens, goes on with a number
// that was not given, and shows no record that is not there.
func FuzzOpen(f *testing.F) {
	f.Add([]byte{})
	f.Add(appendRecord(nil, 1, []byte("one")))
	f.Add(appendRecord(appendRecord(nil, 1, nil), 3, []byte("gap")))
	f.Add(append(appendRecord(nil, 2, []byte("x")), 1, 2, 3))
	f.Add(make([]byte, 64))
	f.Fuzz(func(t *testing.T, raw []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%020d%s", 1, suffix)), raw, 0o600); err != nil {
			t.Fatal(err)
		}
		j := open(t, dir, Options{})
		next := j.Next()
		if next > 1<<62 {
			t.Skip("only a writer that had given as many could write this")
		}
		if n := add(t, j, "new"); n != next {
			t.Fatalf("number %d, want %d", n, next)
		}
		if got := read(t, j, 0); !strings.HasSuffix(got, fmt.Sprintf("%d=new", next)) {
			t.Fatalf("%q does not end with number %d", got, next)
		}
	})
}
