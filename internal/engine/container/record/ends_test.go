package record

import (
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"lade/internal/metadata"
)

// TestEnds: how a --rm container ended outlives its record and the engine, but
// not for ever.
func TestEnds(t *testing.T) {
	open := func(name string, boot bool) *metadata.DB {
		db, err := metadata.Open(filepath.Join(t.TempDir(), name), metadata.Options{Boot: boot})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		return db
	}
	durable, boot := open("durable", false), open("boot", true)
	r := New(durable, boot, nobody{}, slog.Default())
	ended := State{Status: api.StateExited, ExitCode: 7, FinishedAt: time.Now()}
	for _, test := range []struct {
		def  Definition
		st   State
		want bool
	}{
		{Definition{ID: "ephemeral", Ephemeral: true}, ended, true},
		{Definition{ID: "durable"}, ended, false},
		{Definition{ID: "never-started", Ephemeral: true}, State{Status: api.StateCreated}, false},
	} {
		if err := r.PutDefinition(test.def); err != nil {
			t.Fatal(err)
		}
		if err := r.Remove(test.def, test.st); err != nil {
			t.Fatal(err)
		}
		if st, ok := r.Ended(test.def.ID); ok != test.want || ok && st.ExitCode != 7 {
			t.Errorf("%s: Ended = %+v, %t; want %t", test.def.ID, st, ok, test.want)
		}
	}
	next := New(durable, boot, nobody{}, slog.Default())
	if all, err := next.Load(); err != nil || len(all) != 0 {
		t.Fatalf("the next engine loads %v, %v; want nothing", all, err)
	}
	if st, ok := next.Ended("ephemeral"); !ok || st.ExitCode != 7 {
		t.Errorf("the next engine does not know the end: %+v, %t", st, ok)
	}
	if got := next.noteEnd("later", time.Now().Add(2*endKept)); len(got) != 1 || got[0] != "ephemeral" {
		t.Errorf("expired %q; want the first", got)
	}
}

// nobody hears of what happens.
type nobody struct{}

func (nobody) Put(*metadata.Tx, bool, events.Message) error { return nil }
func (nobody) Tell()                                        {}
func (nobody) Say(events.Message)                           {}
