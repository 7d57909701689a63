// Package atomicfile writes files that are either the old one or the new one,
// whenever the writer dies.
//
// A file is written under a temporary name in its own directory and renamed
// into place. With Sync, the bytes are on disk before the rename and the
// rename is on disk before Write returns, which also survives a power cut;
// without it, the file survives the death of any process but not of the
// machine, and costs no wait for the disk.
//
// Leftover temporary files begin with TempPrefix; Sweep removes them.
package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// TempPrefix begins the name of every file that is not yet complete.
const TempPrefix = ".tmp-"

// Options says how a file is written.
type Options struct {
	Mode os.FileMode // permission bits; 0 means 0600
	Sync bool        // wait until the file and its name are on disk
}

// Write makes path hold data. On error path is as it was.
func Write(path string, data []byte, o Options) error {
	mode := o.Mode
	if mode == 0 {
		mode = 0o600
	}
	dir, base := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	f, err := os.CreateTemp(dir, TempPrefix+base+"-")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	err = fill(f, data, mode, o.Sync)
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("write %s: %w", path, err)
	}
	if o.Sync {
		return SyncDir(dir)
	}
	return nil
}

func fill(f *os.File, data []byte, mode os.FileMode, sync bool) error {
	_, err := f.Write(data)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil && sync {
		err = syscall.Fdatasync(int(f.Fd()))
	}
	return errors.Join(err, f.Close())
}

// SyncDir waits until the names in dir are on disk.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return nil
}

// Sweep removes what writers that died left in dir. The caller makes sure that
// no writer is at work there. A dir that does not exist is clean.
func Sweep(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), TempPrefix) {
			errs = append(errs, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}
