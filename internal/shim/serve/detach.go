package serve

import "bytes"

// detacher looks for the keys that detach a client in what it types.
type detacher struct {
	keys    []byte
	matched int // how many of keys the last bytes were; they are held back
}

// feed takes what was typed and returns what goes to the container, and
// whether the client detaches. What follows the keys is dropped.
func (d *detacher) feed(typed []byte) (pass []byte, detach bool) {
	if len(d.keys) == 0 {
		return typed, false
	}
	if d.matched == 0 && !bytes.Contains(typed, d.keys[:1]) {
		return typed, false
	}
	out := make([]byte, 0, len(typed)+d.matched)
	for _, b := range typed {
		for d.matched > 0 && b != d.keys[d.matched] {
			// The longest end of what was held that is a beginning still.
			held := d.keys[:d.matched]
			next := d.matched - 1
			for next > 0 && string(held[len(held)-next:]) != string(d.keys[:next]) {
				next--
			}
			out = append(out, held[:d.matched-next]...)
			d.matched = next
		}
		if b != d.keys[d.matched] {
			out = append(out, b)
			continue
		}
		d.matched++
		if d.matched == len(d.keys) {
			d.matched = 0
			return out, true
		}
	}
	return out, false
}
