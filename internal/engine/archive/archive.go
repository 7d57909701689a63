// Package archive is the engine's service for the files of containers: copies
// in and out, the whole root as an archive, and what has changed in it.
//
// How that is done in a tree that belongs to somebody else is said in
// lade/internal/archive. What tree that is, is for the containers to know.
package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	api "github.com/moby/moby/api/types/container"

	"lade/internal/archive"
	"lade/internal/errdefs"
	"lade/internal/linux/fsat"
	"lade/internal/linux/inroot"
)

// Tree is the files of a container.
type Tree struct {
	ID   string
	Root *os.File // its root directory
	IDs  archive.IDs
	// ReadOnly: the root itself, but nothing that is mounted in it, is not to
	// be written to.
	ReadOnly bool
	// User returns the ids of the user that the container runs as.
	User  func() (uid, gid int, err error)
	Close func()
	// Wanted reports whether somebody waits for Close, as who wants to start the
	// container; nil where nobody has to.
	Wanted func() bool
}

// Containers finds the files of containers.
type Containers interface {
	// Tree returns a container's files as its programs see them.
	Tree(ctx context.Context, ref string) (*Tree, error)
	// Root returns them without what is mounted in them.
	Root(ctx context.Context, ref string) (*Tree, error)
	// Changes returns what a container has written.
	Changes(ctx context.Context, ref string) ([]archive.Change, error)
}

// Service copies files. Its methods may be called concurrently.
type Service struct {
	containers Containers
	patience   time.Duration
}

// New returns a service.
func New(c Containers) *Service { return &Service{containers: c, patience: patience} }

// Stat returns what is to know of a path in a container.
func (s *Service) Stat(ctx context.Context, ref, p string) (api.PathStat, error) {
	t, err := s.containers.Tree(ctx, ref)
	if err != nil {
		return api.PathStat{}, err
	}
	defer t.Close()
	f, stat, err := t.find(ref, p)
	if err != nil {
		return api.PathStat{}, err
	}
	return stat, f.Close()
}

// find opens what a path names. A last component that is a symbolic link is
// opened itself, unless the path says by its end that it is a directory.
func (t *Tree) find(ref, p string) (*os.File, api.PathStat, error) {
	if p == "" {
		return nil, api.PathStat{}, errdefs.New(errdefs.Invalid, "bad parameter: path cannot be empty")
	}
	abs := path.Join("/", p)
	open := inroot.Link
	if strings.HasSuffix(p, "/") || p == "." || strings.HasSuffix(p, "/.") {
		open = func(root *os.File, p string) (*os.File, error) { return inroot.Path(root, p+"/.") }
	}
	f, err := open(t.Root, abs)
	if err != nil {
		return nil, api.PathStat{}, notFound(err, ref, p)
	}
	stat, err := t.stat(f, p)
	if err != nil {
		return nil, stat, errors.Join(err, f.Close())
	}
	return f, stat, nil
}

func notFound(err error, ref, p string) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errdefs.New(errdefs.NotFound, "Could not find the file %s in container %s", p, ref)
	case errors.Is(err, syscall.ENOTDIR):
		return errdefs.New(errdefs.Invalid, "%s in container %s: not a directory", p, ref)
	case errors.Is(err, syscall.ELOOP), errors.Is(err, syscall.ENAMETOOLONG):
		return errdefs.With(errdefs.Invalid, err)
	}
	return err
}

func (t *Tree) stat(f *os.File, p string) (api.PathStat, error) {
	if made, err := fsat.PseudoFile(f); err != nil || made {
		if err == nil {
			err = errdefs.New(errdefs.Invalid, "%s is made up by the kernel, and cannot be copied", p)
		}
		return api.PathStat{}, err
	}
	s, err := fsat.StatFile(f)
	if err != nil {
		return api.PathStat{}, err
	}
	stat := api.PathStat{Name: path.Base(path.Join("/", p)), Size: s.Size, Mode: fileMode(s.Mode), Mtime: time.Unix(s.Seconds, s.Nanos)}
	if stat.Mode&os.ModeSymlink != 0 {
		stat.LinkTarget, err = inroot.Resolve(t.Root, p)
	}
	return stat, err
}

// fileMode turns the kernel's mode into Go's, which the API has.
func fileMode(m uint32) os.FileMode {
	mode := os.FileMode(m & 0o777)
	for bit, f := range map[uint32]os.FileMode{syscall.S_ISUID: os.ModeSetuid, syscall.S_ISGID: os.ModeSetgid, syscall.S_ISVTX: os.ModeSticky} {
		if m&bit != 0 {
			mode |= f
		}
	}
	return mode | map[uint32]os.FileMode{
		syscall.S_IFDIR: os.ModeDir, syscall.S_IFLNK: os.ModeSymlink, syscall.S_IFIFO: os.ModeNamedPipe, syscall.S_IFSOCK: os.ModeSocket,
		syscall.S_IFCHR: os.ModeDevice | os.ModeCharDevice, syscall.S_IFBLK: os.ModeDevice,
	}[m&syscall.S_IFMT]
}

