package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/opencontainers/go-digest"

	"lade/internal/atomicfile"
	"lade/internal/linux/fsat"
)

// The names in a layer's directory.
const (
	// DiffDir is the directory that is mounted.
	DiffDir = "diff"

	recordFile  = "layer.json"
	pendingFile = "pending"
	stagingDir  = "staging"
)

// WriteDirectory is WriteEROFS for kernels without file-backed EROFS: it
// unpacks the tar to diff in dir, a directory that exists, is empty and open to
// nobody else. Contents are stored under numbers while the tar goes by; only
// when the tree is complete, and every name a plain one in a directory that we
// made, do files get their places.
func WriteDirectory(ctx context.Context, dir string, src io.Reader, o Options) (Info, error) {
	limits := o.Limits.withDefaults()
	for _, name := range []string{stagingDir, DiffDir} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			return Info{}, fmt.Errorf("write layer: %w", err)
		}
	}
	staging, err := fsat.Open(filepath.Join(dir, stagingDir))
	if err != nil {
		return Info{}, fmt.Errorf("write layer: %w", err)
	}
	defer staging.Close()
	w := &dirWriter{staging: staging}
	tp := newTape(ctx, src, limits.Bytes, func([]byte) error { return nil })
	t, err := readTar(ctx, tp, w, limits)
	if err != nil {
		return Info{}, err
	}
	w.layout = newLayout(t)
	info := Info{DiffID: digest.NewDigest(digest.SHA256, tp.hash), TarSize: tp.pos, Entries: len(w.layout.order), Root: t.root()}
	if err := w.finish(ctx, dir, &info); err != nil {
		return Info{}, fmt.Errorf("write layer: %w", err)
	}
	return info, nil
}

// dirWriter writes one directory.
type dirWriter struct {
	staging *fsat.Dir
	layout  *layout
	files   int64  // contents in staging
	made    []bool // inodes with several names that are in staging
	size    int64
	stop    func() error
}

// keep implements keeper: the content goes to a file named by a number.
func (w *dirWriter) keep(h *tar.Header, tr *tar.Reader, _ int64) (int64, uint8, error) {
	w.files++
	f, err := w.staging.Create(contentName(w.files))
	if err != nil {
		return 0, 0, err
	}
	if isSparse(h) {
		err = copySparse(f, tr, h.Size)
	} else {
		_, err = io.Copy(f, tr)
	}
	return w.files, 0, errors.Join(err, f.Close())
}

func contentName(n int64) string { return "c" + strconv.FormatInt(n, 10) }
func inodeName(n uint32) string  { return "i" + strconv.FormatUint(uint64(n), 10) }

// copySparse copies r, and leaves out blocks without content.
func copySparse(f *os.File, r io.Reader, size int64) error {
	buf, zero := make([]byte, 64<<10), make([]byte, 64<<10)
	for at := int64(0); ; {
		n, err := io.ReadFull(r, buf)
		if n > 0 && !bytes.Equal(buf[:n], zero[:n]) {
			if _, err := f.WriteAt(buf[:n], at); err != nil {
				return err
			}
		}
		at += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return f.Truncate(size)
		}
		if err != nil {
			return err
		}
	}
}

// finish puts everything into its place in dir.
func (w *dirWriter) finish(ctx context.Context, dir string, info *Info) error {
	w.made = make([]bool, w.layout.t.inodes.n)
	w.stop = ctx.Err
	parent, err := fsat.Open(dir)
	if err != nil {
		return err
	}
	defer parent.Close()
	if err := w.directory(parent, DiffDir, 0); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(dir, stagingDir)); err != nil {
		return err
	}
	pending := w.layout.pending()
	info.Size, info.pendingSize = w.size, int64(len(pending))
	record := make([]byte, superOffset)
	if err := info.encode(record); err != nil {
		return err
	}
	record = bytes.TrimRight(record, "\x00")
	if err := atomicfile.Write(filepath.Join(dir, pendingFile), pending, atomicfile.Options{}); err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(dir, recordFile), record, atomicfile.Options{})
}

// directory fills the directory name in parent, which is there and empty. Its
// attributes come last: entries change its time.
func (w *dirWriter) directory(parent *fsat.Dir, name string, i uint32) error {
	if err := w.stop(); err != nil {
		return err
	}
	d, err := parent.OpenDir(name)
	if err != nil {
		return err
	}
	defer d.Close()
	l := w.layout
	for _, e := range l.names(i) {
		e := l.t.names.dents.at(e)
		base := string(l.t.names.name(e))
		switch n := l.t.inodes.at(e.inode); {
		case n.kind() == typePending:
		case n.isDir():
			if err := d.Mkdir(base); err != nil {
				return err
			}
			if err := w.directory(d, base, e.inode); err != nil {
				return err
			}
		case l.links[e.inode] > 1 && e.inode != l.t.whiteout:
			err = w.linked(d, base, e.inode)
		default:
			err = w.file(d, base, n)
		}
		if err != nil {
			return err
		}
	}
	return w.attributes(parent, name, l.t.inodes.at(i))
}

// linked makes one of several names of an inode.
func (w *dirWriter) linked(d *fsat.Dir, name string, i uint32) error {
	if !w.made[i] {
		if err := w.file(w.staging, inodeName(i), w.layout.t.inodes.at(i)); err != nil {
			return err
		}
		w.made[i] = true
	}
	return d.Link(w.staging, inodeName(i), name)
}

// file makes what is not a directory.
func (w *dirWriter) file(d *fsat.Dir, name string, n *inode) error {
	var err error
	switch kind := n.kind(); {
	case kind == typeRegular && n.size > 0:
		err = d.Move(w.staging, contentName(n.data), name)
	case kind == typeRegular:
		var f *os.File
		if f, err = d.Create(name); err == nil {
			err = f.Close()
		}
	case kind == typeSymlink:
		err = d.Symlink(string(w.layout.t.target(n)), name)
	default:
		err = d.Mknod(name, uint32(kind)|0o600, n.aux)
	}
	if err != nil {
		return err
	}
	return w.attributes(d, name, n)
}

func (w *dirWriter) attributes(d *fsat.Dir, name string, n *inode) error {
	xattrs, ok := decodeXattrs(w.layout.xattrs(n))
	if !ok {
		return fmt.Errorf("attributes of %q: malformed", name)
	}
	err := d.SetAttr(name, fsat.Attr{
		Mode: uint32(n.mode & 0o7777), UID: n.uid, GID: n.gid, Seconds: n.mtime, Nanos: int64(n.nsec), Xattrs: xattrs,
	}, n.kind() == typeSymlink)
	if err != nil {
		return err
	}
	size, err := d.DiskUsage(name)
	w.size += size
	return err
}

// ReadDirectoryInfo reads what WriteDirectory recorded of dir.
func ReadDirectoryInfo(dir string) (Info, error) {
	b, err := os.ReadFile(filepath.Join(dir, recordFile))
	if err != nil {
		return Info{}, fmt.Errorf("read layer's record: %w", err)
	}
	return parseInfo(b)
}
