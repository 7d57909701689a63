package bundle

import (
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"unicode/utf8"
)

// errShape is what scanning ends with on anything that it does not take:
// encoding/json then decides, and words the error.
var errShape = errors.New("not the expected JSON")

// scanner reads JSON whose shape is known, without reflection: encoding/json
// spends a millisecond on learning what a configuration may hold before it
// reads the first byte, a fifth of a container's start.
//
// A method called at a value consumes it. After an error all do nothing.
type scanner struct {
	b   []byte
	i   int
	err error
}

func (s *scanner) fail() {
	if s.err == nil {
		s.err = errShape
	}
}

// next returns the next byte that is not white space, or 0 at the end.
func (s *scanner) next() byte {
	for s.i < len(s.b) {
		switch c := s.b[s.i]; c {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return c
		}
	}
	return 0
}

// take consumes c, and fails at anything else.
func (s *scanner) take(c byte) {
	if s.err == nil && s.next() == c {
		s.i++
		return
	}
	s.fail()
}

// literal consumes a word if it is next.
func (s *scanner) literal(word string) bool {
	if s.err == nil && s.next() != 0 && len(s.b)-s.i >= len(word) && string(s.b[s.i:s.i+len(word)]) == word {
		s.i += len(word)
		return true
	}
	return false
}

// object calls f at the value of each key. A null is an object without keys.
func (s *scanner) object(f func(key string)) {
	s.list('{', '}', func() {
		var key string
		s.str(&key)
		s.take(':')
		if s.err == nil {
			f(key)
		}
	})
}

// array calls f at each element. A null is an array without elements.
func (s *scanner) array(f func()) { s.list('[', ']', f) }

func (s *scanner) list(open, end byte, f func()) {
	if s.literal("null") {
		return
	}
	s.take(open)
	if s.err == nil && s.next() == end {
		s.i++
		return
	}
	for s.err == nil {
		f()
		if s.err == nil && s.next() == end {
			s.i++
			return
		}
		s.take(',')
	}
}

// str reads a string; a null leaves it alone.
func (s *scanner) str(to *string) {
	if s.literal("null") {
		return
	}
	s.take('"')
	if s.err != nil {
		return
	}
	for i := s.i; i < len(s.b); i++ {
		switch c := s.b[i]; {
		case c == '"':
			*to = string(s.b[s.i:i])
			s.i = i + 1
			return
		case c == '\\' || c < ' ' || c >= utf8.RuneSelf:
			s.i--
			s.other(to)
			return
		}
	}
	s.fail()
}

func (s *scanner) boolean(to *bool) {
	switch {
	case s.literal("null"):
	case s.literal("true"):
		*to = true
	case s.literal("false"):
		*to = false
	default:
		s.fail()
	}
}

// integer reads a number between low and high.
func (s *scanner) integer(low int64, high uint64) (neg bool, n uint64, ok bool) {
	if s.literal("null") || s.err != nil || s.next() == 0 {
		return false, 0, false
	}
	begin := s.i
	if s.b[s.i] == '-' {
		neg = true
		s.i++
	}
	digits := s.i
	for s.i < len(s.b) && s.b[s.i] >= '0' && s.b[s.i] <= '9' {
		s.i++
	}
	text := s.b[digits:s.i]
	n, err := strconv.ParseUint(string(text), 10, 64)
	switch {
	case err != nil || len(text) > 1 && text[0] == '0',
		s.i < len(s.b) && (s.b[s.i] == '.' || s.b[s.i] == 'e' || s.b[s.i] == 'E'),
		neg && n > uint64(-(low+1))+1, !neg && n > high:
		s.i = begin
		s.fail()
		return false, 0, false
	}
	return neg, n, true
}

func signed[T ~int | ~int64 | ~int32](s *scanner, low int64, high uint64, to *T) {
	if neg, n, ok := s.integer(low, high); ok {
		*to = T(n)
		if neg {
			*to = -T(n)
		}
	}
}

func unsigned[T ~uint | ~uint64 | ~uint32](s *scanner, high uint64, to *T) {
	if neg, n, ok := s.integer(-1, high); ok {
		if neg {
			s.fail()
		}
		*to = T(n)
	}
}

func (s *scanner) i64(to *int64)    { signed(s, math.MinInt64, math.MaxInt64, to) }
func (s *scanner) integerI(to *int) { signed(s, math.MinInt64, math.MaxInt64, to) }
func (s *scanner) u64(to *uint64)   { unsigned(s, math.MaxUint64, to) }
func (s *scanner) u32(to *uint32)   { unsigned(s, math.MaxUint32, to) }

// optional reads a value that may be null into a pointer.
func optional[T any](s *scanner, to **T, read func(*T)) {
	if s.literal("null") {
		*to = nil
		return
	}
	v := new(T)
	read(v)
	*to = v
}

// each reads an array of values. It is never nil, as with encoding/json.
func each[T any](s *scanner, to *[]T, read func(*T)) {
	if s.literal("null") {
		*to = nil
		return
	}
	*to = []T{}
	s.array(func() {
		var v T
		read(&v)
		*to = append(*to, v)
	})
}

func (s *scanner) strings(to *[]string) { each(s, to, s.str) }

// other has encoding/json read a value.
func (s *scanner) other(to any) {
	if raw := s.raw(); s.err == nil {
		if json.Unmarshal(raw, to) != nil {
			s.fail()
		}
	}
}

// raw consumes a value by its brackets and quotes alone; what is between them
// is for the caller to check.
func (s *scanner) raw() []byte {
	if s.err != nil || s.next() == 0 {
		s.fail()
		return nil
	}
	begin, depth := s.i, 0
	for ; s.i < len(s.b); s.i++ {
		switch s.b[s.i] {
		case '"':
			for s.i++; s.i < len(s.b) && s.b[s.i] != '"'; s.i++ {
				if s.b[s.i] == '\\' {
					s.i++
				}
			}
			if depth == 0 {
				s.i = min(s.i+1, len(s.b))
				return s.b[begin:s.i]
			}
		case '{', '[':
			depth++
		case '}', ']':
			depth--
			if depth == 0 {
				s.i++
				return s.b[begin:s.i]
			}
			if depth < 0 {
				return s.b[begin:s.i]
			}
		case ',', ' ', '\t', '\n', '\r':
			if depth == 0 {
				return s.b[begin:s.i]
			}
		}
	}
	return s.b[begin:]
}
