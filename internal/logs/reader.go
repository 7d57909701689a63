package logs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"lade/internal/linux/inotify"
)

// ReadOptions says what to read of a log.
type ReadOptions struct {
	// Tail is how many of the last lines to begin with; all if negative.
	Tail int
	// Since and Until, unless zero, leave out what was printed before or after.
	Since, Until time.Time
	// After, unless zero, is where to begin instead of Tail: behind an entry that
	// was read before. If the ring has dropped that place, reading begins with the
	// oldest entry there is.
	After Position
	// Follow waits for more, until the writer ends.
	Follow bool
	// Stdout and Stderr say which streams to read.
	Stdout, Stderr bool
	// Done, when closed, says that the writer is no more; Follow then ends
	// with what is there. It is for writers that were killed: a writer that
	// ends says so in the log.
	Done <-chan struct{}
}

// Reader reads a log. It serves one goroutine. A reader that follows more
// slowly than the writer goes round its ring misses what was removed.
type Reader struct {
	dir     string
	o       ReadOptions
	f       *os.File
	seq     uint64 // number of f
	cur     cursor
	watch   *inotify.Watcher // with Follow
	ended   bool             // the last record seen marks a writer's end
	lost    uint64
	drained bool // nothing was there when Done was closed already
}

// Open begins to read the log in dir. A dir that is not there, or not yet, is
// an empty log.
func Open(dir string, o ReadOptions) (*Reader, error) {
	r := &Reader{dir: dir, o: o}
	if o.Follow {
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("follow log: %w", err)
		}
		w, err := inotify.New(dir)
		if err != nil {
			return nil, err
		}
		r.watch = w
	}
	if err := r.seek(); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// Close releases what the reader holds.
func (r *Reader) Close() error {
	var errs []error
	if r.watch != nil {
		errs = append(errs, r.watch.Close())
	}
	if r.f != nil {
		errs = append(errs, r.f.Close())
	}
	return errors.Join(errs...)
}

// Lost returns how many lines the writer had to drop, of those that would have
// been read so far.
func (r *Reader) Lost() uint64 { return r.lost }

// Next returns the next entry. io.EOF says that there is no more; without
// Follow, a later call looks again.
func (r *Reader) Next(ctx context.Context) (Entry, error) {
	for {
		rec, err := r.record()
		if errors.Is(err, io.EOF) {
			if err := r.wait(ctx); err != nil {
				return Entry{}, err
			}
			continue
		}
		if err != nil {
			return Entry{}, err
		}
		r.ended, r.drained = rec.stream == end, false
		if rec.stream == lost && len(rec.data) == 8 {
			r.lost += binary.LittleEndian.Uint64(rec.data)
		}
		if !r.wants(rec.stream) {
			continue
		}
		e := rec.entry()
		e.End = Position{r.seq, r.cur.off}
		if !r.o.Until.IsZero() && e.Time.After(r.o.Until) {
			return Entry{}, io.EOF
		}
		if e.Time.Before(r.o.Since) {
			continue
		}
		return e, nil
	}
}

func (r *Reader) wants(s Stream) bool {
	return s == Stdout && r.o.Stdout || s == Stderr && r.o.Stderr
}

// record returns the next record of the log, or io.EOF at its present end.
func (r *Reader) record() (record, error) {
	for {
		if r.f != nil {
			rec, err := r.cur.next()
			if !errors.Is(err, io.EOF) {
				return rec, err
			}
		}
		newer, err := r.newer()
		if err != nil {
			return record{}, err
		}
		if newer == 0 {
			return record{}, io.EOF
		}
		if r.f != nil {
			// The writer has left this segment, perhaps after we looked.
			rec, err := r.cur.next()
			if !errors.Is(err, io.EOF) {
				return rec, err
			}
		}
		if err := r.enter(newer, 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return record{}, err
		}
	}
}

