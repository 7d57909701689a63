package layer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"lade/internal/errdefs"
	"lade/internal/linux/fsat"
)

// Entry is a file of a layer, as a View finds it.
type Entry struct {
	Attr
	Type   uint16 // as in stat(2)
	Size   int64
	Device uint32 // in the kernel's encoding of 32 bits
	Links  uint32
	Target string            // of a symbolic link
	Xattrs map[string]string // without those of overlayfs

	opaque bool
	number uint64 // in an image
	path   string // in a directory
}

// IsDir reports whether the entry is a directory.
func (e Entry) IsDir() bool { return e.Type == typeDir }

// whiteout reports whether the entry says that there is none.
func (e Entry) whiteout() bool { return e.Type == typeChar && e.Device == 0 }

// View looks into a layer without mounting it. No link is followed.
type View interface {
	// Root returns the root directory.
	Root() (Entry, error)
	// Child returns the entry of that name in a directory; ok is false when
	// there is none.
	Child(dir Entry, name string) (e Entry, ok bool, err error)
	// Content returns what a regular file holds. The caller closes it.
	Content(e Entry) (io.ReadCloser, error)
	// Pending returns the layer's pending work.
	Pending() ([]byte, error)
}

// OpenImage returns a view of an EROFS image made by WriteEROFS.
func OpenImage(r io.ReaderAt) (View, error) {
	info, err := ReadInfo(r)
	if err != nil {
		return nil, err
	}
	m := &image{r: r, info: info}
	super := make([]byte, superSize)
	if _, err := r.ReadAt(super, superOffset); err != nil {
		return nil, fmt.Errorf("read superblock: %w", err)
	}
	le := binary.LittleEndian
	if le.Uint32(super) != superMagic || super[12] != blockBits {
		return nil, errdefs.New(errdefs.DataLoss, "read superblock: not one of ours")
	}
	m.root = uint64(le.Uint16(super[14:]))
	m.meta = int64(le.Uint32(super[40:])) << blockBits
	return m, nil
}

// image is the View of an EROFS image.
type image struct {
	r    io.ReaderAt
	info Info
	root uint64
	meta int64
}

func damaged(format string, args ...any) error {
	return errdefs.New(errdefs.DataLoss, "read image: "+format, args...)
}

func (m *image) read(at int64, n int) ([]byte, error) {
	if at < 0 || n < 0 || at+int64(n) > m.info.Size {
		return nil, damaged("%d bytes at %d are outside of it", n, at)
	}
	b := make([]byte, n)
	if n == 0 {
		return b, nil
	}
	if _, err := m.r.ReadAt(b, at); err != nil {
		return nil, fmt.Errorf("read image: %w", err)
	}
	return b, nil
}

// Root implements View.
func (m *image) Root() (Entry, error) { return m.entry(m.root) }

// raw is an inode as it is on disk, and where what follows it begins.
type raw struct {
	b    []byte
	tail int64
	size int64
}

func (m *image) inode(number uint64) (raw, error) {
	if number > uint64(m.info.Size)>>slotBits {
		return raw{}, damaged("no inode %d", number)
	}
	at := m.meta + int64(number)<<slotBits
	b, err := m.read(at, inodeSize)
	if err != nil {
		return raw{}, err
	}
	le := binary.LittleEndian
	xattrs := 0
	if n := int(le.Uint16(b[2:])); n > 0 {
		xattrs = xattrHeader + 4*(n-1)
	}
	n := raw{b: b, tail: at + inodeSize + int64(xattrs), size: int64(le.Uint64(b[8:]))}
	if le.Uint16(b)&1 == 0 || n.size < 0 {
		return raw{}, damaged("inode %d is malformed", number)
	}
	return n, nil
}

func (n raw) layout() int   { return int(binary.LittleEndian.Uint16(n.b) >> 1 & 7) }
func (n raw) mode() uint16  { return binary.LittleEndian.Uint16(n.b[4:]) }
func (n raw) block() uint32 { return binary.LittleEndian.Uint32(n.b[16:]) }

func (m *image) entry(number uint64) (Entry, error) {
	n, err := m.inode(number)
	if err != nil {
		return Entry{}, err
	}
	le := binary.LittleEndian
	e := Entry{
		Attr: Attr{
			Mode: uint32(n.mode() & 0o7777), UID: le.Uint32(n.b[24:]), GID: le.Uint32(n.b[28:]),
			Seconds: int64(le.Uint64(n.b[32:])), Nanos: le.Uint32(n.b[40:]),
		},
		Type: n.mode() & typeMask, Size: n.size, Links: le.Uint32(n.b[44:]), number: number,
	}
	xattrs := int(le.Uint16(n.b[2:]))
	if xattrs > 0 {
		size := xattrHeader + 4*(xattrs-1)
		b, err := m.read(n.tail-int64(size), size)
		if err != nil {
			return Entry{}, err
		}
		all, ok := decodeXattrs(b)
		if !ok {
			return Entry{}, damaged("attributes of inode %d are malformed", number)
		}
		e.setXattrs(all)
	}
	switch e.Type {
	case typeChar, typeBlock:
		e.Device = n.block()
	case typeSymlink:
		at := n.tail
		if n.layout() == layoutPlain {
			at = int64(n.block()) << blockBits
		}
		if n.size > pathMax {
			return Entry{}, damaged("symbolic link of %d bytes", n.size)
		}
		b, err := m.read(at, int(n.size))
		if err != nil {
			return Entry{}, err
		}
		e.Target = string(b)
	}
	return e, nil
}

