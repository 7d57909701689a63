package metadata

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"lade/internal/errdefs"
)

type fruit struct{ Colour string }

var fruits = Collection[fruit]{Name: "fruits", Noun: "fruit"}

func open(t *testing.T, path string, o Options) *DB {
	t.Helper()
	db, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func put(t *testing.T, db *DB) {
	t.Helper()
	if err := db.Update(func(tx *Tx) error { return fruits.Put(tx, "apple", fruit{"red"}) }); err != nil {
		t.Fatal(err)
	}
}

func get(db *DB) (f fruit, err error) {
	err = db.View(func(tx *Tx) error { f, err = fruits.Get(tx, "apple"); return err })
	return f, err
}

func TestCollection(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "db"), Options{})
	if _, err := get(db); !errdefs.Is(err, errdefs.NotFound) || err.Error() != "no such fruit: apple" {
		t.Errorf("empty collection: %v", err)
	}
	put(t, db)
	if f, err := get(db); err != nil || f.Colour != "red" {
		t.Errorf("got %v, %v", f, err)
	}
	boom := errors.New("boom")
	err := db.Update(func(tx *Tx) error {
		if err := fruits.Delete(tx, "apple"); err != nil {
			return err
		}
		return boom
	})
	if !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
	if _, err := get(db); err != nil {
		t.Errorf("a refused transaction changed something: %v", err)
	}
}

func TestSecondProcessIsTold(t *testing.T) {
	p := filepath.Join(t.TempDir(), "db")
	open(t, p, Options{})
	if _, err := Open(p, Options{Timeout: time.Millisecond}); !errdefs.Is(err, errdefs.Conflict) {
		t.Errorf("got %v, want a conflict", err)
	}
}

func TestBootRecordsEndWithTheBoot(t *testing.T) {
	p := filepath.Join(t.TempDir(), "db")
	for _, step := range []struct {
		boot string
		want bool // the record of the step before is there
	}{{"a", false}, {"a", true}, {"b", false}, {"b", true}} {
		db := open(t, p, Options{Boot: true, BootID: step.boot})
		if _, err := get(db); (err == nil) != step.want {
			t.Errorf("boot %s: %v, want record: %v", step.boot, err, step.want)
		}
		put(t, db)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// BenchmarkCommit is the cost that docs/adr/0006 speaks of.
func BenchmarkCommit(b *testing.B) {
	for _, kind := range []struct {
		name string
		o    Options
	}{{"durable", Options{}}, {"boot", Options{Boot: true}}} {
		b.Run(kind.name, func(b *testing.B) {
			db, err := Open(filepath.Join(b.TempDir(), "db"), kind.o)
			if err != nil {
				b.Fatal(err)
			}
			defer db.Close()
			for b.Loop() {
				if err := db.Update(func(tx *Tx) error { return fruits.Put(tx, "apple", fruit{"red"}) }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
