package logs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// Writer appends to a log. It serves one goroutine, and its directory has no
// other writer. Its methods never fail: what cannot be written is dropped and
// counted. A nil Writer keeps nothing.
type Writer struct {
	dir         string
	limit       int64    // of a segment
	f           *os.File // nil: there was no space for one
	first, last uint64   // segments that are there
	size        int64    // of the last
	batch       []byte
	held        [2][]byte // unfinished lines of Stdout and Stderr
	unreported  uint64    // lines dropped since the last lost record
	dropped     uint64
	also        func(Entry) // see Tee
}

// NewWriter opens a log for writing and makes its directory if need be. It
// returns nil if c says to keep nothing. That there is no space is no error:
// the writer makes its first segment when there is.
func NewWriter(c Config) (*Writer, error) {
	if c.None {
		return nil, nil
	}
	seqs, err := list(c.Dir)
	if err != nil {
		return nil, err
	}
	w := &Writer{dir: c.Dir, limit: c.segmentBytes(), first: 1}
	if len(seqs) == 0 {
		// A container must start on a full disk too.
		if err = w.add(); errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			err = nil
		}
	} else {
		w.first, w.last = seqs[0], seqs[len(seqs)-1]
		err = w.reopen()
	}
	if err != nil {
		return nil, err
	}
	w.marker(begin)
	return w, nil
}

// reopen goes on in the last segment, behind its last whole record.
func (w *Writer) reopen() error {
	f, err := os.OpenFile(segmentName(w.dir, w.last), os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	st, err := f.Stat()
	if err == nil {
		w.size, err = validEnd(f, st.Size())
	}
	if err == nil && w.size < st.Size() {
		err = f.Truncate(w.size)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("open log: %w", err), f.Close())
	}
	w.f = f
	return nil
}

// add begins the next segment. The oldest goes first, which also makes room
// on a full disk.
func (w *Writer) add() error {
	if err := os.Mkdir(w.dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make log: %w", err)
	}
	for w.last >= w.first && w.last-w.first >= segments-1 {
		_ = os.Remove(segmentName(w.dir, w.first))
		w.first++
	}
	f, err := os.OpenFile(segmentName(w.dir, w.last+1), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("make log segment: %w", err)
	}
	if w.f != nil {
		_ = w.f.Close()
	}
	w.f, w.size = f, 0
	w.last++
	return nil
}

// Write takes what a container printed at a time. Whole lines are on disk when
// it returns; the rest waits for its newline.
func (w *Writer) Write(s Stream, now time.Time, p []byte) {
	if w == nil {
		return
	}
	held := &w.held[s-Stdout]
	for len(p) > 0 {
		i := bytes.IndexByte(p[:min(len(p), MaxLine+1-len(*held))], '\n')
		if i < 0 && len(*held)+len(p) <= MaxLine {
			*held = append(*held, p...)
			break
		}
		r := record{stream: s, time: now.UnixNano()}
		var line []byte
		if i >= 0 {
			line, p = p[:i], p[i+1:]
		} else {
			n := MaxLine - len(*held)
			line, p = p[:n], p[n:]
			r.flags = flagPartial
		}
		r.data = line
		if len(*held) > 0 {
			*held = append(*held, line...)
			r.data = *held
		}
		w.put(r)
		*held = (*held)[:0]
	}
	w.flush()
}

// Held returns the bytes of a stream's unfinished line that no reader sees yet.
func (w *Writer) Held(s Stream) []byte {
	if w == nil {
		return nil
	}
	return w.held[s-Stdout]
}

// Dropped returns how many lines could not be written.
func (w *Writer) Dropped() uint64 {
	if w == nil {
		return 0
	}
	return w.dropped
}

// Close writes what is held and marks the end.
func (w *Writer) Close(now time.Time) error {
	if w == nil {
		return nil
	}
	for i, h := range w.held {
		if len(h) > 0 {
			w.put(record{stream: Stdout + Stream(i), flags: flagUnfinished, time: now.UnixNano(), data: h})
			w.held[i] = nil
		}
	}
	w.marker(end)
	if w.f == nil {
		return nil
	}
	if err := w.f.Close(); err != nil {
		return fmt.Errorf("close log: %w", err)
	}
	return nil
}

func (w *Writer) marker(s Stream) {
	w.put(record{stream: s, time: time.Now().UnixNano()})
	w.flush()
}

// Tee has also called with each line, as it is written. It must not wait.
func (w *Writer) Tee(also func(Entry)) {
	if w != nil {
		w.also = also
	}
}

func (w *Writer) put(r record) {
	if w.also != nil && r.line() {
		w.also(r.entry())
	}
	if len(w.batch) == 0 && w.unreported > 0 {
		n := binary.LittleEndian.AppendUint64(nil, w.unreported)
		w.batch = appendRecord(w.batch, record{stream: lost, time: r.time, data: n})
	}
	w.batch = appendRecord(w.batch, r)
	if len(w.batch) >= flushBytes {
		w.flush()
	}
}

// flush writes the batch. After an error, what was written of it is cut back
// to whole records, and the rest is dropped.
func (w *Writer) flush() {
	b := w.batch
	w.batch = w.batch[:0]
	if len(b) == 0 {
		return
	}
	if w.f == nil || w.size > 0 && w.size+int64(len(b)) > w.limit {
		if w.add() != nil {
			w.account(b, 0)
			return
		}
	}
	// At an offset and not with O_APPEND: should the truncation fail too, the
	// next batch overwrites the torn one.
	n, err := w.f.WriteAt(b, w.size)
	whole := len(b)
	if err != nil {
		whole = w.account(b, n)
		_ = w.f.Truncate(w.size + int64(whole))
	} else if w.unreported > 0 {
		w.account(b, n)
	}
	w.size += int64(whole)
}

// account counts the records of b that are not among its first n bytes as
// dropped, and returns the length of those that are.
func (w *Writer) account(b []byte, n int) (whole int) {
	for at := 0; at < len(b); {
		r, err := decode(b[at:])
		if err != nil {
			return whole
		}
		at += r.size
		if at <= n {
			whole = at
			if r.stream == lost {
				w.unreported = 0
			}
		} else if r.line() {
			w.dropped++
			w.unreported++
		}
	}
	return whole
}
