package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
)

// sparseFile is a file whose holes the tar leaves out. What the tar has of it
// is not its content, so the parts that hold something are written once more,
// after the tar; an index says where each of its chunks is, if anywhere.
type sparseFile struct {
	start, end int64 // its headers and data on the tape
	bits       int   // log2 of the size of a chunk
	runs       []chunkRun
}

// chunkRun is a row of chunks that lie one after the other in the image.
type chunkRun struct {
	first uint32 // of the file's chunks
	block uint32
	count uint32
}

func (s *sparseFile) chunks(size uint64) int { return int((size + 1<<s.bits - 1) >> s.bits) }

func (s *sparseFile) writeIndex(out *appender, size uint64) {
	next := uint32(0)
	holes := func(end uint32) {
		for ; next < end; next++ {
			out.uint32(noBlock)
		}
	}
	for _, r := range s.runs {
		holes(r.first)
		for i := range r.count {
			out.uint32(r.block + i<<(s.bits-blockBits))
		}
		next = r.first + r.count
	}
	holes(uint32(s.chunks(size)))
}

// expandSparse reads the sparse files again, from the tar in the image, and
// writes what is not zero in them.
func (w *imageWriter) expandSparse(ctx context.Context) error {
	for i := range w.sparse {
		s := &w.sparse[i]
		tr := tar.NewReader(io.NewSectionReader(w.f, tapeStart+s.start, s.end-s.start))
		h, err := tr.Next()
		if err != nil {
			return fmt.Errorf("expand a sparse file: %w", err)
		}
		for s.bits = minChunkBits; s.chunks(uint64(h.Size)) > maxChunksOfAFile && s.bits < maxChunkBits; {
			s.bits++
		}
		if err := w.expand(ctx, s, tr); err != nil {
			return fmt.Errorf("expand sparse file %.300q: %w", h.Name, err)
		}
	}
	return nil
}

func (w *imageWriter) expand(ctx context.Context, s *sparseFile, r io.Reader) error {
	buf, zero := make([]byte, max(1<<s.bits, 256<<10)), make([]byte, 1<<s.bits)
	for chunk := uint32(0); ; {
		n, err := io.ReadFull(r, buf)
		for b := buf[:n]; len(b) > 0; chunk++ {
			part := b[:min(len(b), 1<<s.bits)]
			b = b[len(part):]
			if bytes.Equal(part, zero[:len(part)]) {
				continue
			}
			block := uint32(w.out.at >> blockBits)
			if last := len(s.runs) - 1; last >= 0 && s.runs[last].first+s.runs[last].count == chunk {
				s.runs[last].count++
			} else {
				s.runs = append(s.runs, chunkRun{chunk, block, 1})
			}
			w.out.write(part)
			w.out.pad(alignUp(w.out.at, blockSize))
			if w.out.at > 2*w.limits.Bytes {
				return exceeded("the layer's sparse files fill more than %d bytes", w.limits.Bytes)
			}
		}
		switch err {
		case nil:
		case io.EOF, io.ErrUnexpectedEOF:
			return w.out.err
		default:
			return readError(err)
		}
		if w.out.err != nil {
			return w.out.err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}
