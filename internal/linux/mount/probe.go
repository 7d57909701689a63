package mount

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// CanIDMap reports, by trying, whether a bind mount of path can be idmapped;
// with recursive, also everything that is mounted below it. Some file systems
// cannot (overlay, most network ones).
func CanIDMap(path string, recursive bool) error {
	flags := unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC
	attrFlags := unix.AT_EMPTY_PATH
	if recursive {
		flags |= unix.AT_RECURSIVE
		attrFlags |= unix.AT_RECURSIVE
	}
	tree, err := unix.OpenTree(unix.AT_FDCWD, path, uint(flags))
	if err != nil {
		return fmt.Errorf("idmap %s: %w", path, err)
	}
	defer unix.Close(tree)
	ids := []IDMap{{Container: 0, Host: 1 << 30, Size: 1 << 16}} // any that is not the identity
	ns, err := UserNamespace(ids, ids)
	if err != nil {
		return fmt.Errorf("idmap %s: %w", path, err)
	}
	defer unix.Close(ns)
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(ns)}
	if err := unix.MountSetattr(tree, "", uint(attrFlags), &attr); err != nil {
		return fmt.Errorf("idmap %s: %w", path, err)
	}
	return nil
}
