package snapshot

import (
	"archive/tar"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"strings"
	"time"

	"lade/internal/errdefs"
	"lade/internal/linux/fsat"
	"lade/internal/linux/mount"
)

// ChangesOptions says how what a container has written becomes a layer.
type ChangesOptions struct {
	// UIDMap and GIDMap are the container's user namespace, if it has one: ids
	// on disk are the host's, those in a layer the container's.
	UIDMap, GIDMap []mount.IDMap
	// Skip names files, relative to the root, that are not the container's own
	// if they are empty: the runtime made them to mount something over them.
	Skip []string
}

// Changes writes what a container has written as the tar of a layer: the same
// files, the same bytes. It returns false, and a tar without entries, if there
// is nothing. What overlayfs says of itself becomes what layers say: removed
// files are whiteouts, replaced directories are opaque. Sockets are left out,
// for which a tar has no word.
//
// The container may go on meanwhile. Each file is then read as it is at some
// moment, and one that shrinks while it is read ends in zeros.
func (s *Store) Changes(ctx context.Context, id string, w io.Writer, o ChangesOptions) (bool, error) {
	any, err := s.changes(ctx, id, w, o)
	if err != nil {
		return false, fmt.Errorf("read the changes of container %s: %w", id, err)
	}
	return any, nil
}

func (s *Store) changes(ctx context.Context, id string, w io.Writer, o ChangesOptions) (bool, error) {
	c := &changes{ctx: ctx, o: o, tar: tar.NewWriter(w), linked: map[uint64]string{}, skip: map[string]bool{}}
	for _, name := range o.Skip {
		c.skip[strings.TrimPrefix(name, "/")] = true
	}
	root, err := s.Upper(id)
	if errors.Is(err, fs.ErrNotExist) { // it never ran
		return false, c.tar.Close()
	}
	if err != nil {
		return false, err
	}
	defer root.Close()
	if err := c.directory(root, "", 0); err != nil {
		return false, err
	}
	return c.any, c.tar.Close()
}

// changes is one call of Changes.
type changes struct {
	ctx    context.Context //nolint:containedctx // of this one call
	o      ChangesOptions
	tar    *tar.Writer
	linked map[uint64]string // where files with several names were first met
	skip   map[string]bool
	rooted bool // the root directory is written
	any    bool
}

// maxChangesDepth bounds the descriptors that are open at a time. Layers take
// 1024 directories above a file.
const maxChangesDepth = 1024

