package layer

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lade/internal/errdefs"
)

// FuzzWriteEROFS gives any bytes as a tar: they make an image that keeps its
// promises and that a second look finds the same, or a clear error.
func FuzzWriteEROFS(f *testing.F) {
	for _, h := range corpus() {
		if len(h.tar) < 64<<10 {
			f.Add(h.tar)
		}
	}
	l := Limits{Bytes: 16 << 20, Entries: 2000, Text: 1 << 20, Depth: 200}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 1<<20 {
			return
		}
		text = withChecksums(text)
		list, err := writeImage(t, text, l)
		if err != nil {
			if c := errdefs.ClassOf(err); c != errdefs.Invalid && c != errdefs.Exhausted {
				t.Errorf("class %v: %v", c, err)
			}
			return
		}
		again, err := writeImage(t, text, l)
		if err != nil || !cmp.Equal(list, again) {
			t.Errorf("not the same again: %v\n%s", err, cmp.Diff(list, again))
		}
	})
}

// withChecksums makes headers valid that a mutation has broken, so that it gets
// past the first check.
func withChecksums(text string) string {
	b := []byte(text)
	for at := 0; at+512 <= len(b); at += 512 {
		h := b[at : at+512]
		if string(h[257:262]) != "ustar" {
			continue
		}
		copy(h[148:156], "        ")
		sum := 0
		for _, c := range h {
			sum += int(c)
		}
		copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	}
	return string(b)
}

// FuzzOpenImage gives any bytes as an image, as a damaged disk may: there is no
// panic, and no endless work.
func FuzzOpenImage(f *testing.F) {
	for _, h := range corpus() {
		m := &memory{}
		if _, err := WriteEROFS(f.Context(), m, strings.NewReader(h.tar), Options{}); err == nil && len(m.b) < 16<<10 {
			f.Add(m.b)
		}
	}
	f.Fuzz(func(_ *testing.T, b []byte) {
		if len(b) > 64<<10 {
			return
		}
		m := &memory{b}
		v, err := OpenImage(m)
		if err != nil {
			return
		}
		left := 10000
		var walk func(e Entry, depth int)
		walk = func(e Entry, depth int) {
			if left--; left < 0 || depth > 20 {
				return
			}
			list, err := names(v, e)
			if err != nil {
				return
			}
			for _, n := range list {
				if c, ok, err := v.Child(e, n); ok && err == nil && c.IsDir() {
					walk(c, depth+1)
				}
			}
		}
		if root, err := v.Root(); err == nil {
			walk(root, 0)
		}
		if p, err := v.Pending(); err == nil {
			_ = readPending(p, func(pendingRecord) error { return nil })
		}
	})
}
