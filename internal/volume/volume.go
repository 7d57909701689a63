// Package volume keeps volumes on disk: directories that outlive containers,
// and the file systems that are mounted on some of them.
//
// A volume is a directory of the store with a directory _data in it, which is
// what containers see. A container with a user namespace of its own sees it
// through a mount that maps ids, so ids on disk are those that processes in any
// container have: two containers share a volume whatever their namespaces are.
//
// Fill copies what an image has at the volume's place into an empty volume. The
// copy is made aside and moved in by names when it is whole: a volume is never
// half filled, whoever is killed when.
//
// Which volumes there are to be, and who uses them, is for others to know.
package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"lade/internal/errdefs"
	"lade/internal/linux/fsat"
	"lade/internal/linux/mount"
)

// The names in a volume's directory.
const (
	dataName  = "_data"   // what containers see
	stageName = "filling" // a copy that is being made
	readyName = "filled"  // a copy that is whole, and is being moved in
)

// removedPrefix begins the names of volumes that are being removed. No volume
// has such a name.
const removedPrefix = ".removed-"

// Store is a directory of volumes.
type Store struct{ dir string }

// Open opens the store in dir, which it makes, and finishes what a process that
// died had begun.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open volumes: %w", err)
	}
	s := &Store{dir}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open volumes: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), removedPrefix) {
			errs = append(errs, s.discard(filepath.Join(dir, e.Name())))
			continue
		}
		errs = append(errs, s.finish(e.Name()))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("open volumes: %w", err)
	}
	return s, nil
}

// Path returns the directory that containers see of a volume.
func (s *Store) Path(name string) string { return filepath.Join(s.dir, name, dataName) }

// Names returns the names of all volumes that have a directory.
func (s *Store) Names() ([]string, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("list volumes: %w", err)
	}
	var names []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), removedPrefix) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// check makes sure that a name is one, and is not one of ours.
func check(name string) error {
	if name == "" || name[0] == '.' || strings.ContainsAny(name, "/\x00") {
		return errdefs.New(errdefs.Invalid, "volume name %.100q is not a name", name)
	}
	return nil
}

// Make makes the directory of a volume. One that is there stays as it is.
func (s *Store) Make(name string) error {
	if err := check(name); err != nil {
		return err
	}
	err := os.MkdirAll(filepath.Join(s.dir, name), 0o700)
	if err == nil {
		err = os.Mkdir(s.Path(name), 0o755)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err == nil {
		err = fsat.SyncDir(s.dir)
	}
	if err != nil {
		return fmt.Errorf("make volume %s: %w", name, err)
	}
	return nil
}

// Remove removes a volume with all that is in it. forget, which may be nil,
// strikes the volume off the records: between the moment when it can no longer
// be used and the one when its files go. One that is not there is no error.
func (s *Store) Remove(name string, forget func() error) error {
	if err := check(name); err != nil {
		return err
	}
	if err := s.Unmount(name); err != nil {
		return err
	}
	if err := s.remove(name, forget); err != nil {
		return fmt.Errorf("remove volume %s: %w", name, err)
	}
	return nil
}

func (s *Store) remove(name string, forget func() error) error {
	dir, trash := filepath.Join(s.dir, name), filepath.Join(s.dir, removedPrefix+name)
	// What an earlier removal did not get done.
	if err := s.discard(trash); err != nil {
		return err
	}
	err := os.Rename(dir, trash)
	if err == nil {
		err = fsat.SyncDir(s.dir)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if forget != nil {
		if err := forget(); err != nil {
			return errors.Join(err, os.Rename(trash, dir))
		}
	}
	return s.discard(trash)
}

// Has reports whether a volume has its directory.
func (s *Store) Has(name string) bool {
	_, err := os.Lstat(s.Path(name))
	return err == nil
}

// discard removes a volume's directory, and nothing of what may be mounted on
// it: a mount that cannot be taken away must not be emptied.
func (s *Store) discard(dir string) error {
	data := filepath.Join(dir, dataName)
	mounted, err := mount.IsMountPoint(data)
	if errors.Is(err, fs.ErrNotExist) {
		return os.RemoveAll(dir)
	}
	if err != nil {
		return err
	}
	if mounted {
		if err := mount.Unmount(data); err != nil {
			return err
		}
	}
	return os.RemoveAll(dir)
}

// Size returns what the files of a volume take on disk.
func (s *Store) Size(name string) int64 {
	d, err := fsat.Open(s.Path(name))
	if err != nil {
		return 0
	}
	defer d.Close()
	n, err := d.Usage()
	if err != nil {
		return n // it changes while we look: what was counted is the answer
	}
	return n
}

// Source opens the directory that a volume is filled from, or returns nil where
// there is none.
type Source func() (*fsat.Dir, error)

// Fill copies what is in a directory into a volume that is empty, and gives the
// volume the directory's owner, mode and attributes. A volume that has anything
// in it stays as it is, and the source is not opened.
func (s *Store) Fill(name string, source Source) error {
	if err := check(name); err != nil {
		return err
	}
	if err := s.fill(name, source); err != nil {
		return fmt.Errorf("copy the image's files into volume %s: %w", name, err)
	}
	return nil
}

func (s *Store) fill(name string, open Source) error {
	if err := s.finish(name); err != nil {
		return err
	}
	data, err := fsat.Open(s.Path(name))
	if err != nil {
		return err
	}
	defer data.Close()
	if empty, err := data.Empty(); err != nil || !empty {
		return err
	}
	source, err := open()
	if err != nil || source == nil {
		return err
	}
	defer source.Close()
	// What is mounted there is on another file system: nothing can be moved in.
	if mounted, err := mount.IsMountPoint(s.Path(name)); err != nil || mounted {
		if err == nil {
			err = errors.Join(fsat.Copy(source, data), fsat.CopyAttr(source, data))
		}
		return err
	}
	own, err := fsat.Open(filepath.Join(s.dir, name))
	if err != nil {
		return err
	}
	defer own.Close()
	if err := own.Mkdir(stageName); err != nil {
		return err
	}
	if err := copyInto(own, stageName, source); err != nil {
		return errors.Join(err, own.RemoveAll(stageName))
	}
	if err := own.Move(own, stageName, readyName); err != nil {
		return err
	}
	if err := own.Sync(); err != nil {
		return err
	}
	return s.finish(name)
}

func copyInto(own *fsat.Dir, name string, source *fsat.Dir) error {
	stage, err := own.OpenDir(name)
	if err != nil {
		return err
	}
	defer stage.Close()
	if err := errors.Join(fsat.Copy(source, stage), fsat.CopyAttr(source, stage)); err != nil {
		return err
	}
	return stage.Syncfs()
}

// finish moves a copy in that is whole, and removes one that is not.
func (s *Store) finish(name string) error {
	own, err := fsat.Open(filepath.Join(s.dir, name))
	if errors.Is(err, syscall.ENOTDIR) {
		return nil // not a volume
	}
	if err != nil {
		return err
	}
	defer own.Close()
	if err := own.RemoveAll(stageName); err != nil {
		return err
	}
	ready, err := own.OpenDir(readyName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer ready.Close()
	data, err := own.OpenDir(dataName)
	if err != nil {
		return err
	}
	defer data.Close()
	names, err := ready.Names()
	if err != nil {
		return err
	}
	for _, n := range names {
		// What a container has made meanwhile under that name stays.
		if err := data.Move(ready, n, n); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	if err := fsat.CopyAttr(ready, data); err != nil {
		return err
	}
	return own.RemoveAll(readyName)
}
