package layer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"path"
	"strings"

	"lade/internal/errdefs"
)

// The names with which a tar says what lower layers have and this one has not.
const (
	whiteoutPrefix = ".wh."
	whiteoutMeta   = ".wh..wh."
	whiteoutOpaque = ".wh..wh..opq"
)

// keeper takes the content of files while the tar goes by. keep is called for
// each file that is not empty, with the tape at its first byte; it may leave
// the content unread but for a sparse file's. start is where the file's headers
// begin on the tape, data what inode.data will be.
type keeper interface {
	keep(h *tar.Header, tr *tar.Reader, start int64) (data int64, flags uint8, err error)
}

// reader builds a tree from a tar.
type reader struct {
	tree *tree
	keep keeper
	size int64 // of all files
}

// readTar reads all of the tape and returns the tree in it.
func readTar(ctx context.Context, tp *tape, k keeper, l Limits) (*tree, error) {
	r := &reader{tree: newTree(l), keep: k}
	for {
		start := tp.pos
		// One for each header, so that we always know where that begins.
		tr := tar.NewReader(tp)
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, readError(err)
		}
		data := tp.pos
		if err := r.entry(h, tr, start); err != nil {
			return nil, fmt.Errorf("layer entry %.300q: %w", h.Name, err)
		}
		if !isSparse(h) {
			if _, err := tp.Seek(data+storedSize(h)-tp.pos, io.SeekCurrent); err != nil {
				return nil, readError(err)
			}
		}
		// Some leave out the padding of the last file.
		_, err = tp.Seek(alignUp(tp.pos, blockSize)-tp.pos, io.SeekCurrent)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return nil, readError(err)
		}
	}
	// A tar is over before its stream is: padding is part of what was hashed.
	if err := tp.drain(); err != nil {
		return nil, err
	}
	return r.tree, ctx.Err()
}

// readError gives what archive/tar says a class: its own complaints are about
// the tar, others come from the source, the limit or the disk.
func readError(err error) error {
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, tar.ErrFieldTooLong) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errdefs.With(errdefs.Invalid, err)
	}
	return fmt.Errorf("read layer: %w", err)
}

// entry puts one header into the tree.
func (r *reader) entry(h *tar.Header, tr *tar.Reader, start int64) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := r.clean(h.Name)
	if err != nil {
		return err
	}
	if strings.HasPrefix(name, whiteoutMeta) && name != whiteoutOpaque || strings.Contains(name, "/"+whiteoutMeta) && path.Base(name) != whiteoutOpaque {
		return nil // aufs keeps such files for itself, and some tars still have them
	}
	if err := r.tree.count(len(h.Name)); err != nil {
		return err
	}
	n, err := r.inode(h)
	if err != nil {
		return err
	}
	if name == "" {
		if !n.isDir() {
			return invalid("the root is not a directory")
		}
		r.tree.redo(0, n)
		return nil
	}
	dirName, base := path.Split(name)
	if strings.Contains("/"+dirName, "/"+whiteoutPrefix) {
		return invalid("a directory with the name of a whiteout")
	}
	dir, err := r.tree.walk(dirName, &n)
	if err != nil {
		return err
	}
	if strings.HasPrefix(base, whiteoutPrefix) {
		return r.hide(dir, base)
	}
	switch h.Typeflag {
	case tar.TypeDir:
		_, err = r.tree.addDir(dir, base, n)
		return err
	case tar.TypeLink:
		target, err := r.clean(h.Linkname)
		if err != nil {
			return fmt.Errorf("hard link to %.300q: %w", h.Linkname, err)
		}
		return r.tree.link(dir, base, target)
	}
	if n.size > 0 && n.kind() == typeRegular {
		if n.data, n.flags, err = r.keep.keep(h, tr, start); err != nil {
			return readError(err)
		}
	}
	r.tree.add(dir, base, n)
	return nil
}

func (r *reader) hide(dir uint32, base string) error {
	if base == whiteoutOpaque {
		r.tree.inodes.at(dir).flags |= flagOpaque
		return nil
	}
	name := strings.TrimPrefix(base, whiteoutPrefix)
	if name == "" || name == "." || name == ".." || strings.HasPrefix(name, whiteoutPrefix) {
		return invalid("not a whiteout of any name")
	}
	r.tree.hide(dir, name)
	return nil
}

