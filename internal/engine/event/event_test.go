package event

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/events"

	"lade/internal/errdefs"
	"lade/internal/journal"
	"lade/internal/metadata"
)

// machine is what survives an engine.
type machine struct {
	t             *testing.T
	dir, boot     string
	durable, recs *metadata.DB
	journal       *journal.Journal
	s             *Service
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{t: t, dir: t.TempDir(), boot: "boot-1"}
	m.start()
	t.Cleanup(m.stop)
	return m
}

func (m *machine) start() {
	m.t.Helper()
	must := func(err error) {
		if err != nil {
			m.t.Helper()
			m.t.Fatal(err)
		}
	}
	var err error
	m.durable, err = metadata.Open(filepath.Join(m.dir, "durable"), metadata.Options{})
	must(err)
	m.recs, err = metadata.Open(filepath.Join(m.dir, "boot"), metadata.Options{Boot: true, BootID: m.boot})
	must(err)
	m.journal, err = journal.Open(filepath.Join(m.dir, "events"), journal.Options{})
	must(err)
	m.s, err = New(Config{Journal: m.journal, Durable: m.durable, Boot: m.recs, BootID: m.boot, Log: slog.New(slog.NewTextHandler(m.t.Output(), nil))})
	must(err)
}

func (m *machine) stop() {
	_ = m.s.Close()
	_ = m.durable.Close()
	_ = m.recs.Close()
}

func message(id string) events.Message {
	return events.Message{Type: events.ContainerEventType, Action: events.ActionStart, Actor: events.Actor{ID: id}}
}

// put records an event in a transaction, which fails if it is to.
func (m *machine) put(durable bool, id string, fail error) {
	m.t.Helper()
	db := m.recs
	if durable {
		db = m.durable
	}
	err := db.Update(func(tx *metadata.Tx) error {
		return errors.Join(m.s.Put(tx, durable, message(id)), fail)
	})
	if !errors.Is(err, fail) {
		m.t.Fatal(err)
	}
}

// all returns the ids of all events, and checks their numbers.
func (m *machine) all() string {
	m.t.Helper()
	none := uint64(0)
	st, err := m.s.Stream(Options{After: &none, Until: time.Now()})
	if err != nil {
		m.t.Fatal(err)
	}
	defer st.Close()
	var out []string
	for {
		e, err := st.Next(m.t.Context(), func() error { return nil })
		if errors.Is(err, io.EOF) {
			return strings.Join(out, " ")
		}
		if err != nil {
			m.t.Fatal(err)
		}
		if out = append(out, e.Actor.ID); e.Number != uint64(len(out)) {
			m.t.Errorf("%s has number %d, want %d", e.Actor.ID, e.Number, len(out))
		}
	}
}

func (m *machine) check(want string) {
	m.t.Helper()
	if got := m.all(); got != want {
		m.t.Errorf("events %q, want %q", got, want)
	}
}

// TestKilledBetween: an engine that is killed between a transaction and the
// journal, or between the journal and the next transaction, neither loses an
// event nor doubles it; a transaction that failed has none.
func TestKilledBetween(t *testing.T) {
	m := newMachine(t)
	m.put(false, "a", nil)
	m.put(true, "b", nil)
	m.put(false, "never", errors.New("no room"))
	m.put(false, "c", nil)
	m.stop() // nobody called Tell
	m.start()
	m.check("a b c")
	m.put(false, "d", nil)
	m.s.Tell()
	m.stop() // told, and still in the outbox
	m.start()
	m.check("a b c d")
	m.s.Say(message("e"))
	m.put(true, "f", nil)
	m.stop()
	m.start()
	m.check("a b c d e f")
	m.put(false, "g", nil)
	m.stop()
	m.boot = "boot-2" // what only the last boot knew is gone with it
	m.start()
	m.put(false, "h", nil)
	m.put(true, "i", nil)
	m.s.Tell()
	m.check("a b c d e f h i")
}

