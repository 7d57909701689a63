package logs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Segments are named by their number, with leading zeros so that people see
// them in order.
const segmentSuffix = ".log"

func segmentName(dir string, seq uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%010d"+segmentSuffix, seq))
}

// list returns the numbers of the segments in dir in order. A dir that does
// not exist holds none.
func list(dir string) ([]uint64, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read log: %w", err)
	}
	var seqs []uint64
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), segmentSuffix)
		if !ok {
			continue
		}
		if n, err := strconv.ParseUint(name, 10, 64); err == nil && n > 0 {
			seqs = append(seqs, n)
		}
	}
	slices.Sort(seqs)
	return seqs, nil
}

// file is what is needed of an open segment.
type file interface {
	io.ReaderAt
	Stat() (fs.FileInfo, error)
}

// cursor reads the records of one segment forward.
type cursor struct {
	f   file
	max int64  // what is behind it is not there; 0: no bound
	off int64  // of the next record
	buf []byte // bytes from off on that were read already
	mem []byte // what buf is a part of
}

const readBytes = 64 << 10

// next returns the next whole record, stepping over damage. io.EOF says that
// none is there yet; the next call looks again.
func (c *cursor) next() (record, error) {
	for {
		r, err := decode(c.buf)
		if err == nil {
			c.skip(r.size)
			return r, nil
		}
		found := false
		if errors.Is(err, errShort) {
			found, err = c.fill()
		} else {
			err = nil
		}
		if err == nil && !found && len(c.buf) > 0 {
			found, err = c.mend()
		}
		if err != nil {
			return record{}, err
		}
		if !found {
			// What was read of an unfinished record is forgotten: a writer
			// that ran out of space cuts it off and writes another there.
			c.buf = nil
			return record{}, io.EOF
		}
	}
}

// mend gets over bytes that are no record, and reports whether there is one
// now. The bytes are the torn tail of a writer that was killed or is at work,
// or changed while they were read, or are damaged. When the segment ends with
// a whole record, it is not the first.
func (c *cursor) mend() (bool, error) {
	size, err := c.end()
	if err != nil {
		return false, err
	}
	tail := make([]byte, min(size, maxRecord))
	n, err := c.f.ReadAt(tail, size-int64(len(tail)))
	if err != nil && !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("read log: %w", err)
	}
	_, whole := lastRecord(tail[:n])

	c.buf = nil
	if _, err := c.fill(); err != nil {
		return false, err
	}
	_, err = decode(c.buf)
	if err == nil || errors.Is(err, errShort) && !whole {
		return err == nil, nil
	}
	return c.resync()
}

// end returns where the segment ends now.
func (c *cursor) end() (int64, error) {
	st, err := c.f.Stat()
	if err != nil {
		return 0, fmt.Errorf("read log: %w", err)
	}
	if c.max > 0 {
		return min(c.max, st.Size()), nil
	}
	return st.Size(), nil
}

func (c *cursor) skip(n int) {
	c.off += int64(n)
	c.buf = c.buf[n:]
}

// fill reads more behind buf, and reports whether there was any.
func (c *cursor) fill() (bool, error) {
	if c.mem == nil {
		c.mem = make([]byte, readBytes)
	}
	n := copy(c.mem, c.buf)
	if n == len(c.mem) {
		return false, nil // cannot be: a record is smaller
	}
	to := c.mem[n:]
	if c.max > 0 {
		to = to[:min(int64(len(to)), max(0, c.max-c.off-int64(n)))]
	}
	m, err := c.f.ReadAt(to, c.off+int64(n))
	c.buf = c.mem[:n+m]
	if err != nil && !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("read log: %w", err)
	}
	return m > 0, nil
}

// resync moves on to the next record behind damage, and reports whether it
// found one. If not, it stays where it is: the writer may cut the damage off
// and go on here.
func (c *cursor) resync() (bool, error) {
	start := c.off
	prefix := []byte{magic & 0xff, magic >> 8}
	for step := 1; ; {
		c.skip(min(step, len(c.buf)))
		if i := bytes.Index(c.buf, prefix); i >= 0 {
			c.skip(i)
		} else {
			c.skip(max(0, len(c.buf)-1))
		}
		_, err := decode(c.buf)
		if err == nil {
			return true, nil
		}
		step = 1
		if errors.Is(err, errShort) {
			more, err := c.fill()
			if err != nil {
				return false, err
			}
			if more {
				step = 0
				continue
			}
		}
		if len(c.buf) == 0 {
			c.off = start
			return false, nil
		}
	}
}

// mark is where a line record lies.
type mark struct {
	off     int64
	size    int
	stream  Stream
	partial bool
}

// walkBack calls visit for the records of a segment from the last to the
// first, until visit returns false. Damage makes it read the segment forward.
func walkBack(f file, size int64, visit func(record, int64) bool) error {
	end := size
	mem := make([]byte, readBytes)
	lo := end // mem holds [lo, lo+len)
	var win []byte
	load := func(from int64) error {
		lo = max(0, from-int64(len(mem)))
		n, err := f.ReadAt(mem[:from-lo], lo)
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read log: %w", err)
		}
		win = mem[:n]
		return nil
	}
	for end > 0 {
		if end-lo < maxRecord && lo > 0 {
			if err := load(end); err != nil {
				return err
			}
		}
		r, ok := lastRecord(win[:min(int64(len(win)), end-lo)])
		if !ok {
			return walkForward(f, end, visit)
		}
		end -= int64(r.size)
		if !visit(r, end) {
			return nil
		}
	}
	return nil
}

// lastRecord returns the record that b ends with.
func lastRecord(b []byte) (record, bool) {
	if len(b) < overhead {
		return record{}, false
	}
	t := b[len(b)-tailBytes:]
	n := int64(t[0]) | int64(t[1])<<8 | int64(t[2])<<16 | int64(t[3])<<24
	if n < overhead || n > int64(len(b)) {
		return record{}, false
	}
	r, err := decode(b[int64(len(b))-n:])
	return r, err == nil && int64(r.size) == n
}

// walkForward is walkBack for a segment with damage before end.
func walkForward(f file, end int64, visit func(record, int64) bool) error {
	c := cursor{f: f, max: end}
	var marks []mark
	for {
		r, err := c.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		marks = append(marks, mark{c.off - int64(r.size), r.size, r.stream, r.partial()})
	}
	for _, m := range slices.Backward(marks) {
		r := record{stream: m.stream, size: m.size}
		if m.partial {
			r.flags = flagPartial
		}
		if !visit(r, m.off) {
			return nil
		}
	}
	return nil
}

// validEnd returns where the last whole record of a segment ends.
func validEnd(f file, size int64) (int64, error) {
	var end int64
	err := walkBack(f, size, func(r record, off int64) bool {
		end = off + int64(r.size)
		return false
	})
	return end, err
}