// clean returns a path relative to the layer's root, without the parts that
// mean nothing.
func (r *reader) clean(name string) (string, error) {
	if len(name) > r.tree.limits.Path {
		return "", exceeded("a path of %d bytes", len(name))
	}
	depth := 0
	for part := range strings.SplitSeq(name, "/") {
		switch {
		case part == "..":
			return "", invalid(`".." in a path`)
		case len(part) > nameMax:
			return "", invalid("a name of %d bytes", len(part))
		case part != "" && part != ".":
			depth++
		}
	}
	if depth > r.tree.limits.Depth+1 {
		return "", exceeded("directories more than %d deep", r.tree.limits.Depth)
	}
	if strings.IndexByte(name, 0) >= 0 {
		return "", invalid("a NUL in a path")
	}
	return strings.TrimPrefix(path.Clean("/"+name), "/"), nil
}

// inode makes the inode that a header describes, without its content.
func (r *reader) inode(h *tar.Header) (inode, error) {
	n := inode{
		mode: uint16(h.Mode & 0o7777), mtime: h.ModTime.Unix(), nsec: uint32(h.ModTime.Nanosecond()),
		uid: uint32(h.Uid), gid: uint32(h.Gid),
	}
	// The highest number means "no change" to the kernel, and no user.
	if h.Uid < 0 || h.Uid >= math.MaxUint32 || h.Gid < 0 || h.Gid >= math.MaxUint32 {
		return n, invalid("owner %d:%d", h.Uid, h.Gid)
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeCont:
		n.mode |= typeRegular
		n.size = uint64(h.Size)
		if r.size += h.Size; h.Size < 0 || r.size < 0 || r.size > r.tree.limits.Bytes {
			return n, exceeded("the layer's files have more than %d bytes", r.tree.limits.Bytes)
		}
	case tar.TypeDir:
		n.mode |= typeDir
	case tar.TypeSymlink:
		n.mode = typeSymlink | 0o777 // as Linux has it, whatever the tar says
		n.size = uint64(len(h.Linkname))
		if len(h.Linkname) == 0 || len(h.Linkname) > pathMax || strings.IndexByte(h.Linkname, 0) >= 0 {
			return n, invalid("symbolic link with a target of %d bytes", len(h.Linkname))
		}
		if err := r.tree.take(len(h.Linkname)); err != nil {
			return n, err
		}
		n.text, n.aux = r.tree.text.add(h.Linkname), uint32(len(h.Linkname))
	case tar.TypeChar, tar.TypeBlock:
		n.mode |= typeChar
		if h.Typeflag == tar.TypeBlock {
			n.mode = n.mode&^typeMask | typeBlock
		}
		// What a device number can be: 12 and 20 bits.
		if h.Devmajor < 0 || h.Devmajor >= 1<<12 || h.Devminor < 0 || h.Devminor >= 1<<20 {
			return n, invalid("device %d:%d", h.Devmajor, h.Devminor)
		}
		n.aux = uint32(h.Devminor&0xff | h.Devmajor<<8 | h.Devminor&^0xff<<12)
	case tar.TypeFifo:
		n.mode |= typeFIFO
	case tar.TypeLink:
	default:
		return n, invalid("entry of the unknown type %q", h.Typeflag)
	}
	xattrs, err := xattrsOf(h.PAXRecords)
	if err != nil || xattrs == nil {
		return n, err
	}
	encoded := encodeXattrs(xattrs)
	// Room for the mark of an opaque directory, which may come later.
	if len(encoded)+64 > r.tree.limits.Xattrs {
		return n, exceeded("attributes of %d bytes", len(encoded))
	}
	return n, r.tree.attributes(&n, encoded)
}

// storedSize returns the length of what follows a header on the tape, but for a
// sparse file.
func storedSize(h *tar.Header) int64 {
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeCont:
		return h.Size
	}
	return 0
}

// isSparse reports whether a file's bytes in the tar are not its content.
func isSparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}
