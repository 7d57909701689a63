// Package logs keeps what containers print.
//
// One container's log is a directory of segments, files that are filled one
// after the other and removed oldest first, so that a log never takes more
// than it was given. There is one writer, the container's shim; it waits for
// nothing but the disk, and when the disk is full it counts what it drops.
// Readers need neither the writer nor a lock: they see whole records, follow
// by inotify, and step from segment to segment as the writer does.
//
// An entry is a line, without its newline. A line of more than MaxLine bytes
// is several entries, of which all but the last are Partial.
//
// A record is written by one write(2), alone or with others, and carries its
// length in front and behind and a checksum: a writer killed in the middle
// leaves a torn tail, which readers do not see and the next writer cuts off.
// Records without data mark where a writer began and ended, so that a reader
// who follows knows when nothing more will come.
//
// The package does not compress, ship or filter logs.
package logs

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"time"
)

// Sizes.
const (
	MaxLine      = 16 << 10 // bytes of a line in one entry
	DefaultBytes = 64 << 20 // of a log
	MinBytes     = 1 << 20
	segments     = 8
	flushBytes   = 32 << 10 // a batch is written when it is this large
)

// Config says where and how a container's output is kept.
type Config struct {
	Dir string `json:"dir"`
	// MaxBytes bounds the log; 0 means DefaultBytes, less than MinBytes means
	// MinBytes.
	MaxBytes int64 `json:"maxBytes,omitempty"`
	// None keeps nothing.
	None bool `json:"none,omitempty"`
}

func (c Config) segmentBytes() int64 {
	n := c.MaxBytes
	if n <= 0 {
		n = DefaultBytes
	}
	return max(n, MinBytes) / segments
}

// Stream is where a line was printed to.
type Stream uint8

// The streams. What a terminal shows is all Stdout.
const (
	Stdout Stream = 1
	Stderr Stream = 2
	begin  Stream = 'B' // a writer began
	end    Stream = 'E' // a writer ended
	lost   Stream = 'L' // lines were dropped; the data is their number
)

// Entry is one line, or a part of a long one.
type Entry struct {
	Time   time.Time
	Stream Stream
	Data   []byte // without the newline; valid until the next call of Next
	// Partial says that the line goes on in the stream's next entry.
	Partial bool
	// Unterminated says that the line was the stream's last and had no newline.
	Unterminated bool
	// End is where the log goes on behind this entry.
	End Position
}

// Position is a place between two entries of a log. It keeps its meaning for as
// long as the log is there.
type Position struct {
	Segment uint64 // its number, from 1; 0: before the first entry
	Offset  int64  // in bytes
}

// Append appends the line to dst, with a newline unless the line goes on.
// Like Docker's, an unterminated line gets one too.
func (e Entry) Append(dst []byte) []byte {
	dst = append(dst, e.Data...)
	if !e.Partial {
		dst = append(dst, '\n')
	}
	return dst
}

// A record: magic u16, stream u8, flags u8, length u32 of the data, time i64,
// checksum u32 of all that and the data, the data, length u32 of the record.
const (
	headBytes      = 20
	tailBytes      = 4
	overhead       = headBytes + tailBytes
	magic          = 0x1ade
	flagPartial    = 1
	flagUnfinished = 2
	maxRecord      = MaxLine + overhead
)

var (
	errShort = errors.New("record is not complete")
	errBad   = errors.New("record is damaged")
)

// record is a decoded record. Its data is a part of what it was decoded from.
type record struct {
	stream Stream
	flags  uint8
	time   int64
	data   []byte
	size   int // bytes of the whole record
}

// line reports whether the record is something that the container printed.
func (r record) line() bool { return r.stream == Stdout || r.stream == Stderr }

func (r record) partial() bool { return r.flags&flagPartial != 0 }

func (r record) entry() Entry {
	return Entry{
		Time: time.Unix(0, r.time), Stream: r.stream, Data: r.data,
		Partial: r.partial(), Unterminated: r.flags&flagUnfinished != 0,
	}
}

func appendRecord(dst []byte, r record) []byte {
	at := len(dst)
	dst = binary.LittleEndian.AppendUint16(dst, magic)
	dst = append(dst, byte(r.stream), r.flags)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(r.data)))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(r.time))
	sum := checksum(dst[at:at+headBytes-4], r.data)
	dst = binary.LittleEndian.AppendUint32(dst, sum)
	dst = append(dst, r.data...)
	return binary.LittleEndian.AppendUint32(dst, uint32(len(r.data)+overhead))
}

func checksum(head, data []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli) // a pointer to the one table
	return crc32.Update(crc32.Checksum(head, table), table, data)
}

// decode returns the record that b begins with. errShort means that more bytes
// could make it one, errBad that none could.
func decode(b []byte) (record, error) {
	var prefix [2]byte
	binary.LittleEndian.PutUint16(prefix[:], magic)
	for i := range min(len(b), 2) {
		if b[i] != prefix[i] {
			return record{}, errBad
		}
	}
	if len(b) < headBytes {
		return record{}, errShort
	}
	n := int(binary.LittleEndian.Uint32(b[4:]))
	if n > MaxLine {
		return record{}, errBad
	}
	size := n + overhead
	if len(b) < size {
		return record{}, errShort
	}
	r := record{
		stream: Stream(b[2]), flags: b[3], time: int64(binary.LittleEndian.Uint64(b[8:])),
		data: b[headBytes : headBytes+n : headBytes+n], size: size,
	}
	if binary.LittleEndian.Uint32(b[16:]) != checksum(b[:16], r.data) ||
		binary.LittleEndian.Uint32(b[size-tailBytes:]) != uint32(size) {
		return record{}, errBad
	}
	return r, nil
}
