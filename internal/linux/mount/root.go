// Package mount attaches file systems through the new mount API (fsopen,
// fsconfig, fsmount, open_tree, move_mount, mount_setattr), and puts
// together a container's root file system from its layers.
package mount

// Root says how a container's root file system is put together. It is a plain
// value: the engine derives it, the shim carries it out.
type Root struct {
	// Layers are the read-only layers, lowest first; at least one.
	Layers []Layer `json:"layers"`
	// Upper and Work are directories of one file system that take what the
	// container writes. Both empty: the root cannot be written.
	Upper string `json:"upper,omitempty"`
	Work  string `json:"work,omitempty"`
	// Image, where set, is a file with an ext4 file system, which bounds what
	// the container writes. Upper and Work are relative to its root then.
	Image string `json:"image,omitempty"`
	// Volatile spares the disk: what the container writes is never waited
	// for, not by its own fsync and not when the root goes. For writable layers
	// that die with their container; the kernel refuses to mount one twice.
	Volatile bool `json:"volatile,omitempty"`
	// UIDMap and GIDMap, where set, are the container's user namespace: the
	// layers are idmapped, so that what is root's in the image belongs to the
	// id that the container's root is on the host.
	UIDMap []IDMap `json:"uidMap,omitempty"`
	GIDMap []IDMap `json:"gidMap,omitempty"`
}

// Layer is one read-only layer.
type Layer struct {
	// Path is an EROFS file, or a directory in overlayfs form, by Kind.
	Path string    `json:"path"`
	Kind LayerKind `json:"kind"`
}

// LayerKind is a form in which a layer lies on disk.
type LayerKind string

// The kinds of layer.
const (
	EROFS     LayerKind = "erofs"
	Directory LayerKind = "dir"
)

// IDMap is one line of a user namespace's mapping: Size ids from Container
// inside are the ids from Host outside.
type IDMap struct {
	Container uint32 `json:"container"`
	Host      uint32 `json:"host"`
	Size      uint32 `json:"size"`
}
