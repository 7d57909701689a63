package copy

import (
	"errors"
	"os"
	"path"
	"strings"
	"syscall"

	"lade/internal/ident"
)

// tempPrefix begins the name of every file that a copy has not finished. Its
// writer holds a lock on it: one that nobody locks was left by a copy that died.
const tempPrefix = ".tmp-copy-"

// createTemp makes a file below root/dir that is this process's until it is
// closed.
func createTemp(root *os.Root, dir string) (*os.File, string, error) {
	for {
		name := path.Join(dir, tempPrefix+ident.New()[:24])
		f, err := root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return nil, "", err
		}
		if lock(f) && has(root, name, f) {
			return f, name, nil
		}
		_ = f.Close() // a sweep saw it before the lock, and took it away
	}
}

func lock(f *os.File) bool {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
}

func has(root *os.Root, name string, f *os.File) bool {
	a, errA := root.Lstat(name)
	b, errB := f.Stat()
	return errA == nil && errB == nil && os.SameFile(a, b)
}

// sweepTemp removes what copies that died left in root/dir.
func sweepTemp(root *os.Root, dir string) error {
	d, err := root.Open(dir)
	if err != nil {
		return err
	}
	names, err := d.Readdirnames(-1)
	_ = d.Close()
	if err != nil {
		return err
	}
	var errs []error
	for _, n := range names {
		if strings.HasPrefix(n, tempPrefix) {
			errs = append(errs, removeDead(root, path.Join(dir, n)))
		}
	}
	return errors.Join(errs...)
}

func removeDead(root *os.Root, name string) error {
	info, err := root.Lstat(name)
	if err != nil || !info.Mode().IsRegular() {
		return nil // gone meanwhile, or nothing of a copy
	}
	f, err := root.OpenFile(name, os.O_RDWR|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil // gone meanwhile
	}
	defer f.Close()
	if !lock(f) || !has(root, name, f) {
		return nil
	}
	return root.Remove(name)
}

// syncDir brings the names in root/dir to disk.
func syncDir(root *os.Root, dir string) error {
	d, err := root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
