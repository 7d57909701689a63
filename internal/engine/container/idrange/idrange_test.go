package idrange

import (
	"strconv"
	"testing"

	"lade/internal/errdefs"
)

// TestRanges takes all there are: none is given twice, none overlaps another,
// and what is freed can be had again.
func TestRanges(t *testing.T) {
	r := New()
	seen := map[uint32]bool{}
	for i := range ranges {
		base, err := r.Allocate(strconv.Itoa(i))
		if err != nil {
			t.Fatal(err)
		}
		if seen[base] || base < firstIDs || base+Size > 0x70000000 || base%Size != 0 {
			t.Fatalf("range %d is at %#x", i, base)
		}
		seen[base] = true
	}
	if _, err := r.Allocate("one more"); !errdefs.Is(err, errdefs.Exhausted) {
		t.Fatalf("one more: %v", err)
	}
	r.Share(firstIDs)
	r.Free(firstIDs)
	if _, err := r.Allocate("still shared"); err == nil {
		t.Error("a shared range was given away")
	}
	r.Free(firstIDs)
	if base, err := r.Allocate("free"); err != nil || base != firstIDs {
		t.Errorf("%#x, %v", base, err)
	}
	r.Share(0) // no user namespace: nothing to count
	r.Free(0)
}
