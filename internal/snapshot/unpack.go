package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/opencontainers/go-digest"

	"lade/internal/atomicfile"
	"lade/internal/errdefs"
	"lade/internal/layer"
	"lade/internal/linux/fsat"
	"lade/internal/linux/mount"
)

// UnpackOptions says how a layer is unpacked.
type UnpackOptions struct {
	Limits layer.Limits // of what the tar may ask for
}

// flight is an unpacking that others may wait for: done is closed at its end.
type flight struct{ done chan struct{} }

// Unpack reads an uncompressed tar to its end and keeps it as the layer diffID.
// When the layer is there already, nothing is read. When another call is at it,
// Unpack waits for that one, and does it itself should the other not succeed.
//
// A tar with another digest is an error of class DataLoss, one that no layer
// can be made of Invalid, one that is over the limits or too large for the disk
// Exhausted; nothing is left of it then.
func (s *Store) Unpack(ctx context.Context, diffID digest.Digest, tar io.Reader, o UnpackOptions) (Layer, error) {
	for {
		l, err := s.Layer(diffID)
		if !errdefs.Is(err, errdefs.NotFound) && !errdefs.Is(err, errdefs.DataLoss) {
			return l, err
		}
		s.mu.Lock()
		f := s.flights[diffID]
		if f == nil {
			f = &flight{done: make(chan struct{})}
			s.flights[diffID] = f
			s.mu.Unlock()
			if err := s.fly(ctx, f, diffID, tar, o); err != nil {
				return Layer{}, fmt.Errorf("unpack layer %s: %w", diffID, err)
			}
			return s.Layer(diffID)
		}
		s.mu.Unlock()
		select {
		case <-f.done:
		case <-ctx.Done():
			return Layer{}, fmt.Errorf("unpack layer %s: %w", diffID, ctx.Err())
		}
	}
}

// fly unpacks for all who wait for f.
func (s *Store) fly(ctx context.Context, f *flight, diffID digest.Digest, tar io.Reader, o UnpackOptions) error {
	defer func() {
		s.mu.Lock()
		delete(s.flights, diffID)
		s.mu.Unlock()
		close(f.done)
	}()
	return s.write(ctx, s.path(diffID, s.kind), diffID, tar, o)
}

// write unpacks a tar and gives it the name path when it is complete.
func (s *Store) write(ctx context.Context, path string, diffID digest.Digest, tar io.Reader, o UnpackOptions) error {
	make := s.writeImage
	if s.kind == mount.Directory {
		make = s.writeDirectory
	}
	if s.take != nil {
		tar = bounded{tar, s.take}
	}
	err := make(ctx, path, tar, layer.Options{Limits: o.Limits}, func(i layer.Info) error { return match(i, diffID) })
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		err = errdefs.Hint(errdefs.With(errdefs.Exhausted, err), "free some space, for example with lade system prune")
	}
	return err
}

// writeImage makes an EROFS file, provided that it passes the check.
func (s *Store) writeImage(ctx context.Context, path string, tar io.Reader, o layer.Options, check func(layer.Info) error) (err error) {
	f, err := temporary(func() (*os.File, error) {
		return os.CreateTemp(s.layers, atomicfile.TempPrefix+"unpack-")
	})
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	info, err := layer.WriteEROFS(ctx, &flushed{File: f}, tar, o)
	if err != nil {
		return err
	}
	if err := check(info); err != nil {
		return err
	}
	if err := f.Chmod(0o400); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return atomicfile.SyncDir(s.layers)
}

// writeDirectory makes a directory, provided that it passes the check.
func (s *Store) writeDirectory(ctx context.Context, path string, tar io.Reader, o layer.Options, check func(layer.Info) error) (err error) {
	d, err := temporary(func() (*os.File, error) {
		dir, err := os.MkdirTemp(s.layers, atomicfile.TempPrefix+"unpack-")
		if err != nil {
			return nil, err
		}
		return os.Open(dir)
	})
	if err != nil {
		return err
	}
	defer d.Close()
	dir := d.Name()
	defer func() {
		if err != nil {
			_ = os.RemoveAll(dir)
		}
	}()
	info, err := layer.WriteDirectory(ctx, dir, tar, o)
	if err != nil {
		return err
	}
	if err := check(info); err != nil {
		return err
	}
	// One wait for all the files.
	if err := fsat.Syncfs(dir); err != nil {
		return err
	}
	err = os.Rename(dir, path)
	if errors.Is(err, fs.ErrExist) {
		if old, err := layer.ReadDirectoryInfo(path); err == nil && check(old) == nil {
			// Another process was faster, with the same.
			return os.RemoveAll(dir)
		}
		// A damaged one is in the way, which this one repairs.
		if err := s.remove(path); err != nil {
			return err
		}
		err = os.Rename(dir, path)
	}
	if err != nil {
		return err
	}
	return atomicfile.SyncDir(s.layers)
}

// bounded is a tar whose bytes are taken before they are written.
type bounded struct {
	io.Reader
	take func(int64) error
}

// Read implements io.Reader.
func (b bounded) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if takeErr := b.take(int64(n)); takeErr != nil {
		return 0, takeErr
	}
	return n, err
}

func match(info layer.Info, diffID digest.Digest) error {
	if info.DiffID != diffID {
		return errdefs.New(errdefs.DataLoss, "its tar has the digest %s", info.DiffID)
	}
	return nil
}

// flushed has the disk write while more is still coming in, so that the wait at
// the end is short.
type flushed struct {
	*os.File
	from, to int64
}

// WriteAt implements io.WriterAt.
func (f *flushed) WriteAt(p []byte, at int64) (int, error) {
	n, err := f.File.WriteAt(p, at)
	if at == f.to || f.to == 0 {
		f.to = at + int64(n)
	}
	if f.to-f.from >= 16<<20 {
		const write = 2 // SYNC_FILE_RANGE_WRITE: begin, do not wait
		// Only a favour: what matters is the sync at the end.
		_ = syscall.SyncFileRange(int(f.Fd()), f.from, f.to-f.from, write)
		f.from = f.to
	}
	return n, err
}

// temporary makes a temporary file or directory that no sweep takes away, as one
// may between its birth and its lock.
func temporary(create func() (*os.File, error)) (*os.File, error) {
	for try := 1; ; try++ {
		f, err := create()
		if errors.Is(err, fs.ErrNotExist) && try < 10 {
			continue
		}
		if err != nil {
			return nil, err
		}
		if err = inUse(f); err == nil {
			if _, err = os.Lstat(f.Name()); err == nil {
				return f, nil
			}
		}
		if try == 10 {
			return nil, errors.Join(err, f.Close())
		}
		_ = f.Close()
	}
}

// inUse marks a temporary file as that of a living writer.
func inUse(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }

// sweep removes what writers that died left in dir. Living ones, of this or of
// another process, hold a lock.
func sweep(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), atomicfile.TempPrefix) {
			continue
		}
		path := filepath.Join(dir, e.Name())
		f, err := os.Open(path)
		if err != nil {
			continue // its writer removed it
		}
		if inUse(f) == nil {
			err = os.RemoveAll(path)
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("sweep %s: %w", path, err)
		}
	}
	return nil
}
