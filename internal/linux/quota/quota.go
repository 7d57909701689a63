// Package quota bounds directories by project quotas: all that is made below a
// directory is counted for its project, and what would be too much is refused.
//
// Which file systems do so, by what option, and for whom, differs:
//
//   - XFS mounted with prjquota: for everybody.
//   - ext4 made with the features quota and project and mounted with prjquota:
//     but not for writers with CAP_SYS_RESOURCE (fs/quota/dquot.c,
//     ignore_hardlimit). Overlayfs writes with the rights of who mounted it,
//     which for an engine that is root has it, so there it bounds nobody.
package quota

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrUnsupported is why a directory cannot be bounded.
var ErrUnsupported = errors.New("no project quota")

// From linux/dqblk_xfs.h and linux/quota.h.
const (
	cmdGetQuota = 'X'<<8 + 3
	cmdSetLimit = 'X'<<8 + 4
	cmdGetState = 'X'<<8 + 8
	projects    = 2 // PRJQUOTA

	enforced   = 1 << 5 // FS_QUOTA_PDQ_ENFD
	blockSize  = 512
	fieldsSoft = 1 << 2
	fieldsHard = 1 << 3
)

// record is struct fs_disk_quota.
type record struct {
	version, flags         int8
	fields                 uint16
	id                     uint32
	blocksHard, blocksSoft uint64
	inodesHard, inodesSoft uint64
	blocks, inodes         uint64
	_                      [16]byte // timers and warnings
	_                      [40]byte // of XFS's realtime device
}

// state is struct fs_quota_statv.
type state struct {
	version int8
	_       uint8
	flags   uint16
	_       uint32
	_       [3 * 24]byte
	_       [20 + 4]byte
	_       [7]uint64
}

// attrs is struct fsxattr of linux/fs.h.
type attrs struct {
	flags, extent, extents, project, copyExtent uint32
	_                                           [8]byte
}

const (
	getAttrs = 0x801c581f // FS_IOC_FSGETXATTR
	setAttrs = 0x401c5820 // FS_IOC_FSSETXATTR
	inherit  = 0x200      // FS_XFLAG_PROJINHERIT

	magicXFS = 0x58465342
)

func control(d *os.File, cmd uintptr, id uint32, arg unsafe.Pointer) error {
	_, _, errno := unix.Syscall6(unix.SYS_QUOTACTL_FD, d.Fd(), cmd<<8|projects, uintptr(id), uintptr(arg), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// Check returns nil if directories of dir's file system can be bounded, also
// for what this process mounts on top; else why they cannot.
func Check(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	s := state{version: 1}
	if err := control(d, cmdGetState, 0, unsafe.Pointer(&s)); err != nil || s.flags&enforced == 0 {
		return fmt.Errorf("%w: the file system of %s is not mounted with prjquota", ErrUnsupported, dir)
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(d.Fd()), &st); err != nil {
		return fmt.Errorf("statfs %s: %w", dir, err)
	}
	if st.Type == magicXFS {
		return nil
	}
	var caps [2]unix.CapUserData
	if err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &caps[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	if caps[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0 {
		return fmt.Errorf("%w: but on XFS it does not bind processes with CAP_SYS_RESOURCE", ErrUnsupported)
	}
	return nil
}

// Project returns the project that dir belongs to; 0 means none.
func Project(dir string) (uint32, error) {
	d, err := os.Open(dir)
	if err != nil {
		return 0, err
	}
	defer d.Close()
	a, err := attributes(d)
	return a.project, err
}

func attributes(d *os.File) (attrs, error) {
	var a attrs
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, d.Fd(), getAttrs, uintptr(unsafe.Pointer(&a))); errno != 0 {
		return a, fmt.Errorf("read the project of %s: %w", d.Name(), errno)
	}
	return a, nil
}

// Assign gives an empty directory, and all that will be made in it, to a project.
func Assign(dir string, project uint32) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	a, err := attributes(d)
	if err != nil {
		return err
	}
	a.project = project
	a.flags |= inherit
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, d.Fd(), setAttrs, uintptr(unsafe.Pointer(&a))); errno != 0 {
		return fmt.Errorf("give %s to project %d: %w", dir, project, errno)
	}
	return nil
}

// Limit bounds what a project of dir's file system takes, in bytes; 0 means
// that it may take all.
func Limit(dir string, project uint32, bytes int64) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	n := uint64(bytes) / blockSize
	r := record{version: 1, flags: projects, fields: fieldsHard | fieldsSoft, id: project, blocksHard: n, blocksSoft: n}
	if err := control(d, cmdSetLimit, project, unsafe.Pointer(&r)); err != nil {
		return fmt.Errorf("bound project %d of %s: %w", project, dir, err)
	}
	return nil
}

// Free finds a project of dir's file system that has no files and no limit,
// from the given one on. Others than Lade use projects, too, and only the file
// system knows of all.
func Free(dir string, from uint32) (uint32, error) {
	d, err := os.Open(dir)
	if err != nil {
		return 0, err
	}
	defer d.Close()
	for project := max(from, 1); project != 0; project++ {
		r := record{version: 1}
		err := control(d, cmdGetQuota, project, unsafe.Pointer(&r))
		if errors.Is(err, unix.ENOENT) || err == nil && r == (record{version: r.version, flags: r.flags, id: r.id, fields: r.fields}) {
			return project, nil
		}
		if err != nil {
			return 0, fmt.Errorf("look for a free project of %s: %w", dir, err)
		}
	}
	return 0, fmt.Errorf("no project of %s is free", dir)
}
