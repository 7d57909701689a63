package imagestore

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/metadata"
)

// Lease keeps blobs and layers from being removed while they have no record
// yet. A lease is taken on a digest before looking whether it is on disk, so
// that what was found is still there when it is recorded.
type Lease struct {
	s    *Store
	held []digest.Digest // guarded by s.mu
}

// Lease returns a lease that holds nothing yet.
func (s *Store) Lease() *Lease { return &Lease{s: s} }

// Hold adds digests of blobs and layers to the lease. It waits for a removal
// of one of them that is under way; afterwards that one is gone.
func (l *Lease) Hold(digests ...digest.Digest) {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	l.s.await(digests)
	for _, d := range digests {
		l.s.leases[d]++
		l.held = append(l.held, d)
	}
}

// Release ends the lease. What it held and has no owner stays on disk for a
// retry, until the next Sweep; Discard removes it.
func (l *Lease) Release() {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	l.release()
}

func (l *Lease) release() []digest.Digest {
	held := l.held
	for _, d := range held {
		if l.s.leases[d]--; l.s.leases[d] == 0 {
			delete(l.s.leases, d)
		}
	}
	l.held = nil
	return held
}

// Discard ends the lease and removes what it held and nothing owns.
func (l *Lease) Discard() error {
	l.s.mu.Lock()
	held := l.release()
	l.s.mu.Unlock()
	_, err := l.s.collect(held, held)
	return err
}

// await waits until none of the digests is being removed. mu is held.
func (s *Store) await(digests []digest.Digest) {
	for slices.ContainsFunc(digests, func(d digest.Digest) bool { _, dying := s.dying[d]; return dying }) {
		s.died.Wait()
	}
}

// Pin keeps the layers of an image for a container, also when the image is
// removed. It is of class NotFound if they are no longer all there. Pinning
// again replaces the container's pin.
func (s *Store) Pin(container string, diffIDs []digest.Digest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.await(diffIDs)
	for _, d := range diffIDs {
		_, ok, err := s.layers.Size(d)
		if err == nil && !ok {
			err = errdefs.Hint(errdefs.New(errdefs.NotFound, "layer %s is not in the store", image.ShortID(d)), "pull the image again")
		}
		if err != nil {
			return fmt.Errorf("use image: %w", err)
		}
	}
	s.pins[container] = slices.Clone(diffIDs)
	return nil
}

// Unpin ends a container's pin, and removes layers that nothing owns any more.
func (s *Store) Unpin(container string) error {
	s.mu.Lock()
	layers := s.pins[container]
	delete(s.pins, container)
	if len(layers) > 0 {
		s.used[layers[len(layers)-1]] = s.now()
	}
	s.mu.Unlock()
	if len(layers) == 0 {
		return nil
	}
	_, err := s.collect(nil, layers)
	return err
}

type freed struct {
	blobs, layers         []digest.Digest
	blobBytes, layerBytes int64 // of a layer those of its tar
}

func (f freed) bytes() int64 { return f.blobBytes + f.layerBytes }

// collect removes those of the given blobs and layers that nothing owns. What
// is to go is marked under the lock, and removed without it: a big file takes
// its time, and nobody else should wait for it.
func (s *Store) collect(blobs, layers []digest.Digest) (freed, error) {
	f, err := s.mark(blobs, layers)
	if err != nil {
		return freed{}, fmt.Errorf("remove what nothing uses: %w", err)
	}
	if len(f.blobs)+len(f.layers) == 0 {
		return f, nil
	}
	var errs []error
	for _, d := range f.blobs {
		if info, ok, _ := s.content.Has(d); ok {
			f.blobBytes += info.Size
		}
		errs = append(errs, s.content.Delete(d))
	}
	for _, d := range f.layers {
		if n, ok, _ := s.layers.Size(d); ok {
			f.layerBytes += n
		}
		errs = append(errs, s.layers.Remove(d))
	}
	s.mu.Lock()
	for _, d := range slices.Concat(f.blobs, f.layers) {
		delete(s.dying, d)
	}
	s.died.Broadcast()
	s.mu.Unlock()
	s.due.Store(true)
	s.behind.Go(func() {
		if err := s.Reclaim(); err != nil {
			s.log.Error("give back the space of what was removed", "err", err)
		}
	})
	return f, errors.Join(errs...)
}

