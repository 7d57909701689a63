package launch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	api "github.com/moby/moby/api/types/mount"

	"lade/internal/engine/container/record"
	"lade/internal/engine/container/request"
	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/linux/mount"
	"lade/internal/shim"
	"lade/internal/snapshot"
)

// Resolver finds images.
type Resolver interface {
	Resolve(ctx context.Context, ref string) (image.Image, error)
}

// ResolveImages finds the images that are to be mounted. It writes to mounts.
func ResolveImages(ctx context.Context, images Resolver, mounts []request.Mount) error {
	handed := 0
	for i := range mounts {
		m := &mounts[i]
		if m.Handed() {
			handed++
		}
		if m.Type != api.TypeImage || m.DiffIDs != nil {
			continue // what is inherited has been resolved
		}
		img, err := images.Resolve(ctx, m.Image)
		if err != nil {
			return err
		}
		m.DiffIDs = img.Config.RootFS.DiffIDs
	}
	if handed > shim.MaxMounts {
		return errdefs.New(errdefs.Invalid, "%d mounts are of images, of subpaths or shared with the host; at most %d are possible", handed, shim.MaxMounts)
	}
	return nil
}

// sources returns a container's mounts with the paths that its runtime finds
// them at: those that are handed to the shim, where that hangs them up.
func (l *Launcher) sources(def record.Definition) []request.Mount {
	out := make([]request.Mount, len(def.Mounts))
	n := 0
	for i, m := range def.Mounts {
		if m.Handed() {
			m.Source = shim.MountPath(l.cfg.Bundle(def.ID), n)
			n++
		}
		out[i] = m
	}
	return out
}

// openHanded opens the mounts that are handed to the shim, and makes places
// for them. The caller closes them, also after an error.
func (l *Launcher) openHanded(def record.Definition) ([]*os.File, error) {
	var files []*os.File
	for _, m := range def.Mounts {
		if !m.Handed() {
			continue
		}
		d, err := l.open(def, m, mount.BindOptions{Recursive: true})
		if err != nil {
			return files, fmt.Errorf("mount at %s: %w", m.Target, err)
		}
		f, err := d.File()
		if err := errors.Join(err, d.Close()); err != nil {
			return files, err
		}
		files = append(files, f)
		if err := makePlace(shim.MountPath(l.cfg.Bundle(def.ID), len(files)-1), f); err != nil {
			return files, err
		}
	}
	return files, nil
}

// makePlace makes what a mount can be hung over: a directory for a directory.
func makePlace(path string, of *os.File) error {
	st, err := of.Stat()
	if err != nil {
		return err
	}
	if st.IsDir() {
		return os.MkdirAll(path, 0o700)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("make a place for a mount: %w", err)
	}
	return f.Close()
}

// open opens what is mounted in a container as a mount that hangs nowhere.
func (l *Launcher) open(def record.Definition, m request.Mount, o mount.BindOptions) (*mount.Detached, error) {
	switch {
	case m.Type == api.TypeImage:
		return l.openImage(def, m)
	case m.Subpath != "":
		root, err := os.Open(m.Source)
		if err != nil {
			return nil, err
		}
		defer root.Close()
		return mount.OpenInside(root, m.Subpath, o)
	default:
		return mount.OpenPeer(m.Source, !m.NonRecursive)
	}
}

// openImage opens an image's root, or what is in it, to be read. Its ids are
// those of the container.
func (l *Launcher) openImage(def record.Definition, m request.Mount) (*mount.Detached, error) {
	if l.cfg.Roots == nil {
		return nil, errdefs.New(errdefs.NotImplemented, "an image can be mounted on Linux 6.15 and later")
	}
	r, err := l.cfg.Snapshots.Prepare(def.ID, m.DiffIDs, snapshot.PrepareOptions{ReadOnly: true, UIDMap: idMaps(def.IDBase), GIDMap: idMaps(def.IDBase)})
	if err != nil {
		return nil, fmt.Errorf("mount image %s: %w", m.Image, err)
	}
	root, err := l.cfg.Roots(&r)
	if err != nil {
		return nil, fmt.Errorf("mount image %s: %w", m.Image, err)
	}
	if m.Subpath == "" {
		return mount.FromFile(root)
	}
	defer root.Close()
	return mount.OpenInside(root, m.Subpath, mount.BindOptions{})
}

// viewHanded is a mount that is not found by a path, for a view. What is not
// there any more is left out, as with others.
func (l *Launcher) viewHanded(def record.Definition, m request.Mount) (v mount.ViewMount, f *os.File, err error) {
	o := mount.BindOptions{Recursive: true, UIDMap: idMaps(def.IDBase), GIDMap: idMaps(def.IDBase)}
	if m.ReadOnly {
		o.Flags = []string{"ro"}
	}
	d, err := l.open(def, m, o)
	if err != nil && def.IDBase != 0 && m.Type == api.TypeVolume { // a file system that cannot map ids
		o.UIDMap, o.GIDMap = nil, nil
		d, err = l.open(def, m, o)
	}
	if err != nil {
		return v, nil, err
	}
	f, err = d.File()
	if err := errors.Join(err, d.Close()); err != nil {
		return v, nil, err
	}
	st, err := f.Stat()
	if err != nil {
		return v, f, err
	}
	return mount.ViewMount{Target: m.Target, Dir: st.IsDir(), Open: func() (*mount.Detached, error) { return mount.FromFile(f) }}, f, nil
}

// gone reports whether what was to be mounted is not there any more.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}
