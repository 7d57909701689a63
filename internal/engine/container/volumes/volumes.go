// Package volumes gives containers their volumes, and takes them back: what of
// a container's life concerns what outlives it.
package volumes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/moby/moby/api/types/mount"
	"github.com/opencontainers/go-digest"

	"lade/internal/engine/container/record"
	"lade/internal/engine/container/request"
	"lade/internal/errdefs"
	"lade/internal/linux/fsat"
	"lade/internal/linux/inroot"
	host "lade/internal/linux/mount"
)

// Volumes keeps what outlives containers.
type Volumes interface {
	// Take gives a container a volume, which is made where it is not there. An
	// empty name makes one without. It returns the name.
	Take(ctx context.Context, container, name string, o request.VolumeOptions) (string, error)
	// Path is the directory that containers see of a volume.
	Path(name string) string
	// Fill copies what is in a directory into a volume that is empty. source
	// may return nil: there is no such directory.
	Fill(ctx context.Context, name string, source func() (*fsat.Dir, error)) error
	// Mount makes a container's volumes ready, until Unmount.
	Mount(ctx context.Context, container string) error
	Unmount(container string)
	// Keep makes those stay that were made for the container; Release takes the
	// container's volumes from it, and with remove those that nobody named go.
	Keep(ctx context.Context, container string) error
	Release(ctx context.Context, container string, remove bool) error
	// Recover takes over which containers have which volumes.
	Recover(ctx context.Context, users []User) error
}

// User is a container with volumes, as its record has it.
type User struct {
	ID      string
	Volumes []string
	Running bool
}

// Keeper gives containers their volumes. The zero value has none to give.
type Keeper struct {
	Volumes Volumes // nil: there are none
	// Image opens the root of a container's image.
	Image func(id string, diffIDs []digest.Digest) (*host.View, error)
	// Known finds containers.
	Known func(ref string) (record.Definition, record.State, error)
}

// of returns the names of a container's volumes.
func of(def record.Definition) []string {
	var names []string
	for _, m := range def.Mounts {
		if m.Type == mount.TypeVolume {
			names = append(names, m.Volume)
		}
	}
	return names
}

// Inherited returns the mounts of the containers that --volumes-from names.
func (k *Keeper) Inherited(from []string) ([]request.Mount, error) {
	var out []request.Mount
	for _, v := range from {
		ref, readOnly, err := request.ParseVolumesFrom(v)
		if err != nil {
			return nil, err
		}
		def, _, err := k.Known(ref)
		if err != nil {
			return nil, err
		}
		for _, m := range def.Mounts {
			if m.Type != mount.TypeTmpfs {
				out = append(out, m.Inherit(readOnly))
			}
		}
	}
	return out, nil
}

// Take gives a new container its volumes, and fills those that are
// empty with what its image has at their places.
func (k *Keeper) Take(ctx context.Context, d *record.Definition) (err error) {
	if len(of(*d)) == 0 {
		return nil
	}
	if k.Volumes == nil {
		return errdefs.New(errdefs.NotImplemented, "this engine has no volumes")
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, k.Volumes.Release(context.WithoutCancel(ctx), d.ID, true))
		}
	}()
	for i := range d.Mounts {
		m := &d.Mounts[i]
		if m.Type != mount.TypeVolume {
			continue
		}
		if m.Volume, err = k.Volumes.Take(ctx, d.ID, m.Volume, m.Make); err != nil {
			return err
		}
		m.Source = k.Volumes.Path(m.Volume)
	}
	return k.fill(ctx, *d)
}

// fill copies the image's files into a container's empty volumes. They
// are read from the image's layers, never from a container.
func (k *Keeper) fill(ctx context.Context, d record.Definition) error {
	var view *host.View
	defer func() {
		if view != nil {
			_ = view.Close()
		}
	}()
	mounted := false
	for _, m := range d.Mounts {
		if m.Type != mount.TypeVolume || m.NoCopy || m.Subpath != "" {
			continue
		}
		if !mounted {
			if err := k.Volumes.Mount(ctx, d.ID); err != nil {
				return err
			}
			defer k.Volumes.Unmount(d.ID)
			mounted = true
		}
		err := k.Volumes.Fill(ctx, m.Volume, func() (_ *fsat.Dir, err error) {
			if view == nil {
				if view, err = k.Image(d.ID, d.Image.DiffIDs); err != nil {
					return nil, err
				}
			}
			return directoryIn(view.Root, m.Target)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// directoryIn opens a directory in an image, or returns nil if there is none. A
// link that leads out of the image leads to its root instead.
func directoryIn(root *os.File, path string) (*fsat.Dir, error) {
	f, err := inroot.Path(root, path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ELOOP) {
		return nil, errdefs.With(errdefs.Invalid, err)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.IsDir() {
		return nil, errdefs.New(errdefs.Invalid, "cannot mount volume over existing file, file exists %s", path)
	}
	return fsat.At(f, path)
}

// Keep makes those of a container's volumes stay that go with it
// otherwise.
func (k *Keeper) Keep(ctx context.Context, def record.Definition) error {
	if k.Volumes == nil || len(of(def)) == 0 {
		return nil
	}
	if err := k.Volumes.Keep(ctx, def.ID); err != nil {
		return fmt.Errorf("remove container %s: %w", def.Name, err)
	}
	return nil
}

// Release takes its volumes from a container that is no more.
func (k *Keeper) Release(ctx context.Context, def record.Definition, remove bool) error {
	if k.Volumes == nil || len(of(def)) == 0 {
		return nil
	}
	return k.Volumes.Release(ctx, def.ID, remove)
}

// Mount makes the volumes of a container ready that starts, and
// Unmount ends that.
func (k *Keeper) Mount(ctx context.Context, def record.Definition) error {
	if k.Volumes == nil || len(of(def)) == 0 {
		return nil
	}
	return k.Volumes.Mount(ctx, def.ID)
}

// Unmount tells the volumes that a container has ended.
func (k *Keeper) Unmount(def record.Definition) {
	if k.Volumes != nil && len(of(def)) > 0 {
		k.Volumes.Unmount(def.ID)
	}
}

// Recover tells the volumes who has them.
func (k *Keeper) Recover(ctx context.Context, all []record.Loaded) error {
	if k.Volumes == nil {
		return nil
	}
	var users []User
	for _, l := range all {
		if names := of(l.Def); len(names) > 0 {
			users = append(users, User{ID: l.Def.ID, Volumes: names, Running: l.State.Alive()})
		}
	}
	return k.Volumes.Recover(ctx, users)
}