// Reclaim gives back the space of all that was removed. It need not be called:
// that happens in the background, but who says how much is free again waits.
func (s *Store) Reclaim() error {
	s.emptying.Lock()
	defer s.emptying.Unlock()
	if s.due.Swap(false) {
		defer s.emptied.Add(1)
	}
	return errors.Join(s.content.Empty(), s.layers.Empty())
}

// Reclaimed gives back the space of what was removed, and reports whether any
// was given back since Emptied returned since: then it is worth to try again
// what found the disk full.
func (s *Store) Reclaimed(since int64) (bool, error) {
	err := s.Reclaim()
	return s.emptied.Load() != since, err
}

// Emptied counts how often space was given back.
func (s *Store) Emptied() int64 { return s.emptied.Load() }

// Fits makes room for n bytes, or says that there is none: see Room.
func (s *Store) Fits(n int64) error { return s.room.Fits(n) }

// Close waits until the space of all that was removed is given back.
func (s *Store) Close() error {
	s.behind.Wait()
	return nil
}

// mark chooses what has no owner, and marks it as dying.
func (s *Store) mark(blobs, layers []digest.Digest) (freed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ownedBlobs, ownedLayers, err := s.owned()
	if err != nil {
		return freed{}, err
	}
	choose := func(from []digest.Digest, owned map[digest.Digest]bool) []digest.Digest {
		var chosen []digest.Digest
		for _, d := range from {
			_, dying := s.dying[d]
			if !owned[d] && s.leases[d] == 0 && !dying && !slices.Contains(chosen, d) {
				chosen = append(chosen, d)
			}
		}
		return chosen
	}
	f := freed{blobs: choose(blobs, ownedBlobs), layers: choose(layers, ownedLayers)}
	for _, d := range slices.Concat(f.blobs, f.layers) {
		s.dying[d] = struct{}{}
	}
	return f, nil
}

// owned returns all that records and pins own. mu is held.
func (s *Store) owned() (blobs, layers map[digest.Digest]bool, err error) {
	blobs, layers = map[digest.Digest]bool{}, map[digest.Digest]bool{}
	for _, pin := range s.pins {
		for _, d := range pin {
			layers[d] = true
		}
	}
	err = s.db.View(func(tx *metadata.Tx) error {
		err := s.manifests.Each(tx, func(_ string, m Manifest) error {
			for _, d := range blobsOf(m) {
				blobs[d] = true
			}
			for _, l := range m.Layers {
				layers[l.DiffID] = true
			}
			return nil
		})
		if err != nil {
			return err
		}
		return s.names.Each(tx, func(_ string, n name) error {
			blobs[n.Target] = true
			return nil
		})
	})
	return blobs, layers, err
}

// Swept says what Sweep removed.
type Swept struct {
	Blobs, Layers int
	Bytes         int64 // of blobs, layers' tars and unfinished downloads
}

// Sweep removes blobs and layers that nothing owns, and downloads that were
// left before the given time, and gives back all space. All containers must be
// pinned: at the engine's start it comes after they were taken over. Later it
// may run beside anything: what a pull works on is leased.
func (s *Store) Sweep(before time.Time) (Swept, error) {
	partial, err := s.content.Sweep(before, s.leased()...)
	if err != nil {
		return Swept{}, err
	}
	all, err := s.content.List()
	if err != nil {
		return Swept{}, err
	}
	var blobs []digest.Digest
	for _, b := range all {
		if b.Written.Before(before) {
			blobs = append(blobs, b.Digest)
		}
	}
	layers, err := s.layers.List()
	if err != nil {
		return Swept{}, err
	}
	f, err := s.collect(blobs, layers)
	return Swept{Blobs: len(f.blobs), Layers: len(f.layers), Bytes: f.bytes() + partial}, errors.Join(err, s.Reclaim())
}

// leased returns all that leases hold.
func (s *Store) leased() []digest.Digest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.leases))
}