// setXattrs keeps what is the file's own, and takes out what is overlayfs's.
func (e *Entry) setXattrs(all map[string]string) {
	e.opaque = all[opaqueXattr] == "y"
	delete(all, opaqueXattr)
	if len(all) > 0 {
		e.Xattrs = all
	}
}

// Child implements View. Directories are sorted, over their blocks and in them.
func (m *image) Child(dir Entry, name string) (Entry, bool, error) {
	n, err := m.inode(dir.number)
	if err != nil || n.mode()&typeMask != typeDir {
		return Entry{}, false, err
	}
	blocks := int((n.size + blockSize - 1) >> blockBits)
	for low, high := 0, blocks; low < high; {
		mid := (low + high) / 2
		list, err := m.dirBlock(n, mid)
		if err != nil {
			return Entry{}, false, err
		}
		switch {
		case name < list[0].name:
			high = mid
		case name > list[len(list)-1].name:
			low = mid + 1
		default:
			for _, d := range list {
				if d.name == name {
					e, err := m.entry(d.number)
					return e, err == nil, err
				}
			}
			return Entry{}, false, nil
		}
	}
	return Entry{}, false, nil
}

// listed is a name in a directory of an image.
type listed struct {
	name   string
	number uint64
	kind   byte
}

// dirBlock reads one block of a directory, which has at least one name.
func (m *image) dirBlock(n raw, i int) ([]listed, error) {
	size := min(n.size-int64(i)<<blockBits, blockSize)
	b, err := m.read((int64(n.block())+int64(i))<<blockBits, int(size))
	if err != nil {
		return nil, err
	}
	if len(b) < direntSize {
		return nil, damaged("a directory block of %d bytes", len(b))
	}
	le := binary.LittleEndian
	count := int(le.Uint16(b[8:])) / direntSize
	if count == 0 || count*direntSize > len(b) {
		return nil, damaged("a directory block of %d names", count)
	}
	list := make([]listed, count)
	for k := range list {
		r := b[k*direntSize:]
		from, to := int(le.Uint16(r[8:])), len(b)
		if k+1 < count {
			to = int(le.Uint16(r[direntSize+8:]))
		}
		if from > to || to > len(b) || from < count*direntSize {
			return nil, damaged("a name from %d to %d", from, to)
		}
		text := b[from:to]
		if k+1 == count {
			text = bytes.TrimRight(text, "\x00")
		}
		list[k] = listed{string(text), le.Uint64(r), r[10]}
	}
	return list, nil
}

// Content implements View.
func (m *image) Content(e Entry) (io.ReadCloser, error) {
	n, err := m.inode(e.number)
	if err != nil {
		return nil, err
	}
	if n.layout() != layoutChunks {
		return io.NopCloser(io.NewSectionReader(m.r, int64(n.block())<<blockBits, n.size)), nil
	}
	return io.NopCloser(io.NewSectionReader(chunked{m, n, blockBits + int(n.block()&31)}, 0, n.size)), nil
}

// chunked reads a file with holes.
type chunked struct {
	m    *image
	n    raw
	bits int
}

// ReadAt implements io.ReaderAt.
func (c chunked) ReadAt(p []byte, at int64) (int, error) {
	done := 0
	for done < len(p) {
		chunk, in := at>>c.bits, at&(1<<c.bits-1)
		part := p[done:]
		if rest := int64(1)<<c.bits - in; int64(len(part)) > rest {
			part = part[:rest]
		}
		index, err := c.m.read(c.n.tail+chunk*chunkIndexBytes, chunkIndexBytes)
		if err != nil {
			return done, err
		}
		if block := binary.LittleEndian.Uint32(index); block == noBlock {
			clear(part)
		} else if _, err := c.m.r.ReadAt(part, int64(block)<<blockBits+in); err != nil {
			return done, err
		}
		done += len(part)
		at += int64(len(part))
	}
	return done, nil
}

// Pending implements View.
func (m *image) Pending() ([]byte, error) {
	return m.read(m.info.pendingAt, int(m.info.pendingSize))
}

// OpenDirectory returns a view of a directory made by WriteDirectory.
func OpenDirectory(dir string) (View, error) {
	_, err := ReadDirectoryInfo(dir)
	return directory(dir), err
}

// directory is the View of a directory.
type directory string

// Root implements View.
func (d directory) Root() (Entry, error) { return entryAt(filepath.Join(string(d), DiffDir)) }

// Child implements View. The parts of a path were all seen to be directories,
// in a tree that nobody changes.
func (d directory) Child(dir Entry, name string) (Entry, bool, error) {
	e, err := entryAt(filepath.Join(dir.path, name))
	if errors.Is(err, fs.ErrNotExist) {
		return Entry{}, false, nil
	}
	return e, err == nil, err
}

func entryAt(path string) (Entry, error) {
	st, err := fsat.StatPath(path)
	if err != nil {
		return Entry{}, err
	}
	e := Entry{
		Attr: Attr{Mode: st.Mode & 0o7777, UID: st.UID, GID: st.GID, Seconds: st.Seconds, Nanos: uint32(st.Nanos)},
		Type: uint16(st.Mode & typeMask), Size: st.Size, Device: st.Device, Links: st.Links, Target: st.Target, path: path,
	}
	e.setXattrs(st.Xattrs)
	return e, nil
}

// Content implements View.
func (d directory) Content(e Entry) (io.ReadCloser, error) { return os.Open(e.path) }

// Pending implements View.
func (d directory) Pending() ([]byte, error) {
	return os.ReadFile(filepath.Join(string(d), pendingFile))
}
