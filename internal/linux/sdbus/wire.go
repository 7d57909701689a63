package sdbus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// errMessage is what a message is refused with that breaks the protocol.
var errMessage = errors.New("malformed D-Bus message")

// encoder writes values in the alignment that the protocol asks for.
type encoder struct{ b []byte }

func (e *encoder) align(n int) {
	for len(e.b)%n != 0 {
		e.b = append(e.b, 0)
	}
}

func (e *encoder) u32(v uint32) {
	e.align(4)
	e.b = binary.LittleEndian.AppendUint32(e.b, v)
}

func (e *encoder) u64(v uint64) {
	e.align(8)
	e.b = binary.LittleEndian.AppendUint64(e.b, v)
}

func (e *encoder) str(s string) {
	e.u32(uint32(len(s)))
	e.b = append(append(e.b, s...), 0)
}

func (e *encoder) signature(s string) {
	e.b = append(append(append(e.b, byte(len(s))), s...), 0)
}

// array writes the elements of an array, whose length does not count the
// padding before the first of them.
func (e *encoder) array(alignment int, elements func()) {
	e.u32(0)
	at := len(e.b) - 4
	e.align(alignment)
	begin := len(e.b)
	elements()
	binary.LittleEndian.PutUint32(e.b[at:], uint32(len(e.b)-begin))
}

// Device is an entry of a unit's DeviceAllow: a path and letters of r, w, m.
type Device struct{ Path, Access string }

// variant writes a value with its type. The types are those of the properties
// of units.
func (e *encoder) variant(v any) error {
	switch v := v.(type) {
	case string:
		e.signature("s")
		e.str(v)
	case bool:
		e.signature("b")
		n := uint32(0)
		if v {
			n = 1
		}
		e.u32(n)
	case int32:
		e.signature("i")
		e.u32(uint32(v))
	case uint32:
		e.signature("u")
		e.u32(v)
	case int64:
		e.signature("x")
		e.u64(uint64(v))
	case uint64:
		e.signature("t")
		e.u64(v)
	case float64:
		e.signature("d")
		e.u64(math.Float64bits(v))
	case []byte:
		e.signature("ay")
		e.array(1, func() { e.b = append(e.b, v...) })
	case []uint32:
		e.signature("au")
		e.array(4, func() {
			for _, n := range v {
				e.u32(n)
			}
		})
	case []string:
		e.signature("as")
		e.array(4, func() {
			for _, s := range v {
				e.str(s)
			}
		})
	case []Device:
		e.signature("a(ss)")
		e.array(8, func() {
			for _, d := range v {
				e.align(8)
				e.str(d.Path)
				e.str(d.Access)
			}
		})
	default:
		return fmt.Errorf("a property cannot be of type %T", v)
	}
	return nil
}

// decoder reads values; after the first that is out of bounds all are zero.
type decoder struct {
	b     []byte
	at    int
	order binary.ByteOrder
	bad   bool
}

func (d *decoder) take(alignment, n int) []byte {
	for d.at%alignment != 0 {
		d.at++
	}
	if d.bad || n < 0 || d.at > len(d.b) || n > len(d.b)-d.at {
		d.bad = true
		return make([]byte, min(max(n, 0), 8))
	}
	d.at += n
	return d.b[d.at-n : d.at]
}

func (d *decoder) u32() uint32 { return d.order.Uint32(d.take(4, 4)) }

func (d *decoder) str() string {
	n := d.u32()
	if n > maxMessage {
		d.bad = true
		return ""
	}
	s := string(d.take(1, int(n)))
	d.take(1, 1)
	if d.bad {
		return ""
	}
	return s
}

func (d *decoder) signature() string {
	n := d.take(1, 1)[0]
	s := string(d.take(1, int(n)))
	d.take(1, 1)
	if d.bad {
		return ""
	}
	return s
}

// The kinds of messages.
const (
	methodCall   = 1
	methodReturn = 2
	methodError  = 3
	signal       = 4
)

// maxMessage bounds what is read; systemd's answers have some hundred bytes.
const maxMessage = 1 << 20

// message is one that was received, as far as anything of it is used.
type message struct {
	kind                         byte
	reply                        uint32
	iface, member, errorName, to string
	signature                    string
	body                         decoder
}

// headerLength returns the length of a whole message from its first 16 bytes.
func headerLength(b []byte) (int, error) {
	order, err := orderOf(b[0])
	if err != nil {
		return 0, err
	}
	body, fields := order.Uint32(b[4:]), order.Uint32(b[12:])
	if body > maxMessage || fields > maxMessage {
		return 0, errMessage
	}
	return 16 + (int(fields)+7)/8*8 + int(body), nil
}

func orderOf(mark byte) (binary.ByteOrder, error) {
	switch mark {
	case 'l':
		return binary.LittleEndian, nil
	case 'B':
		return binary.BigEndian, nil
	}
	return nil, errMessage
}

// parse reads a whole message.
func parse(b []byte) (*message, error) {
	if len(b) < 16 {
		return nil, errMessage
	}
	length, err := headerLength(b)
	if err != nil || length != len(b) {
		return nil, errMessage
	}
	order, _ := orderOf(b[0])
	d := decoder{b: b, at: 12, order: order}
	m := &message{kind: b[1]}
	end := int(d.u32()) + 16
	for d.at < end && !d.bad {
		code := d.take(8, 1)[0]
		switch sig := d.signature(); sig {
		case "s", "o":
			s := d.str()
			switch code {
			case 2:
				m.iface = s
			case 3:
				m.member = s
			case 4:
				m.errorName = s
			case 6:
				m.to = s
			}
		case "g":
			s := d.signature()
			if code == 8 {
				m.signature = s
			}
		case "u":
			n := d.u32()
			if code == 5 {
				m.reply = n
			}
		default:
			return nil, errMessage
		}
	}
	if d.bad || d.at > end {
		return nil, errMessage
	}
	d.take(8, 0)
	m.body = decoder{b: b[d.at:], order: order}
	return m, nil
}

// call is a method call.
type call struct {
	to, path, iface, member, signature string
	body                               []byte
}

// bytes returns the call as a message.
func (c *call) bytes(serial uint32) []byte {
	e := &encoder{b: []byte{'l', methodCall, 0, 1}}
	e.u32(uint32(len(c.body)))
	e.u32(serial)
	e.array(8, func() {
		for _, f := range []struct {
			code       byte
			sig, value string
		}{{1, "o", c.path}, {2, "s", c.iface}, {3, "s", c.member}, {6, "s", c.to}, {8, "g", c.signature}} {
			if f.value == "" {
				continue
			}
			e.align(8)
			e.b = append(e.b, f.code)
			e.signature(f.sig)
			if f.sig == "g" {
				e.signature(f.value)
			} else {
				e.str(f.value)
			}
		}
	})
	e.align(8)
	return append(e.b, c.body...)
}
