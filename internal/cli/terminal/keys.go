package terminal

import (
	"errors"
	"io"
	"slices"
	"strings"

	"lade/internal/errdefs"
)

// DefaultDetachKeys is the sequence that detaches unless a person chose
// another: Docker's.
const DefaultDetachKeys = "ctrl-p,ctrl-q"

// ErrDetached is what an EscapeReader ends with when its keys were typed.
var ErrDetached = errors.New("detached by keys")

// controls are the characters that ctrl makes besides the letters.
const controls = "[\\]^_"

// ParseKeys turns a list such as "ctrl-p,ctrl-q" or "ctrl-],x" into the bytes
// that a terminal sends for it.
func ParseKeys(list string) ([]byte, error) {
	var keys []byte
	for name := range strings.SplitSeq(list, ",") {
		k, err := parseKey(name)
		if err != nil {
			return nil, errdefs.Hint(err, `write keys as single characters or ctrl-X, such as "ctrl-p,ctrl-q"`)
		}
		keys = append(keys, k)
	}
	return keys, nil
}

func parseKey(name string) (byte, error) {
	c, ctrl := strings.CutPrefix(strings.ToLower(name), "ctrl-")
	switch {
	case len(name) == 1:
		return name[0], nil
	case !ctrl || len(c) != 1:
	case c[0] >= 'a' && c[0] <= 'z':
		return c[0] - 'a' + 1, nil
	case c == "@":
		return 0, nil
	case strings.Contains(controls, c):
		return byte(27 + strings.Index(controls, c)), nil
	}
	return 0, errdefs.New(errdefs.Invalid, "detach keys: %q is no key", name)
}

// EscapeReader passes on what it reads until a sequence of keys comes; then it
// ends with ErrDetached. The beginning of the sequence is held back until it is
// clear that it is not the whole.
type EscapeReader struct {
	r       io.Reader
	keys    []byte
	matched int    // how many of keys the last bytes were
	ready   []byte // bytes to hand out
	err     error
}

// NewEscapeReader returns a reader of r that ends at keys.
func NewEscapeReader(r io.Reader, keys []byte) *EscapeReader {
	return &EscapeReader{r: r, keys: keys}
}

// Read reads input up to the keys.
func (e *EscapeReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(e.ready) == 0 {
		if e.err != nil {
			return 0, e.err
		}
		n, err := e.r.Read(p)
		e.scan(p[:n])
		if err != nil && e.err == nil {
			e.ready, e.matched = append(e.ready, e.keys[:e.matched]...), 0
			e.err = err
		}
	}
	n := copy(p, e.ready)
	e.ready = e.ready[n:]
	return n, nil
}

// scan sorts bytes into those to hand out and those to hold back.
func (e *EscapeReader) scan(p []byte) {
	for _, c := range p {
		switch {
		case e.err != nil:
			return
		case len(e.keys) > 0 && c == e.keys[e.matched]:
			if e.matched++; e.matched == len(e.keys) {
				e.err = ErrDetached
			}
		case e.matched == 0:
			e.ready = append(e.ready, c)
		default:
			// The first byte held back is not the beginning of the keys; one
			// of those after it may be.
			again := append(slices.Clone(e.keys[1:e.matched]), c)
			e.ready, e.matched = append(e.ready, e.keys[0]), 0
			e.scan(again)
		}
	}
}
