package step

import (
	"golang.org/x/sys/unix"

	"lade/internal/runtime/program"
)

// The names of the bits that programs print.
var (
	CloneFlags = &program.FlagNames{
		{Bits: unix.CLONE_NEWUSER, Name: "CLONE_NEWUSER"},
		{Bits: unix.CLONE_NEWNS, Name: "CLONE_NEWNS"},
		{Bits: unix.CLONE_NEWPID, Name: "CLONE_NEWPID"},
		{Bits: unix.CLONE_NEWNET, Name: "CLONE_NEWNET"},
		{Bits: unix.CLONE_NEWIPC, Name: "CLONE_NEWIPC"},
		{Bits: unix.CLONE_NEWUTS, Name: "CLONE_NEWUTS"},
		{Bits: unix.CLONE_NEWCGROUP, Name: "CLONE_NEWCGROUP"},
		{Bits: unix.CLONE_NEWTIME, Name: "CLONE_NEWTIME"},
		{Bits: unix.CLONE_INTO_CGROUP, Name: "CLONE_INTO_CGROUP"},
		{Bits: unix.CLONE_PARENT, Name: "CLONE_PARENT"},
	}
	OpenFlags = &program.FlagNames{
		{Bits: unix.O_PATH, Name: "O_PATH"},
		{Bits: unix.O_DIRECTORY, Name: "O_DIRECTORY"},
		{Bits: unix.O_NOFOLLOW, Name: "O_NOFOLLOW"},
		{Bits: unix.O_WRONLY, Name: "O_WRONLY"},
		{Bits: unix.O_RDWR, Name: "O_RDWR"},
		{Bits: unix.O_NOCTTY, Name: "O_NOCTTY"},
		{Bits: unix.O_CREAT, Name: "O_CREAT"},
		{Bits: unix.O_CLOEXEC, Name: "O_CLOEXEC"},
	}
	ResolveFlags = &program.FlagNames{
		{Bits: unix.RESOLVE_IN_ROOT, Name: "RESOLVE_IN_ROOT"},
		{Bits: unix.RESOLVE_NO_MAGICLINKS, Name: "RESOLVE_NO_MAGICLINKS"},
		{Bits: unix.RESOLVE_NO_SYMLINKS, Name: "RESOLVE_NO_SYMLINKS"},
	}
	TreeFlags = &program.FlagNames{
		{Bits: unix.OPEN_TREE_CLONE, Name: "OPEN_TREE_CLONE"},
		{Bits: unix.OPEN_TREE_CLOEXEC, Name: "OPEN_TREE_CLOEXEC"},
		{Bits: unix.AT_RECURSIVE, Name: "AT_RECURSIVE"},
		{Bits: unix.AT_EMPTY_PATH, Name: "AT_EMPTY_PATH"},
	}
	AtFlags = &program.FlagNames{
		{Bits: unix.AT_EMPTY_PATH, Name: "AT_EMPTY_PATH"},
		{Bits: unix.AT_RECURSIVE, Name: "AT_RECURSIVE"},
		{Bits: unix.AT_SYMLINK_NOFOLLOW, Name: "AT_SYMLINK_NOFOLLOW"},
		{Bits: unix.AT_EACCESS, Name: "AT_EACCESS"},
	}
	// StatFlags tell what a copy of a directory takes over.
	StatFlags = &program.FlagNames{
		{Bits: unix.STATX_TYPE, Name: "type"},
		{Bits: unix.STATX_MODE, Name: "mode"},
		{Bits: unix.STATX_UID, Name: "owner"},
	}
	MoveFlags = &program.FlagNames{
		{Bits: unix.MOVE_MOUNT_F_EMPTY_PATH, Name: "MOVE_MOUNT_F_EMPTY_PATH"}, {Bits: unix.MOVE_MOUNT_T_EMPTY_PATH, Name: "MOVE_MOUNT_T_EMPTY_PATH"},
	}
	MountFlags = &program.FlagNames{
		{Bits: unix.MS_RDONLY, Name: "MS_RDONLY"},
		{Bits: unix.MS_NOSUID, Name: "MS_NOSUID"},
		{Bits: unix.MS_NODEV, Name: "MS_NODEV"},
		{Bits: unix.MS_NOEXEC, Name: "MS_NOEXEC"},
		{Bits: unix.MS_NOSYMFOLLOW, Name: "MS_NOSYMFOLLOW"},
		{Bits: unix.MS_NOATIME, Name: "MS_NOATIME"},
		{Bits: unix.MS_NODIRATIME, Name: "MS_NODIRATIME"},
		{Bits: unix.MS_I_VERSION, Name: "MS_I_VERSION"},
		{Bits: unix.MS_STRICTATIME, Name: "MS_STRICTATIME"},
		{Bits: unix.MS_LAZYTIME, Name: "MS_LAZYTIME"},
		{Bits: unix.MS_BIND, Name: "MS_BIND"},
		{Bits: unix.MS_REC, Name: "MS_REC"},
		{Bits: unix.MS_SLAVE, Name: "MS_SLAVE"},
		{Bits: unix.MS_PRIVATE, Name: "MS_PRIVATE"},
		{Bits: unix.MS_SHARED, Name: "MS_SHARED"},
		{Bits: unix.MS_UNBINDABLE, Name: "MS_UNBINDABLE"},
		{Bits: unix.MS_MOVE, Name: "MS_MOVE"},
	}
	SeccompFlags = &program.FlagNames{
		{Bits: unix.SECCOMP_FILTER_FLAG_TSYNC, Name: "TSYNC"},
		{Bits: unix.SECCOMP_FILTER_FLAG_LOG, Name: "LOG"},
		{Bits: unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW, Name: "SPEC_ALLOW"},
		{Bits: unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, Name: "NEW_LISTENER"},
		{Bits: unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, Name: "WAIT_KILLABLE_RECV"},
	}
	// AttrFlags: strictatime and noatime share bits with the mask of both.
	AttrFlags = &program.FlagNames{
		{Bits: unix.MOUNT_ATTR_RDONLY, Name: "RDONLY"},
		{Bits: unix.MOUNT_ATTR_NOSUID, Name: "NOSUID"},
		{Bits: unix.MOUNT_ATTR_NODEV, Name: "NODEV"},
		{Bits: unix.MOUNT_ATTR_NOEXEC, Name: "NOEXEC"},
		{Bits: unix.MOUNT_ATTR__ATIME, Name: "ATIME"},
		{Bits: unix.MOUNT_ATTR_NOATIME, Name: "NOATIME"},
		{Bits: unix.MOUNT_ATTR_STRICTATIME, Name: "STRICTATIME"},
		{Bits: unix.MOUNT_ATTR_NODIRATIME, Name: "NODIRATIME"},
		{Bits: unix.MOUNT_ATTR_NOSYMFOLLOW, Name: "NOSYMFOLLOW"},
		{Bits: unix.MOUNT_ATTR_IDMAP, Name: "IDMAP"},
	}
)
