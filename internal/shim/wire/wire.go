// Package wire is the language between a shim and who drives it: frames of
// tagged fields over a Unix socket, descriptors beside them.
//
// The language is frozen from version 1 on. What is there keeps its number and
// its meaning; messages and tags are only ever added. Who does not know a tag
// ignores it; who does not know a request answers with an error. So an old
// shim serves a new engine, and the other way round.
//
// A frame is: length u32 of what follows, kind u8, request u32, then fields,
// each tag u16, length u32, bytes. Integers are big-endian. Every request gets
// one reply with its number, OK or Failed; Hello, Exited and their like come
// unasked with number 0. Descriptors travel with a frame's first byte, and the
// field Files says how many.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Version is the version of the language.
const Version = 1

// Limits.
const (
	MaxFrame  = 256 << 10 // bytes of a frame after its length
	MaxFiles  = 16        // descriptors with a frame
	frameHead = 4
	frameMin  = 5
	fieldHead = 6
)

// Kind is a kind of message.
type Kind uint8

// Requests, then replies, then what comes unasked.
const (
	Create     Kind = 1 // run the runtime; Mounts, and files: the root, if it comes, and mounts; OK{PID}
	Start      Kind = 2 // run what was created
	Signal     Kind = 3 // Signal, By
	Resize     Kind = 4 // Exec, Width, Height
	Attach     Kind = 5 // Exec, Flags, Keys, Buffered and one file
	Exec       Kind = 6 // Exec, Flags; any number of Attachment; OK{PID}
	ExecWait   Kind = 7 // Exec; OK{Exit} when it has ended
	State      Kind = 8 // OK{Status, PID, ...}
	CloseStdin Kind = 9 // Exec

	OK     Kind = 64
	Failed Kind = 65 // Error, Class

	Hello      Kind = 128 // Version, PID
	Exited     Kind = 129 // Exit: the container's record is on disk
	ExecExited Kind = 130 // Exec, Exit
)

// Tag names a field.
type Tag uint16

// The fields.
const (
	TagVersion    Tag = 1
	TagPID        Tag = 2
	TagError      Tag = 3 // text
	TagClass      Tag = 4 // of the error, in words
	TagExec       Tag = 5 // id of an exec; absent: the container itself
	TagSignal     Tag = 6
	TagBy         Tag = 7 // who asked for a signal
	TagWidth      Tag = 8
	TagHeight     Tag = 9
	TagFlags      Tag = 10 // bits below
	TagKeys       Tag = 11 // detach sequence
	TagBuffered   Tag = 12 // bytes read from a client before it was passed on
	TagFiles      Tag = 13 // how many descriptors came with the frame
	TagAttachment Tag = 14 // fields of one attachment, nested; its file is the next
	TagExit       Tag = 15 // fields of an exit record, nested
	TagStatus     Tag = 16
	TagStartedAt  Tag = 17 // nanoseconds
	TagDropped    Tag = 18 // lines that the log could not take
	TagClients    Tag = 19
	TagCode       Tag = 20
	TagOOM        Tag = 21
	TagExitedAt   Tag = 22
	TagPeak       Tag = 23 // bytes
	TagUnknown    Tag = 24
	TagHint       Tag = 25 // what to do about the error
	TagMounts     Tag = 26 // how many of the descriptors, the last ones, are mounts for the container
)

// The bits of TagFlags.
const (
	FlagStdin uint64 = 1 << iota
	FlagStdout
	FlagStderr
	FlagMux
	FlagFromLog
	FlagTerminal
)

// ErrMalformed says that bytes are no frame. The connection is of no more use.
var ErrMalformed = errors.New("malformed message")

// Message is one frame.
type Message struct {
	Kind    Kind
	Request uint32
	Fields  Fields
}

// Fields are tagged values, encoded. Append to them with the Add functions;
// a tag may occur several times.
type Fields []byte

