// Package archive is the client's side of copies between this machine and a
// container: which name a copy gets, as Docker's cp decides it, and files of
// this machine as archives.
//
// What comes out of a container may be made to hurt: it is unpacked through
// os.Root, which no link leads out of.
package archive

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"lade/internal/errdefs"
)

// Info is one end of a copy.
type Info struct {
	Path   string // as given, absolute
	Exists bool
	IsDir  bool
	Name   string // of the top entry of an archive of it
}

// Split parts a path into directory and name, where "x/." has the name ".".
func Split(p string) (dir, name string) {
	clean := filepath.Clean(p)
	if saysHere(p) && clean != "." {
		clean += "/."
	}
	return filepath.Split(clean)
}

// saysHere reports whether a path ends in a component ".".
func saysHere(p string) bool { return p == "." || strings.HasSuffix(p, "/.") }

// saysDir reports whether a path can only be a directory.
func saysDir(p string) bool { return strings.HasSuffix(p, "/") || saysHere(p) }

// Keep gives a path that was cleaned the end back that it had: a slash or a
// dot there means something.
func Keep(clean, given string) string {
	switch {
	case saysHere(given) && !saysHere(clean):
		return strings.TrimSuffix(clean, "/") + "/."
	case strings.HasSuffix(given, "/") && !strings.HasSuffix(clean, "/"):
		return clean + "/"
	}
	return clean
}

// Abs makes a local path absolute and keeps its end.
func Abs(p string) (string, error) {
	abs, err := filepath.Abs(p)
	return Keep(abs, p), err
}

// Plan says in which directory an archive of src is to be unpacked so that it
// becomes dst, and what its top entry is to be called there; "" leaves it.
func Plan(src, dst Info) (dir, name string, err error) {
	dir, base := Split(dst.Path)
	switch {
	case dst.Exists && dst.IsDir:
		return dst.Path, "", nil
	case dst.Exists && src.IsDir:
		return "", "", errdefs.New(errdefs.Invalid, "cannot copy directory")
	case !dst.Exists && !src.IsDir && saysDir(dst.Path):
		return "", "", errdefs.New(errdefs.Invalid, "no such directory")
	}
	return dir, base, nil
}

// Source looks at a local path that is to be copied. A symbolic link is
// followed if that is asked for, or if the path says that it is a directory.
func Source(p string, follow bool) (Info, error) {
	_, name := Split(p)
	in := Info{Path: p, Exists: true, Name: name}
	stat := os.Lstat
	if follow || saysDir(p) {
		stat = os.Stat
	}
	st, err := stat(p)
	if err != nil {
		return in, local(err)
	}
	in.IsDir = st.IsDir()
	if follow && !saysDir(p) {
		if in.Path, err = filepath.EvalSymlinks(p); err != nil {
			return in, local(err)
		}
	}
	if saysDir(p) && !in.IsDir {
		return in, errdefs.New(errdefs.Invalid, "%s: not a directory", p)
	}
	return in, nil
}

// Destination looks at a local path that is to be copied to. The directory it
// is to be in must exist.
func Destination(p string) (Info, error) {
	in := Info{Path: p}
	st, err := os.Stat(p)
	if err == nil {
		in.Exists, in.IsDir = true, st.IsDir()
		return in, nil
	}
	if target, err := os.Readlink(filepath.Clean(p)); err == nil { // dangling: what it names is made
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(filepath.Clean(p)), target)
		}
		in.Path = Keep(target, p)
	}
	dir, _ := Split(in.Path)
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return in, errdefs.New(errdefs.Invalid, "invalid output path: directory %q does not exist", filepath.Clean(dir))
	}
	return in, nil
}

func local(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return errdefs.With(errdefs.NotFound, err)
	}
	return errdefs.With(errdefs.Invalid, err)
}

// Rename gives the top entry of an archive another name in a name of it.
func Rename(name, from, to string) string {
	if to == "" {
		return name
	}
	rest, ok := strings.CutPrefix(name, from)
	if !ok || rest != "" && !strings.HasPrefix(rest, "/") {
		return name
	}
	return to + rest
}
