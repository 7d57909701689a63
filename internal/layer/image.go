package layer

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"

	"github.com/opencontainers/go-digest"
)

// File is where an image is written: an *os.File, empty.
type File interface {
	io.ReaderAt
	io.WriterAt
}

// Options says how a tar is read.
type Options struct {
	Limits Limits
}

// WriteEROFS reads an uncompressed tar to the end of its stream and writes it
// to f as an EROFS image. It does not sync. After an error f holds rubbish.
//
// Errors of class Invalid and Exhausted are about the tar, others are those of
// the source and of f.
func WriteEROFS(ctx context.Context, f File, src io.Reader, o Options) (Info, error) {
	w := &imageWriter{f: f, limits: o.Limits.withDefaults()}
	at := int64(tapeStart)
	w.tape = newTape(ctx, src, w.limits.Bytes, func(p []byte) error {
		n, err := f.WriteAt(p, at)
		at += int64(n)
		return err
	})
	t, err := readTar(ctx, w.tape, w, w.limits)
	if err != nil {
		return Info{}, err
	}
	w.out = &appender{f: f, hash: sha256.New(), at: alignUp(at, blockSize)}
	if err := w.expandSparse(ctx); err != nil {
		return Info{}, err
	}
	w.layout = newLayout(t)
	info, err := w.finish()
	if err != nil {
		return Info{}, fmt.Errorf("write layer: %w", err)
	}
	return info, nil
}

// imageWriter writes one image.
type imageWriter struct {
	f      File
	limits Limits
	tape   *tape
	out    *appender
	layout *layout
	sparse []sparseFile
	slots  []uint32 // for each inode, its number in the image
}

// keep implements keeper: the content is where the tape puts it.
func (w *imageWriter) keep(h *tar.Header, tr *tar.Reader, start int64) (int64, uint8, error) {
	if !isSparse(h) {
		return tapeStart + w.tape.pos, 0, nil
	}
	if _, err := io.CopyBuffer(onlyWriter{io.Discard}, tr, make([]byte, 256<<10)); err != nil {
		return 0, 0, err
	}
	w.sparse = append(w.sparse, sparseFile{start: start, end: alignUp(w.tape.pos, blockSize)})
	return int64(len(w.sparse) - 1), flagSparse, nil
}

// onlyWriter hides the methods with which io.Copy would take a small buffer.
type onlyWriter struct{ io.Writer }

// finish writes all that follows the contents, and then the superblock.
func (w *imageWriter) finish() (Info, error) {
	l, meta := w.layout, w.out.at
	length := w.place()
	data := alignUp(meta+length, blockSize)
	if err := w.inodes(meta, data); err != nil {
		return Info{}, err
	}
	if err := w.directories(); err != nil {
		return Info{}, err
	}
	info := Info{
		DiffID:  digest.NewDigest(digest.SHA256, w.tape.hash),
		TarSize: w.tape.pos,
		Entries: len(l.order),
		Root:    l.t.root(),
	}
	pending := l.pending()
	info.pendingAt, info.pendingSize = w.out.at, int64(len(pending))
	w.out.write(pending)
	// A whole page, which is the unit that the kernel reads.
	w.out.pad(alignUp(w.out.at, 4096))
	info.Size = w.out.at
	if info.Size>>blockBits >= int64(maxBlocks) {
		return Info{}, exceeded("an image of %d bytes", info.Size)
	}
	super := superblock{
		inodes: uint64(len(l.order)), blocks: uint32(info.Size >> blockBits),
		meta: uint32(meta >> blockBits), root: firstSlot, chunked: len(w.sparse) > 0,
	}.encode()
	if err := w.out.flush(); err != nil {
		return Info{}, err
	}
	w.out.hash.Write(super)
	info.Meta = digest.NewDigest(digest.SHA256, w.out.hash)
	head := make([]byte, tapeStart)
	if err := info.encode(head[:superOffset]); err != nil {
		return Info{}, err
	}
	copy(head[superOffset:], super)
	_, err := w.f.WriteAt(head, 0)
	return info, err
}

// tail is what follows an inode and its attributes.
func (w *imageWriter) tail(n *inode, at int64, xattrs int) (size int, layout int) {
	switch {
	case n.kind() == typeSymlink:
		// The kernel wants such a tail within one block.
		if (at+inodeSize+int64(xattrs))&(blockSize-1)+int64(n.size) <= blockSize {
			return int(n.size), layoutInline
		}
	case n.flags&flagSparse != 0:
		return chunkIndexBytes * w.sparse[n.data].chunks(n.size), layoutChunks
	}
	return 0, layoutPlain
}

