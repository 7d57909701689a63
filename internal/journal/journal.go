package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"lade/internal/atomicfile"
	"lade/internal/errdefs"
)

// Options bounds a journal. Zero values are replaced by defaults.
type Options struct {
	SegmentBytes int64 // a segment that has as many is not added to; 1 MiB
	Segments     int   // so many are kept; 16
}

func (o *Options) complete() {
	if o.SegmentBytes == 0 {
		o.SegmentBytes = 1 << 20
	}
	if o.Segments == 0 {
		o.Segments = 16
	}
}

// Journal is an open journal. Its methods may be called concurrently.
type Journal struct {
	dir string
	o   Options

	// syncing is held by the one who waits for the disk. It is taken before mu.
	syncing sync.Mutex

	mu     sync.Mutex
	f      *os.File // the last segment; guarded by mu
	size   int64    // of its whole records; guarded by mu
	next   uint64   // number of the next record; guarded by mu
	synced uint64   // all before it are on disk; guarded by mu
	last   []byte   // data of the last record, nil if there is none; guarded by mu
	broken bool     // f holds a part of a record behind size; guarded by mu
}

const suffix = ".journal"

func (j *Journal) path(first uint64) string {
	return filepath.Join(j.dir, fmt.Sprintf("%020d"+suffix, first))
}

// Open opens the journal in dir, and makes it where there is none.
func Open(dir string, o Options) (*Journal, error) {
	o.complete()
	j := &Journal{dir: dir, o: o, next: 1}
	if err := j.open(); err != nil {
		return nil, fmt.Errorf("open journal %s: %w", dir, err)
	}
	return j, nil
}

func (j *Journal) open() error {
	if err := os.MkdirAll(j.dir, 0o700); err != nil {
		return err
	}
	firsts, err := segments(j.dir)
	if err != nil {
		return err
	}
	for i, first := range slices.Backward(firsts) {
		// The last segment has no record yet if its writer died before it wrote
		// one: the last record is then in the one before it.
		raw, err := os.ReadFile(j.path(first))
		if err != nil {
			return err
		}
		next, end, damaged := scan(raw, first, func(r record) { j.last = r.data })
		if i == len(firsts)-1 {
			if j.next = next; damaged {
				break // it stays as it is; the next record begins another segment
			}
			if err := j.takeOver(first, int64(end), int64(len(raw))); err != nil {
				return err
			}
		}
		if j.last != nil {
			break
		}
	}
	j.synced = 1
	return j.Sync()
}

// takeOver goes on with a segment, whose records end at end.
func (j *Journal) takeOver(first uint64, end, size int64) error {
	f, err := os.OpenFile(j.path(first), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if end < size {
		if err := f.Truncate(end); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	j.f, j.size = f, end
	return nil
}

// segments returns the numbers that name the segments in dir, in order.
func segments(dir string) ([]uint64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []uint64
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), suffix)
		if !ok {
			continue
		}
		if n, err := strconv.ParseUint(name, 10, 64); err == nil && n > 0 {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out, nil
}

// Append adds records and returns the number of the first. They survive the
// death of any process; Sync makes them survive a power cut. Where Append
// returns an error, none was added.
func (j *Journal) Append(data ...[]byte) (first uint64, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	var b []byte
	for i, d := range data {
		if len(d) > maxData {
			return 0, errdefs.New(errdefs.Invalid, "a record of %d bytes is larger than %d", len(d), maxData)
		}
		b = appendRecord(b, j.next+uint64(i), d)
	}
	if len(b) == 0 {
		return j.next, nil
	}
	if err := j.ready(); err != nil {
		return 0, fmt.Errorf("write to journal: %w", err)
	}
	if _, err := j.f.WriteAt(b, j.size); err != nil {
		j.broken = true
		return 0, fmt.Errorf("write to journal: %w", errors.Join(err, j.mend()))
	}
	first = j.next
	j.next += uint64(len(data))
	j.size += int64(len(b))
	j.last = slices.Clone(data[len(data)-1])
	return first, nil
}

// mend cuts off what a write left that did not succeed.
func (j *Journal) mend() error {
	if !j.broken {
		return nil
	}
	if err := j.f.Truncate(j.size); err != nil {
		return err
	}
	j.broken = false
	return nil
}

// ready makes the last segment one that can be added to. j.mu is held.
func (j *Journal) ready() error {
	if j.f != nil && j.size < j.o.SegmentBytes {
		return j.mend()
	}
	if j.f != nil {
		// What a full segment holds is on disk before there is a next one: then
		// Sync needs to look at the last only.
		if err := errors.Join(j.mend(), j.f.Sync()); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(j.path(j.next), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if err := atomicfile.SyncDir(j.dir); err != nil {
		return errors.Join(err, f.Close())
	}
	if j.f != nil {
		_ = j.f.Close()
	}
	j.f, j.size = f, 0
	return j.prune()
}

// prune removes the oldest segments where there are too many.
func (j *Journal) prune() error {
	firsts, err := segments(j.dir)
	if err != nil {
		return err
	}
	for len(firsts) > j.o.Segments {
		if err := os.Remove(j.path(firsts[0])); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		firsts = firsts[1:]
	}
	return nil
}

// Sync waits until all that was appended is on disk, and shows it to readers.
func (j *Journal) Sync() error {
	j.syncing.Lock()
	defer j.syncing.Unlock()
	j.mu.Lock()
	f, next := j.f, j.next
	if f == nil || j.synced == next {
		j.synced = next
		j.mu.Unlock()
		return nil
	}
	// Append may close the file meanwhile, after a sync of its own.
	f, err := os.Open(f.Name())
	j.mu.Unlock()
	if err == nil {
		err = errors.Join(f.Sync(), f.Close())
	}
	if err != nil {
		return fmt.Errorf("sync journal: %w", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.synced = next
	return nil
}

// Next returns the number that the next record will have.
func (j *Journal) Next() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.next
}

// Synced returns the number of the first record that is not shown to readers.
func (j *Journal) Synced() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.synced
}

// Last returns the data of the last record, or nil.
func (j *Journal) Last() []byte {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.last
}

// Close waits for the disk and closes the journal.
func (j *Journal) Close() error {
	err := j.Sync()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.f != nil {
		err = errors.Join(err, j.f.Close())
		j.f = nil
	}
	return err
}
