package event

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/moby/moby/api/types/events"

	"lade/internal/errdefs"
	"lade/internal/journal"
)

// Options says which events are wanted. Without Since and After only those that
// come are; without Until there is no end.
type Options struct {
	Since, Until time.Time
	// After is the number of the last event that is known. It goes before Since;
	// where events behind it are no longer kept, that is an error.
	After *uint64
	// Filters are Docker's, by key.
	Filters map[string][]string
}

// Event is one event and its number.
type Event struct {
	events.Message
	Number uint64
}

// Stream is a walk through events. It is for one goroutine.
type Stream struct {
	s      *Service
	o      Options
	filter filter
	r      *journal.Reader
	over   *time.Timer // nil if there is no end
	leave  func()
	end    uint64 // nothing behind it is wanted; 0: no bound
	next   uint64 // number of the event that comes next; 0: the first that is kept
}

// Position is where the stream stands: the number of the event that it returns next,
// at least, or 0 for the first that is kept.
func (st *Stream) Position() uint64 { return st.next }

// Stream opens a walk through events. The caller closes it. No event that comes
// after Stream has returned is missed.
func (s *Service) Stream(o Options) (*Stream, error) {
	f, err := parseFilter(o.Filters)
	if err != nil {
		return nil, err
	}
	st := &Stream{s: s, o: o, filter: f}
	from := s.cfg.Journal.Next()
	switch {
	case o.After != nil:
		if *o.After >= from {
			return nil, errdefs.Hint(errdefs.New(errdefs.Invalid, "there is no event with number %d: the last one has %d", *o.After, from-1), "give the number of an event that you have seen")
		}
		from = *o.After + 1
	case !o.Since.IsZero():
		from = 0
	}
	if !o.Until.IsZero() {
		left := time.Until(o.Until)
		if left <= 0 {
			st.end = s.cfg.Journal.Next()
		}
		st.over = time.NewTimer(max(left, 0))
	}
	st.r, st.next = s.cfg.Journal.Read(from), from
	st.leave = s.listen()
	if err := s.cfg.Journal.Sync(); err != nil {
		return nil, errors.Join(err, st.Close())
	}
	return st, nil
}

// Close releases the stream.
func (st *Stream) Close() error {
	if st.over != nil {
		st.over.Stop()
	}
	st.leave()
	return st.r.Close()
}

// Next returns the next event; io.EOF after the last one that is wanted. Before
// it waits for one, it calls idle.
func (st *Stream) Next(ctx context.Context, idle func() error) (Event, error) {
	for {
		more := st.s.more()
		e, err := st.read()
		switch {
		case err == nil:
			if st.wanted(e) {
				return e, nil
			}
			continue
		case !errors.Is(err, io.EOF):
			return Event{}, err
		}
		if st.end != 0 {
			return Event{}, io.EOF
		}
		if err := idle(); err != nil {
			return Event{}, err
		}
		var over <-chan time.Time
		if st.over != nil {
			over = st.over.C
		}
		err = st.s.await(ctx, more, over)
		if errors.Is(err, errOver) {
			// What happened until now is still to be shown.
			if err := st.s.cfg.Journal.Sync(); err != nil {
				return Event{}, err
			}
			st.end = st.s.cfg.Journal.Synced()
			continue
		}
		if err != nil {
			return Event{}, err
		}
	}
}

// read returns the next event that is kept.
func (st *Stream) read() (Event, error) {
	for {
		n, raw, err := st.r.Next()
		if errors.Is(err, journal.ErrGone) {
			if st.o.After != nil {
				return Event{}, errdefs.With(errdefs.DataLoss, fmt.Errorf("events are no longer kept, or damaged: %w", err))
			}
			st.s.log.Warn("read events", "err", err)
			continue
		}
		if err != nil {
			return Event{}, err
		}
		if st.end != 0 && n >= st.end {
			return Event{}, io.EOF
		}
		st.next = n + 1
		var e entry
		if err := json.Unmarshal(raw, &e); err != nil {
			return Event{}, errdefs.New(errdefs.DataLoss, "event %d: %w", n, err)
		}
		return Event{e.Message, n}, nil
	}
}

func (st *Stream) wanted(e Event) bool {
	switch {
	case st.o.After == nil && !st.o.Since.IsZero() && e.TimeNano < st.o.Since.UnixNano(),
		!st.o.Until.IsZero() && e.TimeNano > st.o.Until.UnixNano():
		return false
	}
	return st.filter.match(e.Message)
}
