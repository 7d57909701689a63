package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"lade/internal/errdefs"
)

// ErrGone is in the error for records that are no longer there, or damaged. The
// reader stands behind them then, and can go on.
var ErrGone = errors.New("records of the journal are gone")

// Reader goes through the records of a journal. It is for one goroutine.
type Reader struct {
	j    *Journal
	next uint64   // number of the record that comes next; 0 means the first there is
	f    *os.File // the segment that it is in, or nil
	head uint64   // number that names f
	at   int64    // offset in f of what was not looked at yet
}

// Read returns a reader whose first record is number from, or the first there
// is if that is 0. The caller closes it.
func (j *Journal) Read(from uint64) *Reader { return &Reader{j: j, next: from} }

// Next returns the next record; io.EOF where there is none yet, after which
// Next can be called again.
func (r *Reader) Next() (number uint64, data []byte, err error) {
	for {
		end := r.j.Synced()
		if r.next >= end {
			return 0, nil, io.EOF
		}
		if r.f == nil {
			if err := r.open(); err != nil {
				return 0, nil, err
			}
			continue
		}
		rec, err := r.read()
		switch {
		case errors.Is(err, io.EOF): // the segment has no more
			if err := r.leave(end); err != nil {
				return 0, nil, err
			}
		case err != nil:
			return 0, nil, fmt.Errorf("read journal: %w", err)
		case rec.number < r.next: // before the first that is wanted
			r.at += int64(rec.size)
		case rec.number > r.next: // what is between was damaged
			return 0, nil, r.skip(rec.number)
		default:
			r.at += int64(rec.size)
			r.next++
			return rec.number, rec.data, nil
		}
	}
}

// skip goes on at a number, and says what that leaves out.
func (r *Reader) skip(to uint64) error {
	from := r.next
	r.next = to
	return errdefs.With(errdefs.DataLoss, fmt.Errorf("%w: numbers %d to %d", ErrGone, from, to-1))
}

// open opens the segment that the next record is in.
func (r *Reader) open() error {
	for {
		firsts, err := segments(r.j.dir)
		if err == nil && len(firsts) == 0 {
			err = fs.ErrNotExist
		}
		if err != nil {
			return fmt.Errorf("read journal: %w", err)
		}
		if r.next == 0 {
			r.next = firsts[0]
		}
		if r.next < firsts[0] {
			return r.skip(firsts[0])
		}
		at := firsts[0]
		for _, first := range firsts {
			if first <= r.next {
				at = first
			}
		}
		f, err := os.Open(r.j.path(at))
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was the oldest, and has gone since
		}
		if err != nil {
			return fmt.Errorf("read journal: %w", err)
		}
		r.f, r.head, r.at = f, at, 0
		return nil
	}
}

// read reads the first record from r.at on, and leaves r.at at its beginning.
// Bytes that are no record are stepped over.
func (r *Reader) read() (record, error) {
	st, err := r.f.Stat()
	if err != nil {
		return record{}, err
	}
	var head [headSize]byte
	for ; r.at+headSize <= st.Size(); r.at++ {
		if _, err := r.f.ReadAt(head[:], r.at); err != nil {
			return record{}, err
		}
		size := headSize + int64(binary.LittleEndian.Uint32(head[:]))
		if size > headSize+maxData || r.at+size > st.Size() {
			continue
		}
		b := make([]byte, size)
		if _, err := r.f.ReadAt(b, r.at); err != nil {
			return record{}, err
		}
		if rec, err := decode(b); err == nil {
			return rec, nil
		}
	}
	return record{}, io.EOF
}

// leave gives a segment up that has no more records, though there are some up
// to end: the next segment has them, or nobody.
func (r *Reader) leave(end uint64) error {
	firsts, err := segments(r.j.dir)
	if err != nil {
		return fmt.Errorf("read journal: %w", err)
	}
	_ = r.f.Close()
	r.f = nil
	for _, first := range firsts {
		if first == r.next {
			return nil
		}
		if first > r.head && first > r.next {
			return r.skip(first)
		}
	}
	return r.skip(end)
}

// Close releases the reader.
func (r *Reader) Close() error {
	if r.f == nil {
		return nil
	}
	err := r.f.Close()
	r.f = nil
	return err
}