// newer returns the first segment after the present one, or 0.
func (r *Reader) newer() (uint64, error) {
	seqs, err := list(r.dir)
	if err != nil {
		return 0, err
	}
	for _, s := range seqs {
		if s > r.seq {
			return s, nil
		}
	}
	return 0, nil
}

// enter goes on at an offset of a segment. The ring may have dropped it by
// now: then fs.ErrNotExist, and the reader is as it was.
func (r *Reader) enter(seq uint64, off int64) error {
	f, err := os.Open(segmentName(r.dir, seq))
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	if r.f != nil {
		_ = r.f.Close()
	}
	r.f, r.seq = f, seq
	r.cur = cursor{f: f, off: off, mem: r.cur.mem}
	return nil
}

// wait returns nil when there may be more to read.
func (r *Reader) wait(ctx context.Context) error {
	if !r.o.Follow || r.ended || r.drained {
		return io.EOF
	}
	select {
	case <-r.o.Done:
		r.drained = true // once more round, for what came just before
		return nil
	default:
	}
	wait, cancel := context.WithCancel(ctx)
	defer cancel()
	if r.o.Done != nil {
		go func() {
			select {
			case <-r.o.Done:
				cancel()
			case <-wait.Done():
			}
		}()
	}
	if !r.o.Until.IsZero() {
		left := time.Until(r.o.Until)
		if left <= 0 {
			return io.EOF
		}
		t := time.AfterFunc(left, cancel)
		defer t.Stop()
	}
	err := r.watch.Wait(wait)
	if err != nil && ctx.Err() == nil && wait.Err() != nil {
		return nil // Done or Until
	}
	return err
}

// seek goes to where Tail and Since say to begin.
func (r *Reader) seek() error {
	seqs, err := list(r.dir)
	if err != nil || len(seqs) == 0 {
		return err
	}
	if r.o.After.Segment > 0 {
		err := r.enter(r.o.After.Segment, r.o.After.Offset)
		if errors.Is(err, fs.ErrNotExist) {
			r.seq, err = r.o.After.Segment, nil
		}
		return err
	}
	if r.o.Tail >= 0 {
		return r.seekTail(seqs)
	}
	// A segment is of no interest if the next one begins before Since.
	start := 0
	for start+1 < len(seqs) && !r.o.Since.IsZero() && r.beginsBefore(seqs[start+1], r.o.Since) {
		start++
	}
	r.seq = seqs[start] - 1
	return nil
}

func (r *Reader) beginsBefore(seq uint64, t time.Time) bool {
	f, err := os.Open(segmentName(r.dir, seq))
	if err != nil {
		return false
	}
	defer f.Close()
	c := cursor{f: f, mem: make([]byte, maxRecord)}
	rec, err := c.next()
	return err == nil && time.Unix(0, rec.time).Before(t)
}

// seekTail goes to the first of the last Tail lines, reading from the end.
func (r *Reader) seekTail(seqs []uint64) error {
	lines, found := 0, false
	var counted [3]bool // the line that a Partial record of a stream is a part of
	for _, seq := range slices.Backward(seqs) {
		f, err := os.Open(segmentName(r.dir, seq))
		if errors.Is(err, fs.ErrNotExist) {
			break // dropped meanwhile, and those before it too
		}
		if err != nil {
			return fmt.Errorf("open log: %w", err)
		}
		st, err := f.Stat()
		if err != nil {
			return errors.Join(fmt.Errorf("read log: %w", err), f.Close())
		}
		at := int64(0)
		err = walkBack(f, st.Size(), func(rec record, off int64) bool {
			if !r.wants(rec.stream) || rec.partial() && counted[rec.stream] {
				return true
			}
			if lines == r.o.Tail {
				at, found = off+int64(rec.size), true
				return false
			}
			lines++
			counted[rec.stream] = true
			return true
		})
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
		err = r.enter(seq, at)
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return err
		}
		if found {
			return nil
		}
	}
	return nil
}
