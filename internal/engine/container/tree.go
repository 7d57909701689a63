package container

import (
	"context"
	"errors"
	"os"
	"sync"

	"lade/internal/archive"
	"lade/internal/engine/container/idrange"
	"lade/internal/engine/container/process"
	"lade/internal/engine/container/record"
	"lade/internal/engine/container/users"
	"lade/internal/errdefs"
	"lade/internal/linux/fsat"
	"lade/internal/linux/mount"
)

// Tree is the files of a container, until Close.
type Tree struct {
	ID       string
	Root     *os.File
	IDs      archive.IDs
	ReadOnly bool // the root itself, but nothing that is mounted in it
	// Wanted reports whether somebody waits for Close; nil where nobody has to.
	Wanted func() bool
	def    record.Definition
	close  func()
}

// Close gives the files up. A container that does not run can be started then.
func (t *Tree) Close() { t.close() }

// User returns the ids of the user that the container runs as.
func (t *Tree) User() (uid, gid int, err error) {
	who, err := users.Resolve(t.Root, t.def.Config.User, nil)
	if err != nil {
		return 0, 0, err
	}
	return int(who.UID), int(who.GID), nil
}

func treeOf(def record.Definition, root *os.File, end func()) *Tree {
	t := &Tree{ID: def.ID, Root: root, ReadOnly: def.Host.ReadonlyRootfs, def: def, close: sync.OnceFunc(end)}
	if def.IDBase != 0 {
		t.IDs = archive.IDs{Base: def.IDBase, Size: idrange.Size}
	}
	return t
}

// Tree opens the files of a container as its programs see them.
func (s *Service) Tree(ctx context.Context, ref string) (*Tree, error) {
	return s.tree(ctx, ref, true)
}

// Root opens the files of a container without what is mounted in them.
func (s *Service) Root(ctx context.Context, ref string) (*Tree, error) {
	return s.tree(ctx, ref, false)
}

func (s *Service) tree(ctx context.Context, ref string, mounts bool) (*Tree, error) {
	c, err := s.acquire(ctx, ref)
	if err != nil {
		return nil, err
	}
	def, st := c.view()
	if st.Alive() {
		// It may end while it is looked at, but what is open stays.
		defer c.op.unlock()
		root, err := s.runningRoot(c, st, mounts)
		if err != nil {
			return nil, err
		}
		return treeOf(def, root, func() { _ = root.Close() }), nil
	}
	// The layer that it writes to must not be mounted twice: it cannot start
	// until the view is closed.
	if mounts {
		err = s.volumes.Mount(ctx, def)
	}
	var v *mount.View
	if err == nil {
		v, err = s.launcher.View(def, mounts)
	}
	end := func() {
		if mounts {
			s.volumes.Unmount(def)
		}
		c.op.unlock()
	}
	if err != nil {
		end()
		return nil, err
	}
	t := treeOf(def, v.Root, func() { _ = v.Close(); end() })
	t.Wanted = c.op.wanted
	return t, nil
}

// runningRoot opens the root of a container that runs: in its own mount
// namespace, or where its shim has hung it up before anything was mounted in it.
func (s *Service) runningRoot(c *container, st record.State, mounts bool) (*os.File, error) {
	if sh := c.shimNow(); !mounts && sh != nil {
		return users.MountedRoot(sh.PID(), s.cfg.Bundle(c.id))
	}
	root, err := mount.NamespaceRoot(st.PID)
	if err != nil {
		return nil, err
	}
	// The process id may have come to mean another one before it was opened.
	if began := process.Began(st.PID); began != st.PIDStart {
		return nil, errors.Join(errdefs.New(errdefs.Conflict, "container %s has ended meanwhile", c.id), root.Close())
	}
	return root, nil
}

// Changes returns what a container has written since it was created.
func (s *Service) Changes(ctx context.Context, ref string) ([]archive.Change, error) {
	c, err := s.lookup(ref)
	if err != nil {
		return nil, err
	}
	def, _ := c.view()
	image, err := s.launcher.ImageRoot(def.ID, def.Image.DiffIDs)
	if err != nil {
		return nil, err
	}
	defer image.Close()
	lower, err := fsat.At(image.Root, "/")
	if err != nil {
		return nil, err
	}
	defer lower.Close()
	upper, err := s.cfg.Snapshots.Upper(def.ID)
	if errors.Is(err, os.ErrNotExist) {
		return []archive.Change{}, nil // it was never started
	}
	if err != nil {
		return nil, err
	}
	defer upper.Close()
	return archive.Diff(ctx, upper, lower, treeOf(def, nil, nil).IDs, s.launcher.Stubs(def))
}
