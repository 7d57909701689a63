package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func open(t *testing.T, dir string, o ReadOptions) *Reader {
	t.Helper()
	r, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func newWriter(t *testing.T, c Config) *Writer {
	t.Helper()
	w, err := NewWriter(c)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

var all = ReadOptions{Tail: -1, Stdout: true, Stderr: true}

// texts returns what is left to read, each entry as o|e, text, and + if it
// goes on or $ if it was never ended.
func texts(t *testing.T, r *Reader) []string {
	t.Helper()
	var out []string
	for {
		e, err := r.Next(t.Context())
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		s := string("?oe"[e.Stream]) + string(e.Data)
		if e.Partial {
			s += "+"
		}
		if e.Unterminated {
			s += "$"
		}
		out = append(out, s)
	}
}

func TestLines(t *testing.T) {
	long := strings.Repeat("x", MaxLine)
	for _, tt := range []struct {
		name   string
		writes []string // o or e, then the bytes
		want   []string
	}{
		{"nothing", nil, nil},
		{"a line", []string{"oa\n"}, []string{"oa"}},
		{"empty lines", []string{"o\n\n"}, []string{"o", "o"}},
		{"several", []string{"oa\nb\n"}, []string{"oa", "ob"}},
		{"in pieces", []string{"oa", "ob", "oc\nd", "o\n"}, []string{"oabc", "od"}},
		{"streams apart", []string{"oa", "ee\n", "ob\n"}, []string{"ee", "oab"}},
		{"no newline", []string{"oa\nb"}, []string{"oa", "ob$"}},
		{"exactly the most", []string{"o" + long + "\n"}, []string{"o" + long}},
		{"one more", []string{"o" + long + "y\n"}, []string{"o" + long + "+", "oy"}},
		{"most in pieces", []string{"o" + long[1:], "oy", "o\nz\n"}, []string{"o" + long[1:] + "y", "oz"}},
		{"three", []string{"o" + long + long, "oy\n"}, []string{"o" + long + "+", "o" + long + "+", "oy"}},
		{"binary", []string{"o\x00\xff\x1a\xde\r\n"}, []string{"o\x00\xff\x1a\xde\r"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "log")
			w := newWriter(t, Config{Dir: dir})
			for _, s := range tt.writes {
				st := Stdout
				if s[0] == 'e' {
					st = Stderr
				}
				w.Write(st, time.Now(), []byte(s[1:]))
			}
			if err := w.Close(time.Now()); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, texts(t, open(t, dir, all))); diff != "" {
				t.Error(diff)
			}
			// Following ends too, because the writer marked its end.
			o := all
			o.Follow = true
			if diff := cmp.Diff(tt.want, texts(t, open(t, dir, o))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTailSinceUntilStreams(t *testing.T) {
	dir := t.TempDir()
	w := newWriter(t, Config{Dir: dir, MaxBytes: MinBytes})
	base := time.Unix(1000, 0)
	at := func(i int) time.Time { return base.Add(time.Duration(i) * time.Second) }
	pad := strings.Repeat(".", 1000) // so that they spread over segments
	for i := range 600 {
		w.Write(Stdout+Stream(i%2), at(i), fmt.Appendf(nil, "%d%s\n", i, pad))
	}
	w.Write(Stdout, at(600), []byte(strings.Repeat("y", 3*MaxLine)+"\n"))
	for _, tt := range []struct {
		name        string
		o           ReadOptions
		first, last string
		n           int
	}{
		{"all", ReadOptions{Tail: -1, Stdout: true, Stderr: true}, "0.", "y", 603},
		{"none", ReadOptions{Tail: 0, Stdout: true, Stderr: true}, "", "", 0},
		{"a long line is one", ReadOptions{Tail: 1, Stdout: true, Stderr: true}, "y", "y", 3},
		{"tail", ReadOptions{Tail: 401, Stdout: true, Stderr: true}, "200.", "y", 403},
		{"tail of more than there is", ReadOptions{Tail: 1000, Stdout: true, Stderr: true}, "0.", "y", 603},
		{"tail of one stream", ReadOptions{Tail: 10, Stderr: true}, "581.", "599.", 10},
		{"since", ReadOptions{Tail: -1, Stdout: true, Stderr: true, Since: at(590)}, "590.", "y", 13},
		{"until", ReadOptions{Tail: -1, Stdout: true, Stderr: true, Until: at(9)}, "0.", "9.", 10},
		{"tail and since", ReadOptions{Tail: 100, Stdout: true, Stderr: true, Since: at(599)}, "599.", "y", 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := texts(t, open(t, dir, tt.o))
			if len(got) != tt.n {
				t.Fatalf("%d entries, want %d", len(got), tt.n)
			}
			if tt.n > 0 && (!strings.HasPrefix(got[0][1:], tt.first) || !strings.HasPrefix(got[tt.n-1][1:], tt.last)) {
				t.Errorf("from %.10q to %.10q, want %q to %q", got[0], got[tt.n-1], tt.first, tt.last)
			}
		})
	}
}

// TestAfter checks that a reader that begins behind any entry of another gets
// what follows it, also when the ring has dropped the place.
func TestAfter(t *testing.T) {
	dir := t.TempDir()
	w := newWriter(t, Config{Dir: dir, MaxBytes: MinBytes})
	write := func(from, to int) {
		for i := from; i < to; i++ {
			w.Write(Stdout, time.Unix(int64(i), 0), fmt.Appendf(nil, "%d%s\n", i, strings.Repeat(".", 1000)))
		}
	}
	write(0, 200)
	all := ReadOptions{Tail: -1, Stdout: true}
	r := open(t, dir, all)
	var places []Position
	for range 200 {
		e, err := r.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		places = append(places, e.End)
	}
	for i, p := range places {
		got := texts(t, open(t, dir, ReadOptions{Tail: 3, Stdout: true, After: p}))
		if len(got) != 199-i || len(got) > 0 && !strings.HasPrefix(got[0][1:], fmt.Sprint(i+1, ".")) {
			t.Fatalf("after entry %d: %d entries, from %.10q", i, len(got), got)
		}
	}
	write(200, 20000)
	whole, late := texts(t, open(t, dir, all)), texts(t, open(t, dir, ReadOptions{Stdout: true, After: places[0]}))
	if len(whole) == 0 || len(whole) != len(late) || whole[0] != late[0] {
		t.Errorf("after what was dropped: %d entries, want all %d", len(late), len(whole))
	}
}

func dirBytes(t *testing.T, dir string) (n int64) {
	t.Helper()
	es, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range es {
		if fi, err := e.Info(); err == nil {
			n += fi.Size()
		}
	}
	return n
}

func TestRingIsBounded(t *testing.T) {
	for _, line := range []string{"\n", "a line of ordinary length\n", strings.Repeat("z", 50000) + "\n"} {
		dir := t.TempDir()
		w := newWriter(t, Config{Dir: dir, MaxBytes: MinBytes})
		chunk := []byte(strings.Repeat(line, max(1, 60000/len(line))))
		for range 60 {
			w.Write(Stdout, time.Now(), chunk)
			if n := dirBytes(t, dir); n > MinBytes {
				t.Fatalf("%d bytes on disk, the bound is %d", n, MinBytes)
			}
		}
		if n := dirBytes(t, dir); n < MinBytes/2 {
			t.Errorf("only %d of %d bytes are kept", n, MinBytes)
		}
	}
}

// A follower that keeps up gets every line once, whatever the writer rotates.
func TestFollowWhileRotating(t *testing.T) {
	const lines = 20000
	dir := t.TempDir()
	o := all
	o.Follow = true
	r := open(t, dir, o)
	w := newWriter(t, Config{Dir: dir, MaxBytes: 4 << 20})
	read := make(chan int)
	go func() {
		defer func() { _ = w.Close(time.Now()) }()
		var b []byte
		seen := 0
		for i := 0; i < lines; {
			b = b[:0]
			for range 1 + rand.IntN(50) {
				if i < lines {
					b = fmt.Appendf(b, "%d %s\n", i, strings.Repeat("p", rand.IntN(3000)))
					i++
				}
			}
			w.Write(Stdout, time.Now(), b)
			for i-seen > 1000 { // stay within the ring
				seen = <-read
			}
			select {
			case seen = <-read:
			default:
			}
		}
		for range read {
		}
	}()
	for i := range lines {
		e, err := r.Next(t.Context())
		if err != nil {
			t.Fatalf("line %d: %v", i, err)
		}
		if n, _, _ := bytes.Cut(e.Data, []byte(" ")); string(n) != fmt.Sprint(i) {
			t.Fatalf("got line %s, want %d", n, i)
		}
		if i%100 == 0 {
			read <- i
		}
	}
	close(read)
	if _, err := r.Next(t.Context()); !errors.Is(err, io.EOF) {
		t.Errorf("after the writer's end: %v", err)
	}
}

func TestFollowEnds(t *testing.T) {
	dir := t.TempDir()
	w := newWriter(t, Config{Dir: dir})
	w.Write(Stdout, time.Now(), []byte("a\n"))
	done := make(chan struct{})
	o := all
	o.Follow, o.Done = true, done
	r := open(t, dir, o)
	if e, err := r.Next(t.Context()); err != nil || string(e.Data) != "a" {
		t.Fatal(e, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := r.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nothing to read: %v", err)
	}
	w.Write(Stdout, time.Now(), []byte("b\n"))
	close(done) // the writer was killed
	if diff := cmp.Diff([]string{"ob"}, texts(t, r)); diff != "" {
		t.Error(diff)
	}
}

// A second writer goes on where the first was killed, in whatever state.
func TestTornTail(t *testing.T) {
	for _, cut := range []int{0, 1, 3, 7, 19, 20, 23, 24, 30} {
		dir := t.TempDir()
		w := newWriter(t, Config{Dir: dir})
		w.Write(Stdout, time.Now(), []byte("one\ntwo\n"))
		torn := appendRecord(nil, record{stream: Stdout, data: []byte("three, which is lost")})
		if _, err := w.f.WriteAt(torn[:cut], w.size); err != nil {
			t.Fatal(err)
		}
		r := open(t, dir, all)
		if diff := cmp.Diff([]string{"oone", "otwo"}, texts(t, r)); diff != "" {
			t.Errorf("cut %d: %s", cut, diff)
		}
		tail := all
		tail.Tail = 1
		if diff := cmp.Diff([]string{"otwo"}, texts(t, open(t, dir, tail))); diff != "" {
			t.Errorf("cut %d, tail: %s", cut, diff)
		}
		w2 := newWriter(t, Config{Dir: dir})
		w2.Write(Stdout, time.Now(), []byte("four\n"))
		if diff := cmp.Diff([]string{"ofour"}, texts(t, r)); diff != "" {
			t.Errorf("cut %d, the reader goes on: %s", cut, diff)
		}
		if diff := cmp.Diff([]string{"oone", "otwo", "ofour"}, texts(t, open(t, dir, all))); diff != "" {
			t.Errorf("cut %d: %s", cut, diff)
		}
	}
}

func TestDamageInTheMiddle(t *testing.T) {
	dir := t.TempDir()
	w := newWriter(t, Config{Dir: dir})
	for i := range 2000 {
		w.Write(Stdout, time.Now(), fmt.Appendf(nil, "%d\n", i))
	}
	name := segmentName(dir, 1)
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		b[len(b)/2+i] ^= 0x55
	}
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	got := texts(t, open(t, dir, all))
	if len(got) < 1990 || got[len(got)-1] != "o1999" {
		t.Errorf("%d lines of 2000 are left", len(got))
	}
	tail := all
	tail.Tail = 1900
	if n := len(texts(t, open(t, dir, tail))); n != 1900 {
		t.Errorf("tail: %d lines of the last 1900", n)
	}
}

func TestNothingKept(t *testing.T) {
	w := newWriter(t, Config{None: true})
	w.Write(Stdout, time.Now(), []byte("a\n"))
	if w.Dropped() != 0 || w.Held(Stdout) != nil || w.Close(time.Now()) != nil {
		t.Error("a writer that keeps nothing does something")
	}
}

func FuzzReader(f *testing.F) {
	var seed []byte
	for i := range 4 {
		seed = appendRecord(seed, record{stream: Stdout, flags: uint8(i), time: int64(i), data: bytes.Repeat([]byte("d"), i*i*40)})
	}
	f.Add(seed, 2)
	f.Add(seed[:len(seed)-3], 1)
	f.Add(append(append([]byte{}, seed[:70]...), seed...), 9)
	f.Fuzz(func(t *testing.T, b []byte, tail int) {
		dir := t.TempDir()
		if err := os.WriteFile(segmentName(dir, 1), b, 0o600); err != nil {
			t.Fatal(err)
		}
		n := len(texts(t, open(t, dir, all)))
		o := all
		o.Tail = tail
		if got := len(texts(t, open(t, dir, o))); got > n {
			t.Errorf("tail %d gives %d of %d entries", tail, got, n)
		}
		// The next writer cuts off what is no record, and only that.
		w := newWriter(t, Config{Dir: dir})
		w.Write(Stdout, time.Now(), []byte("more\n"))
		got := texts(t, open(t, dir, all))
		if len(got) != n+1 || got[n] != "omore" {
			t.Errorf("%d entries before, %d after one more", n, len(got))
		}
	})
}

func BenchmarkWrite(b *testing.B) {
	for _, size := range []int{20, 1000, 100000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			w, err := NewWriter(Config{Dir: b.TempDir()})
			if err != nil {
				b.Fatal(err)
			}
			line := append(bytes.Repeat([]byte("x"), size-1), '\n')
			b.SetBytes(int64(size))
			for b.Loop() {
				w.Write(Stdout, time.Now(), line)
			}
		})
	}
}
