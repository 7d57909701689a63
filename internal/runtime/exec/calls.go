package exec

import "golang.org/x/sys/unix"

// number returns the number of a system call by its name. It is a switch and
// not a table, so that it costs nothing at start-up.
func number(name string) (uintptr, bool) {
	switch name {
	case "accept4":
		return unix.SYS_ACCEPT4, true
	case "capset":
		return unix.SYS_CAPSET, true
	case "chdir":
		return unix.SYS_CHDIR, true
	case "clone3":
		return unix.SYS_CLONE3, true
	case "close":
		return unix.SYS_CLOSE, true
	case "close_range":
		return unix.SYS_CLOSE_RANGE, true
	case "connect":
		return unix.SYS_CONNECT, true
	case "dup3":
		return unix.SYS_DUP3, true
	case "execve":
		return unix.SYS_EXECVE, true
	case "execveat":
		return unix.SYS_EXECVEAT, true
	case "exit_group":
		return unix.SYS_EXIT_GROUP, true
	case "faccessat2":
		return unix.SYS_FACCESSAT2, true
	case "fchdir":
		return unix.SYS_FCHDIR, true
	case "fchmod":
		return unix.SYS_FCHMOD, true
	case "fchownat":
		return unix.SYS_FCHOWNAT, true
	case "fcntl":
		return unix.SYS_FCNTL, true
	case "fsconfig":
		return unix.SYS_FSCONFIG, true
	case "fsmount":
		return unix.SYS_FSMOUNT, true
	case "fsopen":
		return unix.SYS_FSOPEN, true
	case "fstatfs":
		return unix.SYS_FSTATFS, true
	case "getcwd":
		return unix.SYS_GETCWD, true
	case "getppid":
		return unix.SYS_GETPPID, true
	case "ioctl":
		return unix.SYS_IOCTL, true
	case "ioprio_set":
		return unix.SYS_IOPRIO_SET, true
	case "keyctl":
		return unix.SYS_KEYCTL, true
	case "mkdirat":
		return unix.SYS_MKDIRAT, true
	case "mknodat":
		return unix.SYS_MKNODAT, true
	}
	return numberFromM(name)
}

func numberFromM(name string) (uintptr, bool) {
	switch name {
	case "mount":
		return unix.SYS_MOUNT, true
	case "mount_setattr":
		return unix.SYS_MOUNT_SETATTR, true
	case "move_mount":
		return unix.SYS_MOVE_MOUNT, true
	case "openat":
		return unix.SYS_OPENAT, true
	case "openat2":
		return unix.SYS_OPENAT2, true
	case "open_tree":
		return unix.SYS_OPEN_TREE, true
	case "personality":
		return unix.SYS_PERSONALITY, true
	case "pidfd_open":
		return unix.SYS_PIDFD_OPEN, true
	case "pivot_root":
		return unix.SYS_PIVOT_ROOT, true
	case "prctl":
		return unix.SYS_PRCTL, true
	case "prlimit64":
		return unix.SYS_PRLIMIT64, true
	case "chroot":
		return unix.SYS_CHROOT, true
	case "read":
		return unix.SYS_READ, true
	case "rt_sigprocmask":
		return unix.SYS_RT_SIGPROCMASK, true
	}
	return numberFromS(name)
}

func numberFromS(name string) (uintptr, bool) {
	switch name {
	case "set_mempolicy":
		return unix.SYS_SET_MEMPOLICY, true
	case "statx":
		return unix.SYS_STATX, true
	case "sched_setaffinity":
		return unix.SYS_SCHED_SETAFFINITY, true
	case "sched_setattr":
		return unix.SYS_SCHED_SETATTR, true
	case "seccomp":
		return unix.SYS_SECCOMP, true
	case "sendmsg":
		return unix.SYS_SENDMSG, true
	case "setdomainname":
		return unix.SYS_SETDOMAINNAME, true
	case "setgroups":
		return unix.SYS_SETGROUPS, true
	case "sethostname":
		return unix.SYS_SETHOSTNAME, true
	case "setns":
		return unix.SYS_SETNS, true
	case "setresgid":
		return unix.SYS_SETRESGID, true
	case "setresuid":
		return unix.SYS_SETRESUID, true
	case "setsid":
		return unix.SYS_SETSID, true
	case "socket":
		return unix.SYS_SOCKET, true
	case "symlinkat":
		return unix.SYS_SYMLINKAT, true
	case "umask":
		return unix.SYS_UMASK, true
	case "umount2":
		return unix.SYS_UMOUNT2, true
	case "unlinkat":
		return unix.SYS_UNLINKAT, true
	case "unshare":
		return unix.SYS_UNSHARE, true
	case "write":
		return unix.SYS_WRITE, true
	}
	return 0, false
}
