// Package feature finds out what the kernel can do by trying it.
//
// A version number does not tell: features are configured away, forbidden to a
// container, or carried back into old kernels. So each Feature is a small piece
// of the very thing, tried once when it is first asked for. The version serves
// the message.
package feature

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"lade/internal/linux/mount"
)

// Feature is something that a kernel can or cannot do. Its maker keeps it: each
// remembers the outcome of its own probe.
type Feature struct {
	Name         string
	Major, Minor int // of the first Linux that has it
	probe        func() error
}

// New returns a feature that probe tries out.
func New(name string, major, minor int, probe func() error) *Feature {
	return &Feature{name, major, minor, sync.OnceValue(probe)}
}

// Check returns nil where the kernel has the feature, else an
// *UnsupportedError.
func (f *Feature) Check() error {
	if err := f.probe(); err != nil {
		return &UnsupportedError{f.Name, f.Major, f.Minor, err}
	}
	return nil
}

// UnsupportedError says that the kernel lacks a feature, here.
type UnsupportedError struct {
	Feature      string
	Major, Minor int
	Err          error // of the attempt
}

// Error implements error.
func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("%s needs Linux >= %d.%d: %v", e.Feature, e.Major, e.Minor, e.Err)
}

// Unwrap returns the error of the attempt.
func (e *UnsupportedError) Unwrap() error { return e.Err }

// Is makes an UnsupportedError an errors.ErrUnsupported.
func (e *UnsupportedError) Is(target error) bool { return target == errors.ErrUnsupported }

// EROFSLayers is whether EROFS files in dir can be stacked to a root without
// loop devices. It depends on dir: file systems stack only two deep, so it is
// not so on an overlay.
func EROFSLayers(dir string) *Feature {
	return New("a stack of file-backed EROFS mounts", 6, 12, func() error {
		return withImage(dir, func(layer mount.Layer) error {
			return try(mount.Root{Layers: []mount.Layer{layer, layer}}, dir)
		})
	})
}

// IDMappedEROFS is whether an EROFS file in dir can be mounted for a user
// namespace.
func IDMappedEROFS(dir string) *Feature {
	return New("an idmapped EROFS mount", 6, 12, func() error {
		return withImage(dir, func(layer mount.Layer) error {
			return try(idmapped(layer), dir)
		})
	})
}

// IDMappedDirectory is whether the directory dir can be mounted for a user
// namespace, which is up to its file system.
func IDMappedDirectory(dir string) *Feature {
	return New("an idmapped mount of this directory", 5, 12, func() error {
		return try(idmapped(mount.Layer{Path: dir, Kind: mount.Directory}), dir)
	})
}

// DetachedLayers is whether an overlay takes layers by descriptor that are
// mounted nowhere. Without it, package mount takes a longer way.
func DetachedLayers() *Feature {
	return New("an overlay of detached mounts", 6, 15, mount.TryDetachedLayers)
}

func idmapped(l mount.Layer) mount.Root {
	ids := []mount.IDMap{{Container: 0, Host: 1 << 20, Size: 1 << 16}}
	return mount.Root{Layers: []mount.Layer{l}, UIDMap: ids, GIDMap: ids}
}

func try(r mount.Root, scratch string) error {
	m, err := r.Open(scratch)
	if err != nil {
		return err
	}
	return m.Close()
}

// withImage calls f with an empty EROFS image in dir.
func withImage(dir string, f func(mount.Layer) error) error {
	file, err := os.CreateTemp(dir, ".tmp-probe-")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(file.Name()) }()
	_, err = file.Write(emptyImage())
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	return f(mount.Layer{Path: file.Name(), Kind: mount.EROFS})
}