// place gives every inode its number, and returns the length of them all.
func (w *imageWriter) place() int64 {
	l := w.layout
	w.slots = make([]uint32, l.t.inodes.n)
	at := int64(firstSlot * slotSize)
	for _, i := range l.order {
		n := l.t.inodes.at(i)
		xattrs := len(l.xattrs(n))
		size, layout := w.tail(n, at, xattrs)
		if n.kind() == typeSymlink && layout == layoutPlain {
			at = alignUp(at, blockSize)
			size, _ = w.tail(n, at, xattrs)
		}
		w.slots[i] = uint32(at >> slotBits)
		at = alignUp(at+inodeSize+int64(xattrs)+int64(size), slotSize)
	}
	return at
}

// inodes writes the inodes; directories and long symbolic links, which have
// blocks of their own, are to begin at data.
func (w *imageWriter) inodes(meta, data int64) error {
	l := w.layout
	var list []dirent
	var record [inodeSize]byte
	for serial, i := range l.order {
		n := l.t.inodes.at(i)
		at := int64(w.slots[i]) << slotBits
		xattrs := l.xattrs(n)
		_, layout := w.tail(n, at, len(xattrs))
		d := diskInode{inode: n, layout: layout, serial: uint32(serial + 1), links: l.links[i], size: n.size, xattrs: len(xattrs)}
		switch {
		case n.isDir():
			list = l.listing(i, list)
			d.size = dirSize(list)
			d.u = uint32(data >> blockBits)
			data = alignUp(data+int64(d.size), blockSize)
		case layout == layoutChunks:
			d.u = uint32(w.sparse[n.data].bits - blockBits)
		case n.kind() == typeRegular:
			d.u = uint32(n.data >> blockBits)
		case n.kind() == typeSymlink && layout == layoutPlain:
			d.u = uint32(data >> blockBits)
			data = alignUp(data+int64(n.size), blockSize)
		case n.kind() == typeChar || n.kind() == typeBlock:
			d.u = n.aux
		}
		clear(record[:])
		d.put(record[:])
		w.out.pad(meta + at)
		w.out.write(record[:])
		w.out.write(xattrs)
		switch layout {
		case layoutInline:
			w.out.write(l.t.target(n))
		case layoutChunks:
			w.sparse[n.data].writeIndex(w.out, n.size)
		}
		if w.out.err != nil {
			return w.out.err
		}
	}
	w.out.pad(alignUp(w.out.at, blockSize))
	return w.out.err
}

// directories writes what inodes promised.
func (w *imageWriter) directories() error {
	l := w.layout
	var list []dirent
	number := func(i uint32) uint64 { return uint64(w.slots[i]) }
	mode := func(i uint32) uint64 { return uint64(l.t.inodes.at(i).mode) }
	block := make([]byte, blockSize)
	for _, i := range l.order {
		n := l.t.inodes.at(i)
		switch {
		case n.isDir():
			list = l.listing(i, list)
			for rest := list; len(rest) > 0; {
				count, _ := packed(rest)
				putDirents(block, rest[:count], number, mode)
				w.out.write(block)
				rest = rest[count:]
			}
		case n.kind() == typeSymlink:
			if _, layout := w.tail(n, int64(w.slots[i])<<slotBits, len(l.xattrs(n))); layout == layoutPlain {
				w.out.write(l.t.target(n))
				w.out.pad(alignUp(w.out.at, blockSize))
			}
		}
		if w.out.err != nil {
			return w.out.err
		}
	}
	return w.out.err
}

// appender writes the end of an image, and hashes it. Its first error stays.
type appender struct {
	f    io.WriterAt
	hash hash.Hash
	buf  []byte
	at   int64 // where the next byte goes
	err  error
}

func (a *appender) write(p []byte) {
	a.at += int64(len(p))
	a.buf = append(a.buf, p...)
	if len(a.buf) >= 256<<10 {
		_ = a.flush()
	}
}

// pad writes zeros up to the offset at.
func (a *appender) pad(at int64) {
	var zero [blockSize]byte
	for a.at < at {
		a.write(zero[:min(at-a.at, blockSize)])
	}
}

func (a *appender) flush() error {
	if a.err == nil && len(a.buf) > 0 {
		a.hash.Write(a.buf)
		_, a.err = a.f.WriteAt(a.buf, a.at-int64(len(a.buf)))
	}
	a.buf = a.buf[:0]
	return a.err
}

func (a *appender) uint32(v uint32) {
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], v)
	a.write(b[:])
}
