package imagestore

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/ledger"
)

// Room bounds what blobs and layers take on disk together, and makes room by
// removing images. Whoever writes a byte of them takes it here first.
//
// An image may go for another if it could be had again and nobody uses it: a
// registry has it under one of its names, and no container was made from it.
// Names do not protect it: they say what it is called, not that it is needed,
// and with names alone nothing would ever go. What was loaded, imported or
// committed is nowhere else and stays. The image that was used longest ago goes
// first; a use is a pull, a name given, and (as long as the engine runs) the
// removal of a container.
//
// Before anything is removed, all that could go is added up: what does not fit
// after all is refused while everything is still there. So only who can say how
// much it needs makes room, by Fits: a pull, for its blobs at the beginning, and
// for a layer that does not fit once its unpacked size is known. Take removes
// nothing: what else writes has the room that there is.
type Room struct {
	Max int64 // bytes of allocated blocks; 0: no bound
	// Measure returns what blobs and layers take now, with one line for each.
	Measure func() ([]ledger.Report, error)

	mu    sync.Mutex
	taken int64 // bytes in use, as far as known: never less than in truth; guarded by mu
	known bool  // whether taken was ever measured; guarded by mu
	store *Store
}

// slack is for what was taken and is not on disk yet when that is measured.
func (r *Room) slack() int64 { return min(4<<20, r.Max/32) }

// ErrNoRoom is what Take returns when there is no room as things are.
var ErrNoRoom = errdefs.Hint(errdefs.New(errdefs.Exhausted, "the image store has reached its bound"),
	"remove images that nothing needs, for example with lade image prune -a, or raise --max-disk")

// Take takes n bytes about to be written, or returns ErrNoRoom.
func (r *Room) Take(n int64) error {
	if r == nil || r.Max == 0 {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known && r.taken+n <= r.Max {
		r.taken += n
		return nil
	}
	if _, err := r.measure(); err != nil {
		return err
	}
	if r.taken+n > r.Max {
		return ErrNoRoom
	}
	r.taken += n
	return nil
}

// Fits makes room for n bytes that are about to be taken, or says now that there
// will be none.
func (r *Room) Fits(n int64) error {
	if r == nil || r.Max == 0 {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.make(n)
}

// make measures what is there, and removes images until n more bytes fit. mu is
// held.
func (r *Room) make(n int64) error {
	reports, err := r.measure()
	if err != nil || r.taken+n <= r.Max {
		return err
	}
	list, sizes, err := r.candidates(reports)
	if err != nil {
		return err
	}
	if free := sizes.of(list); r.taken+n-free > r.Max {
		return errdefs.Hint(
			errdefs.New(errdefs.Exhausted, "%d bytes more do not fit: the image store may take %d, has %d, and could give back %d", n, r.Max, r.taken, free),
			"remove images or containers that nothing needs, or raise --max-disk")
	}
	for _, e := range list {
		if r.taken+n <= r.Max {
			return nil
		}
		if _, err := r.store.Delete(e.ID, DeleteOptions{Named: true}); err != nil && !errdefs.Is(err, errdefs.NotFound) {
			return fmt.Errorf("make room: %w", err)
		}
		r.store.log.Info("removed an image to make room", "image", image.ShortID(e.ID), "max", r.Max)
		if err := r.store.Reclaim(); err != nil {
			return fmt.Errorf("make room: %w", err)
		}
		if _, err := r.measure(); err != nil {
			return err
		}
	}
	if r.taken+n > r.Max {
		return errdefs.New(errdefs.Exhausted, "%d bytes more do not fit: the image store may take %d", n, r.Max)
	}
	return nil
}

func (r *Room) measure() ([]ledger.Report, error) {
	// What was removed and is not given back yet counts, so it goes first.
	if err := r.store.Reclaim(); err != nil {
		return nil, fmt.Errorf("measure the image store: %w", err)
	}
	reports, err := r.Measure()
	if err != nil {
		return nil, fmt.Errorf("measure the image store: %w", err)
	}
	r.taken, r.known = r.slack(), true
	for _, one := range reports {
		r.taken += one.Bytes
	}
	return reports, nil
}

// sizes is what blobs and layers take, without those that stay for another
// reason.
type sizes struct {
	blobs, layers map[digest.Digest]int64
}

// of returns what goes with images: what they share goes once.
func (s sizes) of(list []Entry) int64 {
	var sum int64
	seen := map[string]bool{}
	count := func(kind string, d digest.Digest, m map[digest.Digest]int64) {
		if k := kind + string(d); !seen[k] {
			seen[k] = true
			sum += m[d]
		}
	}
	for _, e := range list {
		blobs, layers := e.Holdings()
		for _, d := range blobs {
			count("blob ", d, s.blobs)
		}
		for _, d := range layers {
			count("layer ", d, s.layers)
		}
	}
	return sum
}

// candidates returns the images that may go, the one to go first before the
// others, and what they would free.
func (r *Room) candidates(reports []ledger.Report) ([]Entry, sizes, error) {
	s := sizes{map[digest.Digest]int64{}, map[digest.Digest]int64{}}
	for _, one := range reports {
		for _, l := range one.Lines {
			switch l.Kind { //nolint:exhaustive // images have no others
			case ledger.Blob:
				s.blobs[digest.Digest(l.ID)] += l.Bytes
			case ledger.Layer, ledger.Supplement:
				s.layers[digest.Digest(l.ID)] += l.Bytes
			}
		}
	}
	all, err := r.store.List()
	if err != nil {
		return nil, s, err
	}
	r.store.mu.Lock()
	defer r.store.mu.Unlock()
	var list []Entry
	for _, e := range all {
		if e.refetchable() && !r.store.pinned(e) {
			list = append(list, e)
			continue
		}
		s.keep(e.Holdings())
	}
	for d := range r.store.leases {
		s.keep([]digest.Digest{d}, []digest.Digest{d})
	}
	for _, pin := range r.store.pins {
		s.keep(nil, pin)
	}
	slices.SortFunc(list, func(a, b Entry) int {
		return cmp.Or(r.store.lastUse(a).Compare(r.store.lastUse(b)), cmp.Compare(a.ID, b.ID))
	})
	return list, s, nil
}

// pinned reports whether a container was made from an image. mu is held.
func (s *Store) pinned(e Entry) bool {
	layers := layersOf(e.Record)
	for _, pin := range s.pins {
		if slices.Equal(pin, layers) {
			return true
		}
	}
	return false
}

// lastUse returns when an image was last pulled, named, or left by a container.
// mu is held.
func (s *Store) lastUse(e Entry) time.Time {
	last := e.Tagged
	if e.Record.Added.After(last) {
		last = e.Record.Added
	}
	if layers := layersOf(e.Record); len(layers) > 0 {
		if at := s.used[layers[len(layers)-1]]; at.After(last) {
			last = at
		}
	}
	return last
}

// keep takes out what something else needs.
func (s sizes) keep(blobs, layers []digest.Digest) {
	for _, d := range blobs {
		delete(s.blobs, d)
	}
	for _, d := range layers {
		delete(s.layers, d)
	}
}

// refetchable reports whether a registry is known to have the image.
func (e Entry) refetchable() bool {
	return slices.ContainsFunc(e.Refs, func(r Ref) bool { return r.Remote })
}
