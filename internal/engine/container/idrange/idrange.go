// Package idrange hands out the host ids of containers' user namespaces.
//
// Every container has a user namespace of its own by default, with host ids
// that no other container has: breaking out of one leaves a process that owns
// nothing, here or in another container.
//
// The ids come from 0x30000000 to 0x6fffffff, in ranges of 65536. Below are the
// subordinate ids that useradd hands out (to 600,100,000), above are ids that
// the kernel or its callers take for negative ones. 16,384 containers fit.
package idrange

import (
	"hash/fnv"
	"sync"

	"lade/internal/errdefs"
)

// Size is how many ids a range has.
const Size = 1 << 16

const (
	firstIDs = 0x30000000
	ranges   = (0x70000000 - firstIDs) / Size
)

// Ranges hands out ranges of host ids. What is taken is rebuilt from the
// containers' definitions at each start, so nothing of its own is stored.
type Ranges struct {
	mu    sync.Mutex
	taken map[uint32]int // base -> how many containers have it; guarded by mu
}

// New returns a set of ranges, none of them taken.
func New() *Ranges {
	return &Ranges{taken: map[uint32]int{}}
}

// Allocate returns the base of a free range. It begins to look where the id
// says, not at the lowest: a range is reused late, and two engines on one
// machine seldom choose the same.
func (r *Ranges) Allocate(id string) (uint32, error) {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	start := h.Sum32() % ranges
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range uint32(ranges) {
		base := firstIDs + (start+i)%ranges*Size
		if r.taken[base] == 0 {
			r.taken[base] = 1
			return base, nil
		}
	}
	return 0, errdefs.Hint(errdefs.New(errdefs.Exhausted, "all %d ranges of user ids are in use", ranges), "remove containers, or use --userns=host")
}

// Share counts a further container in a range.
func (r *Ranges) Share(base uint32) {
	if base == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.taken[base]++
}

// Free counts one out.
func (r *Ranges) Free(base uint32) {
	if base == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.taken[base]--; r.taken[base] <= 0 {
		delete(r.taken, base)
	}
}
