package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"lade/internal/errdefs"
)

// Pack writes a local file, or a directory with all that is in it, as an
// archive whose top entry has the given name.
func Pack(w io.Writer, p, name string) error {
	t := tar.NewWriter(w)
	k := &packer{tar: t, first: map[fileID]string{}}
	top := filepath.Clean(p)
	if saysDir(p) { // a link is followed
		resolved, err := filepath.EvalSymlinks(top)
		if err != nil {
			return local(err)
		}
		top = resolved
	}
	err := filepath.WalkDir(top, func(at string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(top, at)
		if err != nil {
			return err
		}
		full := name
		if rel != "." {
			full = name + "/" + filepath.ToSlash(rel)
		}
		return k.entry(at, full, info)
	})
	if err != nil {
		return fmt.Errorf("archive %s: %w", p, err)
	}
	return t.Close()
}

type packer struct {
	tar   *tar.Writer
	first map[fileID]string
}

func (k *packer) entry(at, name string, info fs.FileInfo) error {
	if info.Mode()&fs.ModeSocket != 0 {
		return nil // it means nothing without who listens
	}
	target := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		var err error
		if target, err = os.Readlink(at); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return err
	}
	h.Name, h.Uname, h.Gname = name, "", ""
	h.AccessTime, h.ChangeTime, h.ModTime = time.Time{}, time.Time{}, h.ModTime.Truncate(time.Second)
	if info.IsDir() {
		h.Name += "/"
	}
	if id, several := idOf(info); several {
		if first, ok := k.first[id]; ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
			return k.tar.WriteHeader(h)
		}
		k.first[id] = name
	}
	if !info.Mode().IsRegular() {
		return k.tar.WriteHeader(h)
	}
	f, err := os.Open(at)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := k.tar.WriteHeader(h); err != nil {
		return err
	}
	if _, err := io.CopyN(k.tar, f, h.Size); err != nil {
		return fmt.Errorf("%s changes while it is read: %w", at, err)
	}
	return nil
}

// Renamed is an archive whose top entry has another name.
func Renamed(r io.Reader, from, to string) io.ReadCloser {
	out, w := io.Pipe()
	go func() { w.CloseWithError(renamed(r, w, from, to)) }()
	return out
}

func renamed(r io.Reader, w io.Writer, from, to string) error {
	in, out := tar.NewReader(r), tar.NewWriter(w)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return out.Close()
		}
		if err != nil {
			return err
		}
		h.Name = Rename(h.Name, from, to)
		if h.Typeflag == tar.TypeLink {
			h.Linkname = Rename(h.Linkname, from, to)
		}
		if err := out.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.Copy(out, in); err != nil {
			return err
		}
	}
}

// Unpack makes the files of an archive in a local directory. They belong to who
// calls. warn is told of what cannot be made here: devices and pipes.
func Unpack(r io.Reader, dir string, warn func(name string)) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return local(err)
	}
	defer root.Close()
	u := &unpacker{root: root, warn: warn}
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read the archive: %w", err)
		}
		if err := u.entry(h, t); err != nil {
			return fmt.Errorf("unpack %s: %w", h.Name, err)
		}
	}
	for _, h := range slices.Backward(u.dirs) { // their times change with what is made in them
		_ = root.Chmod(h.Name, h.FileInfo().Mode().Perm()|special(h))
		_ = root.Chtimes(h.Name, h.ModTime, h.ModTime)
	}
	return nil
}

// special are the bits beyond the permissions.
func special(h *tar.Header) os.FileMode {
	return h.FileInfo().Mode() & (os.ModeSetuid | os.ModeSetgid | os.ModeSticky)
}

type unpacker struct {
	root *os.Root
	warn func(string)
	dirs []*tar.Header
}

func (u *unpacker) entry(h *tar.Header, content io.Reader) error {
	h.Name = path.Clean(strings.TrimLeft(h.Name, "/"))
	if h.Name == "." {
		return nil
	}
	if !filepath.IsLocal(h.Name) {
		return errdefs.New(errdefs.Invalid, "the name leads out of the directory")
	}
	if err := u.root.MkdirAll(path.Dir(h.Name), 0o755); err != nil {
		return err
	}
	there, err := u.makeWay(h)
	if err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		u.dirs = append(u.dirs, h)
		if there {
			return nil
		}
		return u.root.Mkdir(h.Name, 0o700)
	case tar.TypeSymlink:
		return u.root.Symlink(h.Linkname, h.Name)
	case tar.TypeLink:
		return u.root.Link(path.Clean(strings.TrimLeft(h.Linkname, "/")), h.Name)
	case tar.TypeReg, tar.TypeGNUSparse:
		return u.file(h, content)
	}
	u.warn(h.Name)
	return nil
}

// makeWay removes what stands where a file is to be made, unless one of the two
// is a directory.
func (u *unpacker) makeWay(h *tar.Header) (there bool, err error) {
	st, err := u.root.Lstat(h.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	isDir := h.Typeflag == tar.TypeDir
	switch {
	case st.IsDir() && isDir:
		return true, nil
	case st.IsDir():
		return false, errdefs.New(errdefs.Invalid, "cannot overwrite directory with non-directory")
	case isDir:
		return false, errdefs.New(errdefs.Invalid, "cannot overwrite non-directory with directory")
	}
	return false, u.root.Remove(h.Name)
}

func (u *unpacker) file(h *tar.Header, content io.Reader) error {
	f, err := u.root.OpenFile(h.Name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := u.root.Chmod(h.Name, h.FileInfo().Mode().Perm()|special(h)); err != nil {
		return err
	}
	return u.root.Chtimes(h.Name, h.ModTime, h.ModTime)
}