// Get returns an archive of a path in a container: the file, or the directory
// with all that is in it, under the path's last name. The caller closes it.
func (s *Service) Get(ctx context.Context, ref, p string) (api.PathStat, io.ReadCloser, error) {
	t, err := s.containers.Tree(ctx, ref)
	if err != nil {
		return api.PathStat{}, nil, err
	}
	f, stat, err := t.find(ref, p)
	if err != nil {
		t.Close()
		return stat, nil, err
	}
	return stat, s.stream(ctx, t, f, archive.Base(p)), nil
}

// Export returns an archive of a container's root, without what is mounted in
// it.
func (s *Service) Export(ctx context.Context, ref string) (io.ReadCloser, error) {
	t, err := s.containers.Root(ctx, ref)
	if err != nil {
		return nil, err
	}
	f, err := inroot.Path(t.Root, "/")
	if err != nil {
		t.Close()
		return nil, err
	}
	return s.stream(ctx, t, f, "."), nil
}

// stream packs f in the background, and closes the tree when it is done or the
// reader leaves.
func (s *Service) stream(ctx context.Context, t *Tree, f *os.File, name string) io.ReadCloser {
	r, w := io.Pipe()
	p := s.watch(t, func(err error) { w.CloseWithError(err) })
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer t.Close()
		defer p.end()
		err := archive.Pack(ctx, &movingWriter{w, p}, f, name, t.IDs)
		_ = f.Close()
		w.CloseWithError(err)
	}()
	return &packed{PipeReader: r, stop: func() {
		cancel()
		_ = r.Close() // or it would wait for a reader
		<-done
	}}
}

type packed struct {
	*io.PipeReader
	stop func()
}

func (p *packed) Close() error {
	p.stop()
	return nil
}

// PutOptions say how an archive is unpacked into a container.
type PutOptions struct {
	// KeepKinds: no directory is replaced by another file, nor the other way
	// round.
	KeepKinds bool
	// ToUser gives all files to the user that the container runs as.
	ToUser bool
}

// Put unpacks an archive in a directory of a container.
func (s *Service) Put(ctx context.Context, ref, p string, content io.Reader, o PutOptions) error {
	t, err := s.containers.Tree(ctx, ref)
	if err != nil {
		return err
	}
	defer t.Close()
	if err := t.checkPlace(ref, p); err != nil {
		return err
	}
	opts := archive.Options{IDs: t.IDs, KeepKinds: o.KeepKinds}
	if o.ToUser {
		uid, gid, err := t.User()
		if err != nil {
			return err
		}
		opts.Owner = &[2]int{uid, gid}
	}
	content, end := s.movingReader(t, content)
	defer end()
	plain, err := decompress(content)
	if err != nil {
		return err
	}
	defer plain.Close()
	return archive.Unpack(ctx, t.Root, p, plain, opts)
}

// checkPlace refuses to unpack where it cannot be.
func (t *Tree) checkPlace(ref, p string) error {
	if p == "" {
		return errdefs.New(errdefs.Invalid, "bad parameter: path cannot be empty")
	}
	f, err := inroot.Path(t.Root, path.Join("/", p))
	if err != nil {
		return notFound(err, ref, p)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if !st.IsDir() {
		return errdefs.New(errdefs.Invalid, "extraction point is not a directory")
	}
	if made, err := fsat.PseudoFile(f); err != nil || made {
		return errors.Join(err, errdefs.New(errdefs.Invalid, "%s is made up by the kernel: nothing can be copied to it", p))
	}
	if !t.ReadOnly {
		return nil
	}
	same, err := fsat.SameMount(f, t.Root)
	if err == nil && same {
		err = errdefs.New(errdefs.Denied, "container rootfs is marked read-only")
	}
	return err
}

// Diff returns what has changed in a container's root since it was created.
func (s *Service) Diff(ctx context.Context, ref string) ([]api.FilesystemChange, error) {
	changes, err := s.containers.Changes(ctx, ref)
	if err != nil {
		return nil, fmt.Errorf("compare with the image: %w", err)
	}
	out := make([]api.FilesystemChange, len(changes))
	for i, c := range changes {
		out[i] = api.FilesystemChange{Path: c.Path, Kind: api.ChangeType(c.Kind)}
	}
	return out, nil
}
