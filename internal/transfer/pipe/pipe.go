// Package pipe lets the steps of a transfer work at the same time: what one
// goroutine reads, another inflates, and a third hashes and writes.
package pipe

import (
	"context"
	"errors"
	"io"
	"sync"
)

const chunkSize = 128 << 10

// Pipe hands chunks from one goroutine to another without copying them. Its
// buffer lets both work at the same time, and bounds how far the writer gets
// ahead.
type Pipe struct {
	full  chan []byte
	empty chan []byte
	gone  chan struct{} // the reader left
	once  sync.Once
	err   error // why the writer ended; set before full is closed
	rest  []byte
	last  []byte
}

// New returns a pipe with room for n chunks.
func New(n int) *Pipe {
	return &Pipe{full: make(chan []byte, n), empty: make(chan []byte, n+2), gone: make(chan struct{})}
}

// Buffer returns a chunk to fill.
func (p *Pipe) Buffer() []byte {
	select {
	case b := <-p.empty:
		return b[:chunkSize]
	default:
		return make([]byte, chunkSize)
	}
}

// Send passes b to the reader, which then owns it. It reports false if the
// reader has left.
func (p *Pipe) Send(ctx context.Context, b []byte) bool {
	select {
	case p.full <- b:
		return true
	case <-p.gone:
	case <-ctx.Done():
	}
	return false
}

// End ends the stream: with io.EOF if err is nil.
func (p *Pipe) End(err error) {
	if err == nil {
		err = io.EOF
	}
	p.err = err
	close(p.full)
}

// Read implements io.Reader.
func (p *Pipe) Read(b []byte) (int, error) {
	if len(p.rest) == 0 {
		if p.last != nil {
			select {
			case p.empty <- p.last:
			default:
			}
			p.last = nil
		}
		next, ok := <-p.full
		if !ok {
			return 0, p.err
		}
		p.rest, p.last = next, next
	}
	n := copy(b, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

// Leave tells the writer that nobody reads any more.
func (p *Pipe) Leave() { p.once.Do(func() { close(p.gone) }) }

// Ahead reads from r in a goroutine of its own, so that what r does (inflate)
// and what the reader does (hash, write) go on at the same time. The goroutine
// ends with r, or soon after stop.
func Ahead(ctx context.Context, r io.Reader) (out io.Reader, stop func()) {
	p := New(8)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			b := p.Buffer()
			n, err := Fill(r, b)
			if n > 0 && !p.Send(ctx, b[:n]) {
				p.End(context.Cause(ctx))
				return
			}
			if err != nil {
				if errors.Is(err, io.EOF) {
					err = nil
				}
				p.End(err)
				return
			}
		}
	}()
	return p, func() { p.Leave(); <-done }
}

// Fill reads until b is full or r ends, and returns r's own error: io.ReadFull
// would not tell a plain end from a broken one.
func Fill(r io.Reader, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var m int
		m, err = r.Read(b[n:])
		n += m
	}
	return n, err
}
