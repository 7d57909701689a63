package journal

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
)

const (
	headSize = 16
	// maxData bounds a record, so that a damaged length is seen as such.
	maxData = 1 << 20
)

var (
	// errShort says that more bytes are needed.
	errShort = errors.New("record is not complete")
	// errDamaged says that the bytes are no record.
	errDamaged = errors.New("record is damaged")
)

// record is one record and how many bytes it takes.
type record struct {
	number uint64
	data   []byte
	size   int
}

// appendRecord appends a record to b.
func appendRecord(b []byte, number uint64, data []byte) []byte {
	at := len(b)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(data)))
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint64(b, number)
	b = append(b, data...)
	binary.LittleEndian.PutUint32(b[at+4:], checksum(b[at+8:]))
	return b
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// decode reads the record at the beginning of b. Its data is a part of b.
func decode(b []byte) (record, error) {
	if len(b) < headSize {
		return record{}, errShort
	}
	n := binary.LittleEndian.Uint32(b)
	if n > maxData {
		return record{}, errDamaged
	}
	size := headSize + int(n)
	if len(b) < size {
		return record{}, errShort
	}
	if checksum(b[8:size]) != binary.LittleEndian.Uint32(b[4:]) {
		return record{}, errDamaged
	}
	return record{binary.LittleEndian.Uint64(b[8:]), b[headSize:size], size}, nil
}

// scan goes through the records in b, the first of which has at least number
// first. It returns the number that follows the last, and where that one ends;
// behind it there is no whole record. damaged says that something is missing
// before it.
func scan(b []byte, first uint64, each func(record)) (next uint64, end int, damaged bool) {
	next = first
	for at := 0; at < len(b); {
		r, err := decode(b[at:])
		if err != nil || r.number < next {
			at++ // a whole record further on would make this damage, not the end
			continue
		}
		damaged = damaged || at > end
		next, at = r.number+1, at+r.size
		end = at
		each(r)
	}
	return next, end, damaged
}