// TestOutboxIsEmptied: what is in the journal leaves the records.
func TestOutboxIsEmptied(t *testing.T) {
	m := newMachine(t)
	for i := range 100 {
		m.put(i%2 == 0, fmt.Sprint(i), nil)
		m.s.Tell()
		m.all() // has it written to the disk
	}
	// The syncer takes note of that a little later.
	for deadline := time.Now().Add(10 * time.Second); ; {
		m.put(true, "more", nil)
		m.put(false, "more", nil)
		m.s.Tell()
		m.all()
		n := 0
		for _, o := range m.s.outs {
			err := o.db.View(func(tx *metadata.Tx) error {
				return o.entries.Each(tx, func(string, events.Message) error { n++; return nil })
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if n < 20 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d events stay in the outboxes", n)
		}
	}
}

// TestListeners: many who listen while many speak all hear everything, in one
// order.
func TestListeners(t *testing.T) {
	m := newMachine(t)
	const speakers, each = 8, 50
	var heard sync.WaitGroup
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	lists := make([]string, 4)
	for i := range lists {
		st, err := m.s.Stream(Options{})
		if err != nil {
			t.Fatal(err)
		}
		heard.Go(func() {
			defer st.Close()
			for range speakers * each {
				e, err := st.Next(ctx, func() error { return nil })
				if err != nil {
					t.Error(err)
					return
				}
				lists[i] += fmt.Sprintf("%d=%s ", e.Number, e.Actor.ID)
			}
		})
	}
	var said sync.WaitGroup
	for i := range speakers {
		said.Go(func() {
			for range each {
				if i%2 == 0 {
					m.s.Say(message(fmt.Sprint(i)))
					continue
				}
				m.put(i%4 == 1, fmt.Sprint(i), nil)
				m.s.Tell()
			}
		})
	}
	said.Wait()
	heard.Wait()
	for _, l := range lists[1:] {
		if l != lists[0] {
			t.Error("listeners heard different things")
		}
	}
	if n := len(strings.Fields(m.all())); n != speakers*each {
		t.Errorf("%d events, want %d", n, speakers*each)
	}
}

// TestLeave: who listens to nothing leaves when its client does, when its time
// is over, and when the engine ends.
func TestLeave(t *testing.T) {
	m := newMachine(t)
	none := func() error { return nil }
	st, err := m.s.Stream(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := st.Next(ctx, func() error { cancel(); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("the client left: %v", err)
	}
	timed, err := m.s.Stream(Options{Until: time.Now().Add(20 * time.Millisecond)})
	if err != nil {
		t.Fatal(err)
	}
	defer timed.Close()
	m.s.Say(message("a"))
	if e, err := timed.Next(t.Context(), none); err != nil || e.Actor.ID != "a" {
		t.Errorf("%v, %v", e, err)
	}
	if _, err := timed.Next(t.Context(), none); !errors.Is(err, io.EOF) {
		t.Errorf("the time is over: %v", err)
	}
	if e, err := st.Next(t.Context(), none); err != nil || e.Number != 1 {
		t.Errorf("%v, %v", e, err)
	}
	ended := make(chan error)
	go func() {
		_, err := st.Next(t.Context(), none)
		ended <- err
	}()
	m.stop()
	if err := <-ended; !errors.Is(err, io.EOF) {
		t.Errorf("the engine ends: %v", err)
	}
	m.start()
}

func TestFilter(t *testing.T) {
	m := events.Message{
		Type: events.ContainerEventType, Action: "exec_create: ls -l", Scope: "local",
		Actor: events.Actor{ID: "abcdef", Attributes: map[string]string{"name": "web", "image": "reg:5000/app:1", "tier": "front"}},
	}
	img := events.Message{Type: events.ImageEventType, Action: events.ActionTag, Scope: "local", Actor: events.Actor{ID: "sha256:1", Attributes: map[string]string{"name": "app:1"}}}
	for _, tt := range []struct {
		filters    map[string][]string
		yes, image bool
	}{
		{nil, true, true},
		{map[string][]string{"type": {"container"}}, true, false},
		{map[string][]string{"type": {"network", "container"}}, true, false},
		{map[string][]string{"event": {"exec_create"}}, true, false},
		{map[string][]string{"event": {"exec_create: ls -l"}}, true, false},
		{map[string][]string{"event": {"exec"}}, false, false},
		{map[string][]string{"container": {"abc"}}, true, false},
		{map[string][]string{"container": {"web"}}, true, false},
		{map[string][]string{"container": {"db"}}, false, false},
		{map[string][]string{"network": {"abc"}}, false, false},
		{map[string][]string{"image": {"reg:5000/app"}}, true, false},
		{map[string][]string{"image": {"reg:5000/app:1"}}, true, false},
		{map[string][]string{"image": {"app"}}, false, true},
		{map[string][]string{"label": {"tier"}}, true, false},
		{map[string][]string{"label": {"tier=front", "name"}}, true, false},
		{map[string][]string{"label": {"tier=back"}}, false, false},
		{map[string][]string{"scope": {"swarm"}}, false, false},
	} {
		f, err := parseFilter(tt.filters)
		if err != nil {
			t.Fatal(err)
		}
		if f.match(m) != tt.yes || f.match(img) != tt.image {
			t.Errorf("%v: %t %t, want %t %t", tt.filters, f.match(m), f.match(img), tt.yes, tt.image)
		}
	}
	if _, err := parseFilter(map[string][]string{"shape": {"round"}}); !errdefs.Is(err, errdefs.Invalid) {
		t.Errorf("an unknown filter: %v", err)
	}
}
