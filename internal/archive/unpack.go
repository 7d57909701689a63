package archive

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"lade/internal/errdefs"
	"lade/internal/linux/fsat"
	"lade/internal/linux/fsids"
	"lade/internal/linux/inroot"
)

// Options say how an archive is unpacked.
type Options struct {
	IDs IDs
	// Owner, if set, is the user and group of the container who gets all files,
	// whatever the archive says.
	Owner *[2]int
	// KeepKinds: a directory takes no other file's place, and the other way
	// round.
	KeepKinds bool
}

// Unpack makes the files of the archive r in the directory dest of the tree
// below root. What is there with the same name is replaced; a directory keeps
// what is in it.
func Unpack(ctx context.Context, root *os.File, dest string, r io.Reader, o Options) error {
	u := &unpacker{root: root, dest: path.Join("/", dest), o: o}
	return fsids.As(o.IDs.Base, o.IDs.Base, func() error {
		t := tar.NewReader(r)
		for {
			h, err := t.Next()
			if errors.Is(err, io.EOF) {
				return u.times()
			}
			if ctx.Err() != nil {
				return errdefs.With(errdefs.Cancelled, context.Cause(ctx))
			}
			if err != nil {
				return readError(err)
			}
			if err := u.entry(h, t); err != nil {
				return classed(fmt.Errorf("unpack %s: %w", h.Name, err))
			}
		}
	})
}

// readError says that the archive cannot be read: mostly because it is none.
func readError(err error) error {
	err = fmt.Errorf("read the archive: %w", err)
	if errdefs.ClassOf(err) != errdefs.Internal {
		return err // who brings it knows better
	}
	return errdefs.With(errdefs.Invalid, err)
}

// classed gives errors of the file system their class.
func classed(err error) error {
	switch {
	case errdefs.ClassOf(err) != errdefs.Internal:
		return err
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errdefs.With(errdefs.Invalid, err) // the archive ends too early
	case errors.Is(err, syscall.EROFS):
		return errdefs.With(errdefs.Denied, err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return errdefs.With(errdefs.Exhausted, err)
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ELOOP), errors.Is(err, syscall.ENAMETOOLONG), errors.Is(err, syscall.EOVERFLOW):
		return errdefs.With(errdefs.Invalid, err)
	}
	return err
}

type unpacker struct {
	root *os.File
	dest string
	o    Options
	dirs []dirTime
}

// dirTime is a directory whose time is set when nothing is made in it any more.
type dirTime struct {
	path           string
	seconds, nanos int64
}

// entry makes one file.
func (u *unpacker) entry(h *tar.Header, content io.Reader) error {
	name, err := u.inside(h.Name)
	if err != nil || name == "." {
		return err
	}
	at := path.Join(u.dest, name)
	dir, err := u.parent(path.Dir(at))
	if err != nil {
		return err
	}
	defer dir.Close()
	base := path.Base(at)
	isDir := h.Typeflag == tar.TypeDir
	there, err := u.makeWay(dir, base, at, isDir)
	if err != nil {
		return err
	}
	if !there || !isDir {
		if err := u.make(dir, base, h, content); err != nil {
			return err
		}
	}
	if h.Typeflag == tar.TypeLink {
		return nil // the file has its attributes
	}
	a, err := u.attr(h)
	if err != nil {
		return err
	}
	if isDir {
		u.dirs = append(u.dirs, dirTime{at, a.Seconds, a.Nanos})
	}
	err = dir.SetAttr(base, a, h.Typeflag == tar.TypeSymlink)
	if errors.Is(err, syscall.ENOTSUP) && len(a.Xattrs) > 0 {
		a.Xattrs = nil // this file system has none
		err = dir.SetAttr(base, a, h.Typeflag == tar.TypeSymlink)
	}
	return err
}

// inside checks that a name of an archive stays below where it is unpacked.
func (u *unpacker) inside(name string) (string, error) {
	clean := path.Clean(strings.TrimLeft(name, "/"))
	if clean == ".." || strings.HasPrefix(clean, "../") || strings.ContainsRune(name, 0) {
		return "", errdefs.New(errdefs.Invalid, "%q is outside of %q", path.Join(u.dest, name), u.dest)
	}
	return clean, nil
}

