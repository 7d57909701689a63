package inroot

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
)

// maxLinks is how many symbolic links a path may lead through, as in the kernel.
const maxLinks = 40

// Link is Path, but that a last component that is a symbolic link is not
// followed: it is what is opened.
func Link(root *os.File, p string) (*os.File, error) {
	return open(root, p, unix.O_PATH|unix.O_NOFOLLOW)
}

// Dir opens a directory below root, to be read and for names in it.
func Dir(root *os.File, p string) (*os.File, error) {
	return open(root, p, unix.O_RDONLY|unix.O_DIRECTORY)
}

// Resolve returns the path without symbolic links that p leads to. It is true
// for a moment only, and meant for people and for further questions: what is to
// be opened is opened by Path. What is missing is taken as it is written.
func Resolve(root *os.File, p string) (string, error) {
	done, rest, links := "/", strings.Split(path.Join("/", p), "/"), 0
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			done = path.Dir(done)
			continue
		}
		at := path.Join(done, name)
		target, err := readlink(root, at)
		if err != nil {
			return "", err
		}
		if target == "" {
			done = at
			continue
		}
		if links++; links > maxLinks {
			return "", errdefs.New(errdefs.Invalid, "%s: too many levels of symbolic links", p)
		}
		if path.IsAbs(target) {
			done = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return done, nil
}

// readlink returns the target of a symbolic link, and "" for everything else.
func readlink(root *os.File, p string) (string, error) {
	f, err := Link(root, p)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return "", err
	}
	var b [unix.PathMax]byte
	n, err := unix.Readlinkat(int(f.Fd()), "", b[:])
	if err != nil {
		return "", fmt.Errorf("read link %s: %w", p, err)
	}
	return string(b[:n]), nil
}