// directory writes what is in d, whose path in the layer is at.
func (c *changes) directory(d *fsat.Dir, at string, depth int) error {
	if err := c.ctx.Err(); err != nil {
		return errdefs.With(errdefs.Cancelled, err)
	}
	if depth > maxChangesDepth {
		return errdefs.New(errdefs.Exhausted, "directories more than %d deep", maxChangesDepth)
	}
	names, err := d.Names() // sorted: the same files give the same tar
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := c.entry(d, name, at+name, depth); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (c *changes) entry(d *fsat.Dir, name, path string, depth int) error {
	st, err := d.Stat(name)
	if err != nil {
		return err
	}
	if strings.HasPrefix(name, whiteout) {
		return errdefs.New(errdefs.Invalid, "%s: in a layer, such a name means that another file was removed; give it another", path)
	}
	if c.skip[path] && st.Mode&typeMask == typeRegular && st.Size == 0 {
		return nil
	}
	if err := c.root(d, at(path) == ""); err != nil {
		return err
	}
	switch st.Mode & typeMask {
	case typeSocket:
		return nil
	case typeChar:
		if st.Device == 0 {
			return c.write(&tar.Header{Typeflag: tar.TypeReg, Name: at(path) + whiteout + name})
		}
	case typeDir:
		return c.sub(d, name, path, st, depth)
	}
	n, err := d.Inode(name)
	if err != nil {
		return err
	}
	if n.Links > 1 {
		if first, ok := c.linked[n.Number]; ok {
			return c.write(&tar.Header{Typeflag: tar.TypeLink, Name: path, Linkname: first})
		}
	}
	h, err := c.header(path, st)
	if err != nil {
		return err
	}
	if h.Typeflag == tar.TypeReg {
		err = c.file(d, name, h)
	} else {
		err = c.write(h)
	}
	if err == nil && n.Links > 1 {
		c.linked[n.Number] = path
	}
	return err
}

// at returns the directory of a path, with a slash at its end, or "".
func at(path string) string { return path[:strings.LastIndexByte(path, '/')+1] }

// root writes the root directory before the first entry, which is in it.
func (c *changes) root(d *fsat.Dir, inRoot bool) error {
	if c.rooted || !inRoot {
		return nil
	}
	c.rooted = true
	st, err := d.StatSelf()
	if err != nil {
		return err
	}
	h, err := c.header("./", st)
	if err != nil {
		return err
	}
	return c.write(h)
}

func (c *changes) sub(d *fsat.Dir, name, path string, st fsat.Stat, depth int) error {
	h, err := c.header(path+"/", st)
	if err != nil {
		return err
	}
	if err := c.write(h); err != nil {
		return err
	}
	if st.Xattrs[opaqueAttr] == "y" {
		if err := c.write(&tar.Header{Typeflag: tar.TypeReg, Name: path + "/" + opaque}); err != nil {
			return err
		}
	}
	sub, err := d.OpenDir(name)
	if err != nil {
		return err
	}
	defer sub.Close()
	return c.directory(sub, path+"/", depth+1)
}

// file writes a regular file: as many bytes as its header says.
func (c *changes) file(d *fsat.Dir, name string, h *tar.Header) error {
	f, err := d.OpenFile(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := c.write(h); err != nil {
		return err
	}
	n, err := io.Copy(c.tar, io.LimitReader(f, h.Size))
	if err != nil {
		return fmt.Errorf("%s: %w", h.Name, err)
	}
	zeros := make([]byte, 64<<10)
	for ; n < h.Size; n += int64(len(zeros)) {
		zeros = zeros[:min(h.Size-n, int64(len(zeros)))]
		if _, err := c.tar.Write(zeros); err != nil {
			return err
		}
	}
	return nil
}

func (c *changes) write(h *tar.Header) error {
	c.any = true
	h.Format = tar.FormatPAX
	if h.ModTime.IsZero() {
		h.ModTime = time.Unix(0, 0)
	}
	if err := c.tar.WriteHeader(h); err != nil {
		return fmt.Errorf("%s: %w", h.Name, err)
	}
	return nil
}

// The kernel's types of files, as in stat(2), and what a tar and overlayfs say
// of removed files and replaced directories.
const (
	typeMask    = 0o170000
	typeSocket  = 0o140000
	typeLink    = 0o120000
	typeRegular = 0o100000
	typeBlock   = 0o060000
	typeDir     = 0o040000
	typeChar    = 0o020000
	typeFIFO    = 0o010000

	whiteout    = ".wh."
	opaque      = ".wh..wh..opq"
	overlayAttr = "trusted.overlay."
	opaqueAttr  = "trusted.overlay.opaque"
	capsAttr    = "security.capability"
	aclAttr     = "system.posix_acl_access"
	aclDefault  = "system.posix_acl_default"
)

// header describes a file as the container sees it.
func (c *changes) header(path string, st fsat.Stat) (*tar.Header, error) {
	h := &tar.Header{
		Name: path, Mode: int64(st.Mode & 0o7777), ModTime: time.Unix(st.Seconds, st.Nanos),
		Uid: containerID(c.o.UIDMap, st.UID), Gid: containerID(c.o.GIDMap, st.GID), PAXRecords: map[string]string{},
	}
	switch st.Mode & typeMask {
	case typeRegular:
		h.Typeflag, h.Size = tar.TypeReg, st.Size
	case typeDir:
		h.Typeflag = tar.TypeDir
	case typeLink:
		h.Typeflag, h.Linkname = tar.TypeSymlink, st.Target
	case typeChar, typeBlock:
		h.Typeflag = tar.TypeChar
		if st.Mode&typeMask == typeBlock {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(st.Device>>8&0xfff), int64(st.Device&0xff|st.Device>>12&0xfff00)
	case typeFIFO:
		h.Typeflag = tar.TypeFifo
	default:
		return nil, errdefs.New(errdefs.Internal, "%s: a file of the unknown type %o", path, st.Mode)
	}
	for name, value := range st.Xattrs {
		switch {
		case strings.HasPrefix(name, overlayAttr+"overlay."): // escaped: the container's own
			name = overlayAttr + strings.TrimPrefix(name, overlayAttr+"overlay.")
		case strings.HasPrefix(name, overlayAttr): // overlayfs's
			continue
		case name == capsAttr:
			value = c.capabilities(value)
		case name == aclAttr, name == aclDefault:
			value = c.acl(value)
		case strings.HasPrefix(name, "user."), strings.HasPrefix(name, "trusted."):
		default: // of the host: labels of its security modules and such
			continue
		}
		if strings.Contains(name, "=") || value == "" {
			continue // a tar cannot say that
		}
		h.PAXRecords["SCHILY.xattr."+name] = value
	}
	return h, nil
}

// nobody is who owns a file whose owner is not in the user namespace.
const nobody = 65534

// containerID returns what an id of the host is in the container.
func containerID(ids []mount.IDMap, host uint32) int {
	if len(ids) == 0 {
		return int(host)
	}
	for _, m := range ids {
		if host >= m.Host && host-m.Host < m.Size {
			return int(m.Container + (host - m.Host))
		}
	}
	return nobody
}

// capabilities takes the user namespace's root out of a file's capabilities,
// which revision 3 of their form has in its last four bytes: in an image they
// are those of whichever root (linux/capability.h).
func (c *changes) capabilities(v string) string {
	const (
		size2, size3           = 20, 24
		revision2, revision3   = 0x02000000, 0x03000000
		revisionMask, fromByte = 0xff000000, 4
	)
	if len(v) != size3 || binary.LittleEndian.Uint32([]byte(v))&revisionMask != revision3 {
		return v
	}
	magic := binary.LittleEndian.Uint32([]byte(v))&^revisionMask | revision2
	return string(binary.LittleEndian.AppendUint32(nil, magic)) + v[fromByte:size2]
}

// acl maps the ids in an access control list: entries of 8 bytes after a
// version of 4, of which tag 2 is a user and tag 8 a group (linux/posix_acl_xattr.h).
func (c *changes) acl(v string) string {
	b := []byte(v)
	for i := 4; i+8 <= len(b); i += 8 {
		id := binary.LittleEndian.Uint32(b[i+4:])
		if id == math.MaxUint32 {
			continue
		}
		switch binary.LittleEndian.Uint16(b[i:]) {
		case 2:
			binary.LittleEndian.PutUint32(b[i+4:], uint32(containerID(c.o.UIDMap, id)))
		case 8:
			binary.LittleEndian.PutUint32(b[i+4:], uint32(containerID(c.o.GIDMap, id)))
		}
	}
	return string(b)
}