// AddBytes adds a field.
func (f *Fields) AddBytes(t Tag, v []byte) {
	*f = appendHead(*f, t, len(v))
	*f = append(*f, v...)
}

// AddString adds a field, unless v is empty.
func (f *Fields) AddString(t Tag, v string) {
	if v != "" {
		*f = appendHead(*f, t, len(v))
		*f = append(*f, v...)
	}
}

// AddUint adds a field, unless v is 0.
func (f *Fields) AddUint(t Tag, v uint64) {
	if v != 0 {
		*f = appendHead(*f, t, 8)
		*f = binary.BigEndian.AppendUint64(*f, v)
	}
}

func appendHead(b []byte, t Tag, n int) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(t))
	return binary.BigEndian.AppendUint32(b, uint32(n))
}

// All yields the fields in order.
func (f Fields) All(yield func(Tag, []byte) bool) {
	for len(f) >= fieldHead {
		n := int(binary.BigEndian.Uint32(f[2:]))
		if n > len(f)-fieldHead {
			return // Check refuses this
		}
		if !yield(Tag(binary.BigEndian.Uint16(f)), f[fieldHead:fieldHead+n:fieldHead+n]) {
			return
		}
		f = f[fieldHead+n:]
	}
}

// Check reports whether the fields are well-formed.
func (f Fields) Check() error {
	for len(f) > 0 {
		if len(f) < fieldHead {
			return ErrMalformed
		}
		n := binary.BigEndian.Uint32(f[2:])
		if uint64(n) > uint64(len(f)-fieldHead) {
			return ErrMalformed
		}
		f = f[fieldHead+int(n):]
	}
	return nil
}

// Bytes returns the first field with the tag, or nil.
func (f Fields) Bytes(t Tag) []byte {
	for tag, v := range f.All {
		if tag == t {
			return v
		}
	}
	return nil
}

// String is Bytes as text.
func (f Fields) String(t Tag) string { return string(f.Bytes(t)) }

// Uint returns the first field with the tag as a number, or 0.
func (f Fields) Uint(t Tag) uint64 {
	if v := f.Bytes(t); len(v) == 8 {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

// Append appends the message as a frame to dst. It refuses what the other side
// would refuse.
func (m Message) Append(dst []byte) ([]byte, error) {
	n := frameMin + len(m.Fields)
	if n > MaxFrame {
		return dst, fmt.Errorf("message of %d bytes; at most %d are allowed", n, MaxFrame)
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(n))
	dst = append(dst, byte(m.Kind))
	dst = binary.BigEndian.AppendUint32(dst, m.Request)
	return append(dst, m.Fields...), nil
}

// Decoder takes messages out of a stream of bytes, in whatever pieces it
// comes. Its memory grows with what was received, not with what is announced.
type Decoder struct {
	buf  []byte
	read int // bytes of buf that are done with
}

// Feed adds what was received.
func (d *Decoder) Feed(p []byte) {
	if d.read > 0 {
		d.buf = append(d.buf[:0], d.buf[d.read:]...)
		d.read = 0
	}
	d.buf = append(d.buf, p...)
}

// Next returns the next message; false means that more bytes are needed. Its
// fields are valid until the next call of Feed.
func (d *Decoder) Next() (Message, bool, error) {
	b := d.buf[d.read:]
	if len(b) < frameHead {
		if len(b) == 0 {
			d.buf, d.read = nil, 0 // idle connections hold no memory
		}
		return Message{}, false, nil
	}
	n := binary.BigEndian.Uint32(b)
	if n < frameMin || n > MaxFrame {
		return Message{}, false, ErrMalformed
	}
	if uint32(len(b)-frameHead) < n {
		return Message{}, false, nil
	}
	b = b[frameHead : frameHead+n]
	d.read += frameHead + int(n)
	m := Message{Kind: Kind(b[0]), Request: binary.BigEndian.Uint32(b[1:]), Fields: Fields(b[frameMin:])}
	return m, true, m.Fields.Check()
}