// parent opens a directory of the container, which is made if it is not there.
func (u *unpacker) parent(p string) (*fsat.Dir, error) {
	f, err := inroot.Dir(u.root, p)
	if errors.Is(err, fs.ErrNotExist) && p != "/" {
		return u.makeParent(p)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return fsat.At(f, p)
}

func (u *unpacker) makeParent(p string) (*fsat.Dir, error) {
	above, err := u.parent(path.Dir(p))
	if err != nil {
		return nil, err
	}
	defer above.Close()
	name := path.Base(p)
	if err := above.Mkdir(name); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	owner, err := u.owner(0, 0)
	if err != nil {
		return nil, err
	}
	made, err := above.OpenDir(name)
	if err != nil {
		return nil, err // a dangling link, or exchanged meanwhile
	}
	if err := made.Own(owner[0], owner[1], 0o755); err != nil {
		return nil, errors.Join(err, made.Close())
	}
	return made, nil
}

// makeWay removes what stands where a file is to be made. It reports whether
// there is a directory that may stay.
func (u *unpacker) makeWay(dir *fsat.Dir, base, at string, isDir bool) (there bool, err error) {
	s, err := dir.Stat(base)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	had := s.Mode&syscall.S_IFMT == syscall.S_IFDIR
	switch {
	case had && isDir:
		return true, nil
	case u.o.KeepKinds && had:
		return false, errdefs.New(errdefs.Invalid, "cannot overwrite directory %q with non-directory %q", at, path.Dir(at))
	case u.o.KeepKinds && isDir:
		return false, errdefs.New(errdefs.Invalid, "cannot overwrite non-directory %q with directory %q", at, path.Dir(at))
	}
	return false, dir.RemoveAll(base)
}

// make makes a file that is not there, without its attributes.
func (u *unpacker) make(dir *fsat.Dir, base string, h *tar.Header, content io.Reader) error {
	device := uint32(h.Devminor)&0xff | uint32(h.Devmajor)<<8 | uint32(h.Devminor)&^0xff<<12
	switch h.Typeflag {
	case tar.TypeDir:
		return dir.Mkdir(base)
	case tar.TypeReg, tar.TypeRegA, tar.TypeGNUSparse: //nolint:staticcheck // old archives have the second
		return writeFile(dir, base, content)
	case tar.TypeSymlink:
		return dir.Symlink(h.Linkname, base)
	case tar.TypeLink:
		return u.link(dir, base, h.Linkname)
	case tar.TypeFifo:
		return dir.Mknod(base, syscall.S_IFIFO|0o600, 0)
	case tar.TypeChar:
		return dir.Mknod(base, syscall.S_IFCHR|0o600, device)
	case tar.TypeBlock:
		return dir.Mknod(base, syscall.S_IFBLK|0o600, device)
	}
	return errdefs.New(errdefs.Invalid, "unhandled tar header type %d", h.Typeflag)
}

func writeFile(dir *fsat.Dir, base string, content io.Reader) error {
	f, err := dir.Create(base)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Close())
}

// link gives a file of the archive a further name.
func (u *unpacker) link(dir *fsat.Dir, base, target string) error {
	name, err := u.inside(target)
	if err != nil {
		return err
	}
	at := path.Join(u.dest, name)
	f, err := inroot.Dir(u.root, path.Dir(at))
	if err != nil {
		return err
	}
	defer f.Close()
	from, err := fsat.At(f, path.Dir(at))
	if err != nil {
		return err
	}
	defer from.Close()
	return dir.Link(from, path.Base(at), base)
}

func (u *unpacker) attr(h *tar.Header) (fsat.Attr, error) {
	owner, err := u.owner(h.Uid, h.Gid)
	if err != nil {
		return fsat.Attr{}, err
	}
	a := fsat.Attr{
		Mode: uint32(h.Mode) & 0o7777, UID: owner[0], GID: owner[1],
		Seconds: h.ModTime.Unix(), Nanos: int64(h.ModTime.Nanosecond()), Xattrs: map[string]string{},
	}
	if h.ModTime.IsZero() {
		a.Seconds, a.Nanos = 0, 0
	}
	for k, v := range h.PAXRecords {
		switch k, ok := strings.CutPrefix(k, xattrPrefix); {
		case !ok:
		case k == capability:
			a.Xattrs[k] = u.o.IDs.capabilityOutside(v)
		case strings.HasPrefix(k, "user.") && h.Typeflag == tar.TypeReg:
			a.Xattrs[k] = v
		}
	}
	return a, nil
}

// owner returns a file's owner on the host.
func (u *unpacker) owner(uid, gid int) (out [2]uint32, err error) {
	if u.o.Owner != nil {
		uid, gid = u.o.Owner[0], u.o.Owner[1]
	}
	if out[0], err = u.o.IDs.outside(uid); err != nil {
		return out, err
	}
	out[1], err = u.o.IDs.outside(gid)
	return out, err
}

// times sets the times of directories, which change with what is made in them.
func (u *unpacker) times() error {
	for _, d := range slices.Backward(u.dirs) {
		dir, err := u.parent(path.Dir(d.path))
		if err != nil {
			return classed(err)
		}
		err = dir.Touch(path.Base(d.path), d.seconds, d.nanos)
		_ = dir.Close()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return classed(err)
		}
	}
	return nil
}
