package archive

import (
	"archive/tar"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"lade/internal/errdefs"
	"lade/internal/linux/fsat"
)

// maxDepth is how deep directories may be nested: each level holds a
// descriptor.
const maxDepth = 2048

// Pack writes the file, the directory with all that is in it, or the symbolic
// link that top is, as an archive in which it has the given name. Names are
// sorted, times have whole seconds: the same files make the same archive.
// Sockets are left out, and so is what the kernel makes up (/proc, /sys).
func Pack(ctx context.Context, w io.Writer, top *os.File, name string, ids IDs) error {
	p := &packer{ctx: ctx, tar: tar.NewWriter(w), ids: ids, first: map[[2]uint64]string{}}
	s, err := fsat.StatFile(top)
	if err != nil {
		return err
	}
	if err := p.top(top, name, s); err != nil {
		return err
	}
	return p.tar.Close()
}

type packer struct {
	ctx   context.Context //nolint:containedctx // one call's
	tar   *tar.Writer
	ids   IDs
	first map[[2]uint64]string // names of files that may have several
	buf   [64 << 10]byte
}

func (p *packer) top(top *os.File, name string, s fsat.Stat) error {
	open := func() (*os.File, error) { return fsat.ReadFile(top) }
	if s.Mode&syscall.S_IFMT != syscall.S_IFDIR {
		return p.entry(name, s, open)
	}
	if err := p.entry(name+"/", s, open); err != nil {
		return err
	}
	d, err := fsat.At(top, name)
	if err != nil {
		return err
	}
	defer d.Close()
	return p.directory(d, name, s.FS, 0)
}

// directory writes what is in d. fs is the file system of the directory above.
func (p *packer) directory(d *fsat.Dir, name string, above uint64, depth int) error {
	if depth > maxDepth {
		return errdefs.New(errdefs.Exhausted, "%s: directories are nested more than %d deep", name, maxDepth)
	}
	self, err := d.StatSelf()
	if err != nil {
		return err
	}
	if self.FS != above || depth == 0 {
		if made, err := d.Pseudo(); err != nil || made {
			return err
		}
	}
	names, err := d.Names()
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := p.ctx.Err(); err != nil {
			return errdefs.With(errdefs.Cancelled, err)
		}
		if err := p.name(d, name+"/"+n, n, self.FS, depth); err != nil {
			return err
		}
	}
	return nil
}

// name writes one name of a directory.
func (p *packer) name(d *fsat.Dir, full, n string, above uint64, depth int) error {
	s, err := d.Stat(n)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it went meanwhile
	}
	if err != nil {
		return err
	}
	if s.Mode&syscall.S_IFMT != syscall.S_IFDIR {
		return p.entry(full, s, func() (*os.File, error) { return d.OpenFile(n) })
	}
	sub, err := d.OpenDir(n)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ELOOP) {
		return nil // it went meanwhile, or is something else
	}
	if err != nil {
		return err
	}
	defer sub.Close()
	if err := p.entry(full+"/", s, nil); err != nil {
		return err
	}
	return p.directory(sub, full, above, depth+1)
}

// entry writes one file's header, and for a regular file its content.
func (p *packer) entry(name string, s fsat.Stat, open func() (*os.File, error)) error {
	h := &tar.Header{
		Name: name, Mode: int64(s.Mode & 0o7777), Uid: p.ids.inside(s.UID), Gid: p.ids.inside(s.GID),
		ModTime: time.Unix(s.Seconds, 0), Format: tar.FormatPAX, PAXRecords: p.attributes(s.Xattrs),
	}
	if len(h.PAXRecords) == 0 {
		h.Format = tar.FormatUnknown // the simplest that holds it
	}
	kind := s.Mode & syscall.S_IFMT
	if first := p.linked(name, kind, s); first != "" {
		h.Typeflag, h.Linkname = tar.TypeLink, first
		return p.header(h)
	}
	switch kind {
	case syscall.S_IFDIR:
		h.Typeflag = tar.TypeDir
	case syscall.S_IFLNK:
		h.Typeflag, h.Linkname = tar.TypeSymlink, s.Target
	case syscall.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case syscall.S_IFCHR, syscall.S_IFBLK:
		h.Typeflag = tar.TypeChar
		if kind == syscall.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(s.Device>>8&0xfff), int64(s.Device&0xff|s.Device>>12&0xfff00)
	case syscall.S_IFREG:
		h.Typeflag, h.Size = tar.TypeReg, s.Size
		return p.file(h, open)
	default:
		return nil // a socket means nothing without who listens
	}
	return p.header(h)
}

