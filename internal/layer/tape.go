package layer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
)

// tapeBuffer is how much of a tar is read, hashed and stored at once.
const tapeBuffer = 1 << 20

// tape is a stream on its way to disk. All of it is hashed and stored in large
// pieces, and it can be read meanwhile. What nobody reads, Seek passes over:
// package archive/tar skips the contents of files that way, so that only
// headers are copied.
type tape struct {
	stop  func() error // why to go no further
	src   io.Reader
	store func(p []byte) error
	limit int64
	hash  hash.Hash
	buf   []byte
	r     int   // what is read of buf
	n     int   // what is filled of buf
	pos   int64 // what is read of the stream
	err   error // why buf cannot be filled again
}

func newTape(ctx context.Context, src io.Reader, limit int64, store func(p []byte) error) *tape {
	return &tape{stop: ctx.Err, src: src, store: store, limit: limit, hash: sha256.New(), buf: make([]byte, tapeBuffer)}
}

// fill reads the next piece, when the last one is used up.
func (t *tape) fill() error {
	if t.r < t.n {
		return nil
	}
	if t.err != nil {
		return t.err
	}
	if err := t.stop(); err != nil {
		t.err = err
		return err
	}
	t.r, t.n = 0, 0
	for idle := 0; t.n < len(t.buf) && t.err == nil; {
		var n int
		n, t.err = t.src.Read(t.buf[t.n:])
		t.n += n
		if idle++; n > 0 {
			idle = 0
		} else if idle > 100 && t.err == nil {
			t.err = io.ErrNoProgress
		}
	}
	if t.n == 0 {
		return t.err
	}
	if t.pos+int64(t.n) > t.limit {
		t.n, t.err = 0, exceeded("the layer is longer than %d bytes", t.limit)
		return t.err
	}
	t.hash.Write(t.buf[:t.n])
	if err := t.store(t.buf[:t.n]); err != nil {
		t.n, t.err = 0, err
	}
	if t.n == 0 {
		return t.err
	}
	return nil
}

// Read implements io.Reader.
func (t *tape) Read(p []byte) (int, error) {
	if err := t.fill(); err != nil {
		return 0, err
	}
	n := copy(p, t.buf[t.r:t.n])
	t.r += n
	t.pos += int64(n)
	return n, nil
}

// Seek implements io.Seeker, but goes only forward.
func (t *tape) Seek(offset int64, whence int) (int64, error) {
	if whence != io.SeekCurrent || offset < 0 {
		return -1, errors.ErrUnsupported
	}
	for offset > 0 {
		if err := t.fill(); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return -1, err
		}
		n := min(offset, int64(t.n-t.r))
		t.r += int(n)
		t.pos += n
		offset -= n
	}
	return t.pos, nil
}

// drain passes over the rest of the stream.
func (t *tape) drain() error {
	for {
		if err := t.fill(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read layer: %w", err)
		}
		t.pos += int64(t.n - t.r)
		t.r = t.n
	}
}
