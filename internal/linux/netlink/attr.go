package netlink

import (
	"bytes"
	"encoding/binary"
	"iter"

	"golang.org/x/sys/unix"
)

// Writer puts a message's data together: a fixed part, then attributes. The
// zero value is empty.
type Writer struct {
	b []byte
}

// Bytes returns what was written.
func (w *Writer) Bytes() []byte { return w.b }

// Raw appends bytes as they are: a message's fixed part.
func (w *Writer) Raw(p ...byte) { w.b = append(w.b, p...) }

// Put appends an attribute.
func (w *Writer) Put(kind uint16, value []byte) {
	w.b = binary.NativeEndian.AppendUint16(w.b, uint16(unix.SizeofRtAttr+len(value)))
	w.b = binary.NativeEndian.AppendUint16(w.b, kind)
	w.b = append(w.b, value...)
	w.b = append(w.b, make([]byte, align(len(value))-len(value))...)
}

// String appends an attribute that is a text with a zero behind it.
func (w *Writer) String(kind uint16, s string) { w.Put(kind, append([]byte(s), 0)) }

// Uint32 appends an attribute that is a number in the machine's order.
func (w *Writer) Uint32(kind uint16, v uint32) {
	w.Put(kind, binary.NativeEndian.AppendUint32(nil, v))
}

// Big32 appends an attribute that is a number in the network's order, as
// nftables wants them.
func (w *Writer) Big32(kind uint16, v uint32) {
	w.Put(kind, binary.BigEndian.AppendUint32(nil, v))
}

// Uint8 appends an attribute that is one byte.
func (w *Writer) Uint8(kind uint16, v uint8) { w.Put(kind, []byte{v}) }

// Nest appends an attribute that holds what fn writes.
func (w *Writer) Nest(kind uint16, fn func()) {
	at := len(w.b)
	w.Put(kind|unix.NLA_F_NESTED, nil)
	fn()
	binary.NativeEndian.PutUint16(w.b[at:], uint16(len(w.b)-at))
}

// Attributes yields the attributes in b, which may come from anywhere: what is
// cut off is left out.
func Attributes(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.SizeofRtAttr {
			size := int(binary.NativeEndian.Uint16(b))
			if size < unix.SizeofRtAttr || size > len(b) {
				return
			}
			if !yield(binary.NativeEndian.Uint16(b[2:])&0x3fff, b[unix.SizeofRtAttr:size]) {
				return
			}
			b = b[min(align(size), len(b)):]
		}
	}
}

// CString returns the text before the first zero.
func CString(b []byte) string {
	s, _, _ := bytes.Cut(b, []byte{0})
	return string(s)
}
