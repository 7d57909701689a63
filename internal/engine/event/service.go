package event

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/moby/moby/api/types/events"

	"lade/internal/journal"
	"lade/internal/metadata"
)

// syncDelay is how long an event may be in memory only where nobody listens.
const syncDelay = 500 * time.Millisecond

// Config is what a Service is made of.
type Config struct {
	Journal *journal.Journal
	Durable *metadata.DB
	Boot    *metadata.DB
	BootID  string // of the running boot
	Log     *slog.Logger
}

// Service keeps events. Its methods may be called concurrently.
type Service struct {
	cfg     Config
	log     *slog.Logger
	outs    [2]*outbox // of the durable records, of the boot's
	quit    chan struct{}
	syncing sync.WaitGroup
	wake    chan struct{} // has room for one; the syncer is to look

	drain sync.Mutex // held while events go from the outboxes to the journal
	mark  mark       // how far that got; guarded by drain

	mu        sync.Mutex
	listeners int           // guarded by mu
	shown     chan struct{} // closed when there is more to see; guarded by mu
}

// mark says which events of each outbox are in the journal.
type mark struct {
	Durable uint64 `json:"durable,omitempty"`
	Boot    uint64 `json:"boot,omitempty"`
	BootID  string `json:"bootID,omitempty"` // the boot that Boot counts in
}

// entry is a record of the journal.
type entry struct {
	mark
	Message events.Message `json:"event"`
}

// New makes the service and takes over what the engine before it has left in
// the outboxes.
func New(cfg Config) (*Service, error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	s := &Service{cfg: cfg, log: cfg.Log, quit: make(chan struct{}), wake: make(chan struct{}, 1), shown: make(chan struct{})}
	if raw := cfg.Journal.Last(); raw != nil {
		var last entry
		if err := json.Unmarshal(raw, &last); err != nil {
			return nil, fmt.Errorf("read the last event: %w", err)
		}
		s.mark = last.mark
	}
	if s.mark.BootID != cfg.BootID {
		s.mark.Boot, s.mark.BootID = 0, cfg.BootID
	}
	s.outs = [2]*outbox{newOutbox(cfg.Durable), newOutbox(cfg.Boot)}
	for i, at := range []uint64{s.mark.Durable, s.mark.Boot} {
		if err := s.outs[i].load(at); err != nil {
			return nil, fmt.Errorf("read events that were not told: %w", err)
		}
	}
	if err := s.tell(nil); err != nil {
		return nil, err
	}
	s.syncing.Go(s.sync)
	return s, nil
}

// Close tells what is left. Who listens comes to an end.
func (s *Service) Close() error {
	close(s.quit)
	s.syncing.Wait()
	return s.cfg.Journal.Close()
}

// Put adds an event to a transaction of the durable records or of the boot's.
// When that has succeeded, Tell is to be called.
func (s *Service) Put(tx *metadata.Tx, durable bool, m events.Message) error {
	complete(&m)
	out := s.outs[1]
	if durable {
		out = s.outs[0]
	}
	return out.put(tx, m)
}

// Tell passes on what was put into transactions that have succeeded.
func (s *Service) Tell() {
	if err := s.tell(nil); err != nil {
		s.log.Error("tell of events", "err", err) // they stay in the outbox, and go with the next
	}
}

// Say passes on an event that comes with no change of a record.
func (s *Service) Say(m events.Message) {
	complete(&m)
	if err := s.tell(&m); err != nil {
		s.log.Error("tell of an event", "type", m.Type, "action", m.Action, "err", err)
	}
}

func complete(m *events.Message) {
	if m.TimeNano == 0 {
		m.TimeNano = time.Now().UnixNano()
	}
	m.Time = m.TimeNano / int64(time.Second)
	if m.Scope == "" {
		m.Scope = "local"
	}
	if m.Actor.Attributes == nil {
		m.Actor.Attributes = map[string]string{}
	}
}

// tell writes what is in the outboxes to the journal, and then said, if there
// is such an event.
func (s *Service) tell(said *events.Message) error {
	s.drain.Lock()
	defer s.drain.Unlock()
	at := s.mark
	durable, err := s.outs[0].after(at.Durable)
	if err != nil {
		return err
	}
	boot, err := s.outs[1].after(at.Boot)
	if err != nil {
		return err
	}
	var data [][]byte
	add := func(m events.Message) error {
		raw, err := json.Marshal(entry{at, m})
		data = append(data, raw)
		return err
	}
	for len(durable)+len(boot) > 0 {
		var next posted
		if len(boot) == 0 || len(durable) > 0 && durable[0].message.TimeNano <= boot[0].message.TimeNano {
			next, durable = durable[0], durable[1:]
			at.Durable = next.number
		} else {
			next, boot = boot[0], boot[1:]
			at.Boot = next.number
		}
		err = errors.Join(err, add(next.message))
	}
	if said != nil {
		err = errors.Join(err, add(*said))
	}
	if err != nil || len(data) == 0 {
		return err
	}
	if _, err := s.cfg.Journal.Append(data...); err != nil {
		return err
	}
	s.mark = at
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return nil
}

// sync waits for the disk and shows events to who listens.
func (s *Service) sync() {
	for {
		select {
		case <-s.wake:
		case <-s.quit:
			return
		}
		if more := s.more(); !s.heard() {
			select {
			case <-time.After(syncDelay):
			case <-more: // somebody begins to listen
			case <-s.quit:
				return
			}
		}
		s.drain.Lock()
		at := s.mark
		s.drain.Unlock()
		if err := s.cfg.Journal.Sync(); err != nil {
			s.log.Error("write events to the disk", "err", err)
			continue
		}
		// What is safe in the journal may leave the outbox.
		s.outs[0].told(at.Durable)
		s.outs[1].told(at.Boot)
		s.mu.Lock()
		close(s.shown)
		s.shown = make(chan struct{})
		s.mu.Unlock()
	}
}

func (s *Service) heard() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.listeners > 0
}

// more returns a channel that is closed when there may be more to see, and when
// somebody begins to listen.
func (s *Service) more() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shown
}

// listen counts who listens. leave is to be called once.
func (s *Service) listen() (leave func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners++
	close(s.shown) // the syncer is not to wait any longer
	s.shown = make(chan struct{})
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.listeners--
	}
}

// await waits until there may be more to see.
func (s *Service) await(ctx context.Context, more <-chan struct{}, over <-chan time.Time) error {
	select {
	case <-more:
		return nil
	case <-over:
		return errOver
	case <-s.quit:
		return errOver
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

var errOver = errors.New("no more events are wanted")
