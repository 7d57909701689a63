package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"lade/internal/errdefs"
	"lade/internal/layer"
	"lade/internal/linux/mount"
)

// PrepareOptions says what kind of root a container gets.
type PrepareOptions struct {
	// ReadOnly makes a root that cannot be written at all: no mount point can
	// be made in it either.
	ReadOnly bool
	// Volatile spares the disk for a container whose writable layer dies with
	// it: see mount.Root.
	Volatile bool
	// Size bounds what the container can write, in bytes; 0 does not. It counts
	// when the writable layer is made.
	Size int64
	// UIDMap and GIDMap are the container's user namespace, if it has one.
	UIDMap, GIDMap []mount.IDMap
}

// The directories of a container that are ours.
const (
	upperDir = "upper"
	workDir  = "work"
)

// maxLayers is how many layers an overlay takes.
const maxLayers = 500

// Prepare returns the root of the container id, made of the given layers, the
// lowest first. What the container has written before stays. A layer that is
// not there is an error of class NotFound.
func (s *Store) Prepare(id string, diffIDs []digest.Digest, o PrepareOptions) (mount.Root, error) {
	root, err := s.prepare(id, diffIDs, o)
	if err != nil {
		return mount.Root{}, fmt.Errorf("prepare root of container %s: %w", id, err)
	}
	return root, nil
}

func (s *Store) prepare(id string, diffIDs []digest.Digest, o PrepareOptions) (mount.Root, error) {
	root := mount.Root{UIDMap: o.UIDMap, GIDMap: o.GIDMap}
	if err := checkID(id); err != nil {
		return root, err
	}
	// Reads a few records, unless Stack was not called before.
	layers, err := s.stack(context.Background(), diffIDs)
	if err != nil {
		return root, err
	}
	for _, l := range layers {
		root.Layers = append(root.Layers, mount.Layer{Path: l.Path, Kind: l.Kind})
	}
	if o.ReadOnly {
		return root, nil
	}
	root.Volatile = o.Volatile
	if err := s.writable(id, &root, o.Size, rootAttr(layers)); err != nil {
		return root, err
	}
	return root, forgetVolatile(root)
}

// forgetVolatile removes what forbids to mount a volatile layer again. That
// guards against a crash of the machine, which no container with such a layer
// outlives.
func forgetVolatile(root mount.Root) error {
	if !root.Volatile {
		return nil
	}
	const mark = "work/incompat"
	if root.Image == "" {
		return os.RemoveAll(filepath.Join(root.Work, mark))
	}
	m, err := mount.OpenImage(root.Image)
	if err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(filepath.Join(m.Path(), root.Work, mark)), m.Close())
}

// rootAttr returns the attributes of the root directory: those of the highest
// layer that has any.
func rootAttr(layers []Layer) layer.Attr {
	for _, l := range slices.Backward(layers) {
		if l.info.Root != nil {
			return *l.info.Root
		}
	}
	return layer.Attr{Mode: 0o755}
}

// makeUpper makes the directories for what a container writes, unless they are
// there. The upper one is the root directory that the container sees: it has
// the attributes of the image's, and belongs to who that owner is on the host.
func makeUpper(root mount.Root, a layer.Attr) error {
	if err := os.MkdirAll(root.Work, 0o700); err != nil {
		return err
	}
	if _, err := os.Lstat(root.Upper); err == nil {
		return nil
	}
	uid, err := hostID(root.UIDMap, a.UID)
	if err != nil {
		return fmt.Errorf("owner of /: %w", err)
	}
	gid, err := hostID(root.GIDMap, a.GID)
	if err != nil {
		return fmt.Errorf("group of /: %w", err)
	}
	// Under another name until it is as it shall be.
	tmp := root.Upper + ".new"
	if err := os.Mkdir(tmp, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if err := os.Lchown(tmp, int(uid), int(gid)); err != nil {
		return err
	}
	mode := os.FileMode(a.Mode & 0o777)
	for bit, m := range map[uint32]os.FileMode{0o4000: os.ModeSetuid, 0o2000: os.ModeSetgid, 0o1000: os.ModeSticky} {
		if a.Mode&bit != 0 {
			mode |= m
		}
	}
	if err := os.Chmod(tmp, mode); err != nil {
		return err
	}
	mtime := time.Unix(a.Seconds, int64(a.Nanos))
	if err := os.Chtimes(tmp, mtime, mtime); err != nil {
		return err
	}
	return os.Rename(tmp, root.Upper)
}

// hostID returns what an id of a container is on the host.
func hostID(ids []mount.IDMap, id uint32) (uint32, error) {
	if len(ids) == 0 {
		return id, nil
	}
	for _, m := range ids {
		if id >= m.Container && id-m.Container < m.Size {
			return m.Host + (id - m.Container), nil
		}
	}
	return 0, errdefs.New(errdefs.Invalid, "id %d is not in the container's user namespace", id)
}

// Remove removes what a container has written. It is no error when there is
// nothing.
func (s *Store) Remove(id string) error {
	if err := checkID(id); err != nil {
		return fmt.Errorf("remove writable layer: %w", err)
	}
	dir := filepath.Join(s.containers, id)
	err := s.free(dir)
	for _, name := range []string{upperDir, upperDir + ".new", workDir, imageFile, imageFile + ".new"} {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, name)))
	}
	if err != nil {
		return fmt.Errorf("remove writable layer of %s: %w", id, err)
	}
	return nil
}

// checkID makes sure that an id is one name.
func checkID(id string) error {
	if id == "" || id == "." || id == ".." || strings.ContainsAny(id, "/\x00") {
		return errdefs.New(errdefs.Invalid, "container id %.100q is not a name", id)
	}
	return nil
}
