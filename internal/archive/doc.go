// Package archive turns files of a container into tar archives, and archives
// into files of a container.
//
// The files belong to somebody who may exchange any of them for a link to
// somewhere else at any moment (CVE-2018-15664, CVE-2026-41568). So every path
// is resolved by the kernel within the container's root, to a descriptor, and
// everything after that is done with the descriptor and one name in it, which
// is not followed. Links that stay in the root, as /var/run to /run, work as
// they do for the container's own programs. Nothing is executed, mounted or
// loaded for it, and what goes on in the tree meanwhile can spoil the copy, but
// nothing outside of the tree.
package archive

import "lade/internal/errdefs"

// IDs says what ids the container's files have on the host: those from Base
// are the container's from 0. The zero value is the same ids.
type IDs struct{ Base, Size uint32 }

// nobody is what the kernel shows for an id that has no name.
const nobody = 65534

// inside returns what an id of the host is in the container.
func (i IDs) inside(id uint32) int {
	switch {
	case i.Size == 0:
		return int(id)
	case id >= i.Base && id-i.Base < i.Size:
		return int(id - i.Base)
	}
	return nobody
}

// outside returns what an id of the container is on the host. One that the
// container does not have, as that of a person in a large network, is its
// root's: who copies a file in wants it there.
func (i IDs) outside(id int) (uint32, error) {
	switch {
	case id < 0 || int64(id) >= 1<<32-1:
		return 0, errdefs.New(errdefs.Invalid, "id %d is not one", id)
	case i.Size == 0:
		return uint32(id), nil
	case int64(id) < int64(i.Size):
		return i.Base + uint32(id), nil
	}
	return i.Base, nil
}
