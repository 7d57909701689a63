package event

import (
	"fmt"
	"strconv"
	"sync"

	"github.com/moby/moby/api/types/events"

	"lade/internal/metadata"
)

// outbox holds the events of one file of records until they are in the journal.
type outbox struct {
	db      *metadata.DB
	entries metadata.Collection[events.Message]

	mu   sync.Mutex
	last uint64   // the number that was given last; guarded by mu
	drop []uint64 // numbers that the next transaction can remove; guarded by mu
	kept []uint64 // numbers that are in the file, in order; guarded by mu
}

// posted is an event in an outbox. Its number is the outbox's own.
type posted struct {
	number  uint64
	message events.Message
}

func newOutbox(db *metadata.DB) *outbox {
	return &outbox{db: db, entries: metadata.Collection[events.Message]{Name: "events", Noun: "event"}}
}

// key keeps the order of numbers.
func key(n uint64) string { return fmt.Sprintf("%020d", n) }

// load takes over what an earlier engine left. All up to number at is in the
// journal.
func (o *outbox) load(at uint64) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last = at
	return o.db.View(func(tx *metadata.Tx) error {
		return o.entries.Each(tx, func(k string, _ events.Message) error {
			n, err := strconv.ParseUint(k, 10, 64)
			if err != nil {
				return err
			}
			o.last = max(o.last, n)
			o.kept = append(o.kept, n)
			return nil
		})
	})
}

// put adds an event in a transaction, and removes those that are in the journal.
func (o *outbox) put(tx *metadata.Tx, m events.Message) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, n := range o.drop {
		if err := o.entries.Delete(tx, key(n)); err != nil {
			return err
		}
	}
	o.drop = nil
	// A number whose transaction fails is not given again: another would have
	// to be told from it.
	o.last++
	o.kept = append(o.kept, o.last)
	return o.entries.Put(tx, key(o.last), m)
}

// after returns the events behind number at, in order.
func (o *outbox) after(at uint64) ([]posted, error) {
	o.mu.Lock()
	last := o.last
	o.mu.Unlock()
	if last <= at {
		return nil, nil
	}
	var out []posted
	err := o.db.View(func(tx *metadata.Tx) error {
		return o.entries.Each(tx, func(k string, m events.Message) error {
			n, err := strconv.ParseUint(k, 10, 64)
			if err == nil && n > at {
				out = append(out, posted{n, m})
			}
			return err
		})
	})
	return out, err
}

// told says that all up to number at is in the journal, and on disk.
func (o *outbox) told(at uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.kept) > 0 && o.kept[0] <= at {
		o.drop = append(o.drop, o.kept[0])
		o.kept = o.kept[1:]
	}
}
