package record

import (
	"time"

	"lade/internal/metadata"
)

// endKept is how long the end of a container that removed itself is known. Who
// waits for it may have lost the engine that would have told, and asks the next
// one at once.
const endKept = 2 * time.Minute

// end is one such container.
type end struct {
	id    string
	since time.Time
}

// noteEnd adds a container to those whose end is kept, and returns those that
// were kept for long enough.
func (r *Store) noteEnd(id string, now time.Time) (expired []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.ended) > 0 && now.Sub(r.ended[0].since) > endKept {
		expired = append(expired, r.ended[0].id)
		r.ended = r.ended[1:]
	}
	r.ended = append(r.ended, end{id, now})
	return expired
}

// putEnd records how a container ended, in the transaction that forgets it.
func (r *Store) putEnd(tx *metadata.Tx, id string, st State, expired []string) error {
	for _, old := range expired {
		if err := r.ends.Delete(tx, old); err != nil {
			return err
		}
	}
	return r.ends.Put(tx, id, st)
}

// loadEnds takes over what the last engine kept, for as long again: its clients
// have only now somebody to ask.
func (r *Store) loadEnds() error {
	return r.boot.View(func(tx *metadata.Tx) error {
		return r.ends.Each(tx, func(id string, _ State) error {
			r.noteEnd(id, time.Now())
			return nil
		})
	})
}

// Ended returns how a container ended that was ephemeral and is no more, if
// that was a short time ago.
func (r *Store) Ended(id string) (State, bool) {
	var st State
	err := r.boot.View(func(tx *metadata.Tx) error {
		var err error
		st, err = r.ends.Get(tx, id)
		return err
	})
	return st, err == nil
}
