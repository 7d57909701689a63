// Package metadata keeps Lade's records: typed values by key, in one file,
// changed in transactions.
//
// A DB is a bbolt file. A Collection is one named set of records of one Go
// type, stored as JSON. Every change happens in an Update, which is applied
// whole or not at all, whenever the process dies.
//
// Two kinds of DB exist. A durable one is on disk when Update returns. One
// opened with Boot holds only what is true until the machine stops (which
// process runs what): it never waits for the disk, survives the death of any
// process, and is empty again after a reboot.
package metadata

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"lade/internal/errdefs"
)

// DB is one file of records. Its methods may be called concurrently. A second
// process that opens the same file waits for Options.Timeout, then gets an
// error of class Conflict.
type DB struct {
	b *bbolt.DB
}

// Options says how Open behaves.
type Options struct {
	// Boot marks a file that is worth nothing after a reboot: changes do not
	// wait for the disk, and Open discards a file of an earlier boot.
	Boot bool
	// BootID names the running boot; empty means the kernel's own
	// (/proc/sys/kernel/random/boot_id). Tests set it.
	BootID string
	// Timeout bounds the wait for another process's lock; 0 means one second.
	Timeout time.Duration
}

// Open opens the records at path, and makes the file where there is none.
func Open(path string, o Options) (*DB, error) {
	if o.Timeout == 0 {
		o.Timeout = time.Second
	}
	if o.Boot {
		if err := discardOldBoot(path, o.BootID); err != nil {
			return nil, fmt.Errorf("open records: %w", err)
		}
	}
	b, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: o.Timeout, NoSync: o.Boot, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, errdefs.Hint(errdefs.New(errdefs.Conflict, "open records %s: another process holds them", path), "stop the engine that uses this directory first")
	case err != nil:
		return nil, errdefs.With(errdefs.DataLoss, fmt.Errorf("open records %s: %w", path, err))
	}
	return &DB{b}, nil
}

// discardOldBoot removes the file at path unless the boot named beside it is
// the running one. The name is written before the file exists, so that a file
// is never taken for one of another boot than its own.
func discardOldBoot(path, id string) error {
	if id == "" {
		raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
		if err != nil {
			return err
		}
		id = strings.TrimSpace(string(raw))
	}
	mark := path + ".boot"
	if old, err := os.ReadFile(mark); err == nil && string(old) == id {
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(mark, []byte(id), 0o600)
}

// Close waits for running transactions and releases the file.
func (db *DB) Close() error { return db.b.Close() }

// Tx is a running transaction. It ends with the function it was given to.
type Tx struct {
	t *bbolt.Tx
}

// Update runs fn and applies what it changed if it returns nil. Only one
// Update runs at a time.
func (db *DB) Update(fn func(*Tx) error) error {
	return db.b.Update(func(t *bbolt.Tx) error { return fn(&Tx{t}) })
}

// View runs fn on the records as they are now; fn must not change them.
func (db *DB) View(fn func(*Tx) error) error {
	return db.b.View(func(t *bbolt.Tx) error { return fn(&Tx{t}) })
}

// Collection is the set of records of type T that is stored under Name.
type Collection[T any] struct {
	Name string // of the bucket
	Noun string // what a record is, in messages: "container"
}

// Get returns the record stored under key, or an error of class NotFound.
func (c Collection[T]) Get(tx *Tx, key string) (T, error) {
	var v T
	b := tx.t.Bucket([]byte(c.Name))
	if b == nil {
		return v, c.missing(key)
	}
	raw := b.Get([]byte(key))
	if raw == nil {
		return v, c.missing(key)
	}
	return v, c.decode(key, raw, &v)
}

// Put stores v under key, in place of what was there.
func (c Collection[T]) Put(tx *Tx, key string, v T) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("record %s %q: %w", c.Noun, key, err)
	}
	b, err := tx.t.CreateBucketIfNotExists([]byte(c.Name))
	if err == nil {
		err = b.Put([]byte(key), raw)
	}
	if err != nil {
		return fmt.Errorf("record %s %q: %w", c.Noun, key, err)
	}
	return nil
}

// Delete removes the record under key. One that is not there is no error.
func (c Collection[T]) Delete(tx *Tx, key string) error {
	b := tx.t.Bucket([]byte(c.Name))
	if b == nil {
		return nil
	}
	return b.Delete([]byte(key))
}

// Each calls fn for every record, in the order of keys, until fn returns an
// error, which Each returns. fn must not change the collection.
func (c Collection[T]) Each(tx *Tx, fn func(key string, v T) error) error {
	b := tx.t.Bucket([]byte(c.Name))
	if b == nil {
		return nil
	}
	return b.ForEach(func(k, raw []byte) error {
		var v T
		if err := c.decode(string(k), raw, &v); err != nil {
			return err
		}
		return fn(string(k), v)
	})
}

func (c Collection[T]) decode(key string, raw []byte, v *T) error {
	if err := json.Unmarshal(raw, v); err != nil {
		return errdefs.New(errdefs.DataLoss, "record of %s %q: %w", c.Noun, key, err)
	}
	return nil
}

func (c Collection[T]) missing(key string) error {
	return errdefs.New(errdefs.NotFound, "no such %s: %s", c.Noun, key)
}