// linked returns the first name of a file that has come before under another.
func (p *packer) linked(name string, kind uint32, s fsat.Stat) string {
	if kind == syscall.S_IFDIR || s.Links < 2 {
		return ""
	}
	id := [2]uint64{s.FS, s.Inode}
	first := p.first[id]
	if first == "" {
		p.first[id] = name
	}
	return first
}

func (p *packer) header(h *tar.Header) error {
	if err := p.tar.WriteHeader(h); err != nil {
		return fmt.Errorf("archive %s: %w", h.Name, err)
	}
	return nil
}

// file writes a regular file as long as it was when it was looked at: one that
// is shorter by now is filled up with zeros, as GNU tar does.
func (p *packer) file(h *tar.Header, open func() (*os.File, error)) error {
	f, err := open()
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it went meanwhile
	}
	if err != nil {
		return fmt.Errorf("archive %s: %w", h.Name, err)
	}
	defer f.Close()
	if err := p.header(h); err != nil {
		return err
	}
	r := io.LimitReader(io.MultiReader(f, zeros{}), h.Size)
	for {
		if err := p.ctx.Err(); err != nil {
			return errdefs.With(errdefs.Cancelled, err)
		}
		n, err := r.Read(p.buf[:])
		if n > 0 {
			if _, err := p.tar.Write(p.buf[:n]); err != nil {
				return fmt.Errorf("archive %s: %w", h.Name, err)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("archive %s: %w", h.Name, err)
		}
	}
}

// zeros is what a file is filled up with.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// The extended attributes that travel, and how they are written in an archive.
const (
	xattrPrefix = "SCHILY.xattr."
	capability  = "security.capability"
)

func (p *packer) attributes(xattrs map[string]string) map[string]string {
	var m map[string]string
	for k, v := range xattrs {
		if k == capability {
			v = p.ids.capabilityInside(v)
		} else if !strings.HasPrefix(k, "user.") {
			continue
		}
		if m == nil {
			m = map[string]string{}
		}
		m[xattrPrefix+k] = v
	}
	return m
}

// File capabilities (linux/capability.h): version 3 names the root of the user
// namespace that they are good in, version 2 means the host's.
const (
	capsV2, capsV3       = 0x02000000, 0x03000000
	capsV2Size, capsSize = 20, 24
	capsVersionMask      = 0xff000000
)

// capabilityInside is how the container sees file capabilities of its own.
func (i IDs) capabilityInside(v string) string {
	if len(v) != capsSize || i.Size == 0 {
		return v
	}
	b := []byte(v)
	magic := binary.LittleEndian.Uint32(b)
	if magic&capsVersionMask != capsV3 || binary.LittleEndian.Uint32(b[capsV2Size:]) != i.Base {
		return v
	}
	binary.LittleEndian.PutUint32(b, magic&^capsVersionMask|capsV2)
	return string(b[:capsV2Size])
}

// capabilityOutside is how the host is told them.
func (i IDs) capabilityOutside(v string) string {
	if len(v) != capsV2Size || i.Size == 0 {
		return v
	}
	b := append([]byte(v), 0, 0, 0, 0)
	magic := binary.LittleEndian.Uint32(b)
	if magic&capsVersionMask != capsV2 {
		return v
	}
	binary.LittleEndian.PutUint32(b, magic&^capsVersionMask|capsV3)
	binary.LittleEndian.PutUint32(b[capsV2Size:], i.Base)
	return string(b)
}

// Base returns the name under which a path is archived, as Docker has it: the
// last component, "." for a path that ends so, and nothing for the root.
func Base(p string) string {
	if p == "" || path.Clean("/"+p) == "/" && !strings.HasSuffix(p, ".") {
		return ""
	}
	if p == "." || strings.HasSuffix(p, "/.") {
		return "."
	}
	return path.Base(p)
}
