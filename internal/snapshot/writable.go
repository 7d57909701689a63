package snapshot

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"lade/internal/errdefs"
	"lade/internal/layer"
	"lade/internal/linux/fsat"
	"lade/internal/linux/mount"
	"lade/internal/linux/quota"
)

// What a container may write is bounded in one of two ways. Where the file
// system can bound a directory, it does (internal/linux/quota). Elsewhere the
// writable layer is a file system of its own, in a sparse file: ext4, made by
// mkfs.ext4 (docs/adr tells why), mounted through a loop device that goes with
// its last user. Which way it is, is decided once, when the layer is made.

// imageFile holds the file system of a bounded writable layer.
const imageFile = "upper.img"

// MinSize is the least that a writable layer can be bounded to: below, a file
// system is hardly more than its own tables.
const MinSize = 16 << 20

// CheckSize returns why no writable layer can be bounded to size bytes.
func (s *Store) CheckSize(size int64) error {
	if size < MinSize {
		return errdefs.New(errdefs.Invalid, "a writable layer of %d bytes is too small: at least %d MiB", size, MinSize>>20)
	}
	err := quota.Check(s.containers)
	if err == nil {
		return nil
	}
	if _, mkfs := exec.LookPath("mkfs.ext4"); mkfs != nil {
		return errdefs.Hint(
			errdefs.New(errdefs.Unavailable, "the size of writable layers cannot be bounded: %v; mkfs.ext4 is not installed", err),
			"install e2fsprogs, or put the data root on XFS mounted with prjquota")
	}
	return nil
}

// writable makes the place for what a container writes, unless it is there, and
// enters it in root.
func (s *Store) writable(id string, root *mount.Root, size int64, a layer.Attr) error {
	dir := filepath.Join(s.containers, id)
	plain := *root
	plain.Upper, plain.Work = filepath.Join(dir, upperDir), filepath.Join(dir, workDir)
	image := filepath.Join(dir, imageFile)
	_, err := os.Lstat(image)
	switch {
	case err == nil:
	case !errors.Is(err, fs.ErrNotExist):
		return err
	case size == 0 || exists(plain.Upper):
		*root = plain
		return makeUpper(plain, a)
	case quota.Check(s.containers) == nil:
		*root = plain
		return s.bound(plain, id, size, a)
	default:
		if err := makeImage(image, size, plain, a); err != nil {
			return fmt.Errorf("make a writable layer of %d bytes: %w", size, err)
		}
	}
	root.Image, root.Upper, root.Work = image, upperDir, workDir
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// bound makes a writable layer in a project of its own.
func (s *Store) bound(root mount.Root, id string, size int64, a layer.Attr) error {
	s.bounding.Lock() // until it has a limit, a project is free
	defer s.bounding.Unlock()
	tmp := root.Upper + ".new"
	for _, dir := range []string{root.Work, tmp} {
		if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o700)); err != nil {
			return err
		}
	}
	// Far from the first ones, which people use.
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	project, err := quota.Free(s.containers, h.Sum32()|1<<30)
	if err != nil {
		return err
	}
	if err := quota.Limit(s.containers, project, size); err != nil {
		return err
	}
	for _, dir := range []string{root.Work, tmp} {
		if err := quota.Assign(dir, project); err != nil {
			return err
		}
	}
	return makeUpper(root, a)
}

// makeImage makes the file system of a writable layer. It has its name when it
// is complete.
func makeImage(path string, size int64, root mount.Root, a layer.Attr) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil {
			_ = os.Remove(tmp)
		}
	}()
	if err := f.Truncate(size); err != nil {
		return err
	}
	if err := format(tmp); err != nil {
		return err
	}
	m, err := mount.OpenImage(tmp)
	if err != nil {
		return err
	}
	root.Upper, root.Work = filepath.Join(m.Path(), upperDir), filepath.Join(m.Path(), workDir)
	err = makeUpper(root, a)
	if err == nil {
		err = fsat.Syncfs(m.Path())
	}
	if err = errors.Join(err, m.Close(), f.Sync()); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// format makes an empty ext4: nothing kept back for root, an inode for each
// 8 KiB, and no table written before it is used.
func format(path string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "mkfs.ext4", "-q", "-F", "-m", "0", "-b", "4096", "-i", "8192", "-I", "256",
		"-O", "^resize_inode", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard", "--", path).CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return errdefs.Hint(errdefs.With(errdefs.Unavailable, err), "install e2fsprogs")
	}
	if err != nil {
		return fmt.Errorf("mkfs.ext4: %w: %.300s", err, out)
	}
	return nil
}

// Upper opens what a container has written. It is fs.ErrNotExist if there is
// nothing because it never ran.
func (s *Store) Upper(id string) (*fsat.Dir, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	dir := filepath.Join(s.containers, id)
	m, err := mount.OpenImage(filepath.Join(dir, imageFile))
	if errors.Is(err, fs.ErrNotExist) {
		return fsat.Open(filepath.Join(dir, upperDir))
	}
	if err != nil {
		return nil, err
	}
	// What is open keeps the mount.
	upper, err := fsat.Open(filepath.Join(m.Path(), upperDir))
	return upper, errors.Join(err, m.Close())
}

// free ends the bound of a writable layer, before that is removed.
func (s *Store) free(dir string) error {
	around, err := quota.Project(dir)
	if err != nil {
		return nil //nolint:nilerr // not there, or a file system without projects
	}
	for _, name := range []string{workDir, upperDir, upperDir + ".new"} {
		project, err := quota.Project(filepath.Join(dir, name))
		if err != nil || project == around {
			continue // not there, or not ours
		}
		return quota.Limit(s.containers, project, 0)
	}
	return nil
}
