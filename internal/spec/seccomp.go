package spec

import (
	"runtime"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/linux/capability"
)

// DefaultSeccomp returns Docker's default filter for a container with the
// capabilities caps, on a machine like this one.
func DefaultSeccomp(caps []string) *specs.LinuxSeccomp {
	return DefaultSeccompFor(caps, runtime.GOARCH)
}

// DefaultSeccompFor returns Docker's default filter for a container with the
// capabilities caps on a machine of Go's architecture goarch: system calls
// that containers have use for, and no others; those that are for
// administrators, for the administrator's capability.
//
// It differs from Docker's in one point. Docker admits socket families above
// AF_VSOCK by a comparison, which on 64-bit machines looks at 64 bits, while
// the kernel looks at 32: with a bit set above, AF_ALG and AF_VSOCK pass as
// well. Here the families are named one by one.
func DefaultSeccompFor(caps []string, goarch string) *specs.LinuxSeccomp {
	eperm := uint(1)
	s := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, DefaultErrnoRet: &eperm, Architectures: architectures(goarch)}
	s.Syscalls = append(s.Syscalls, allow(everyone))
	if more := ownCalls(goarch); more != "" {
		s.Syscalls = append(s.Syscalls, allow(more))
	}
	s.Syscalls = append(s.Syscalls, socketRules()...)
	s.Syscalls = append(s.Syscalls, personalityRules()...)
	held, _ := capability.ParseSet(caps) // unknown ones open nothing
	for _, p := range privileged {
		if n, err := capability.Parse(p.capability); err == nil && held.Has(n) {
			s.Syscalls = append(s.Syscalls, allow(p.calls))
		}
	}
	if admin, _ := capability.Parse("CAP_SYS_ADMIN"); !held.Has(admin) {
		s.Syscalls = append(s.Syscalls, cloneRules()...)
	}
	return s
}

// architectures returns those whose programs a machine runs.
func architectures(goarch string) []specs.Arch {
	switch goarch {
	case "amd64":
		return []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32}
	case "arm64":
		return []specs.Arch{specs.ArchAARCH64, specs.ArchARM}
	case "riscv64":
		return []specs.Arch{specs.ArchRISCV64}
	}
	return nil
}

func allow(names string) specs.LinuxSyscall {
	return specs.LinuxSyscall{Names: strings.Fields(names), Action: specs.ActAllow}
}

// allowIf allows a call if its argument passes a comparison.
func allowIf(name string, arg specs.LinuxSeccompArg) specs.LinuxSyscall {
	c := allow(name)
	c.Args = []specs.LinuxSeccompArg{arg}
	return c
}

// socketRules admit every address family but two: AF_ALG (38), an interface to
// the kernel's cryptography with a history of holes, and AF_VSOCK (40), which
// leads to the hypervisor past every network namespace.
func socketRules() []specs.LinuxSyscall {
	const alg, vsock, families = 38, 40, 46 // AF_MAX of Linux 6.x
	rules := []specs.LinuxSyscall{allowIf("socket", specs.LinuxSeccompArg{Index: 0, Op: specs.OpLessThan, Value: alg})}
	for f := uint64(alg + 1); f < families; f++ {
		if f != vsock {
			rules = append(rules, allowIf("socket", specs.LinuxSeccompArg{Index: 0, Op: specs.OpEqualTo, Value: f}))
		}
	}
	return rules
}

// personalityRules admit the execution domains that are in use: Linux,
// Linux with 32-bit answers to uname, each with or without the flag for old
// versions of it, and the question which one is set. Others switch
// protections off, such as the randomisation of addresses.
func personalityRules() []specs.LinuxSyscall {
	const linux32, uname26, query = 0x8, 0x20000, 0xffffffff
	var rules []specs.LinuxSyscall
	for _, p := range []uint64{0, linux32, uname26, linux32 | uname26, query} {
		rules = append(rules, allowIf("personality", specs.LinuxSeccompArg{Index: 0, Op: specs.OpEqualTo, Value: p}))
	}
	return rules
}

// cloneRules admit new processes and threads, not new namespaces. clone3 has
// its flags in memory, where a filter cannot look; told that it does not
// exist, C libraries go on with clone.
func cloneRules() []specs.LinuxSyscall {
	const namespaces = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
	enosys := uint(38)
	return []specs.LinuxSyscall{
		allowIf("clone", specs.LinuxSeccompArg{Index: 0, Op: specs.OpMaskedEqual, Value: namespaces, ValueTwo: 0}),
		{Names: []string{"clone3"}, Action: specs.ActErrno, ErrnoRet: &enosys},
	}
}

// ownCalls returns calls that only some machines have.
func ownCalls(goarch string) string {
	switch goarch {
	case "amd64", "386":
		return "arch_prctl modify_ldt"
	case "arm64", "arm":
		return "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2"
	case "riscv64":
		return "riscv_flush_icache"
	}
	return ""
}

// privileged are the calls that a capability opens: the kernel asks for the
// same capability, and a container that lacks it loses nothing but the chance
// to try the kernel's code for them.
var privileged = []struct{ capability, calls string }{
	{"CAP_DAC_READ_SEARCH", "open_by_handle_at"},
	{"CAP_SYS_ADMIN", `bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr
		lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd
		setdomainname sethostname setns syslog umount umount2 unshare`},
	{"CAP_SYS_BOOT", "reboot"},
	{"CAP_SYS_CHROOT", "chroot"},
	{"CAP_SYS_MODULE", "delete_module finit_module init_module"},
	{"CAP_SYS_PACCT", "acct"},
	{"CAP_SYS_PTRACE", "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace"},
	{"CAP_SYS_RAWIO", "ioperm iopl"},
	{"CAP_SYS_TIME", "clock_settime clock_settime64 settimeofday stime"},
	{"CAP_SYS_TTY_CONFIG", "vhangup"},
	{"CAP_SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"},
	{"CAP_SYSLOG", "syslog"},
	{"CAP_BPF", "bpf"},
	{"CAP_PERFMON", "perf_event_open"},
}

// everyone are the calls for every container, by what they are about. What is
// dangerous among them the kernel refuses to those without the capability.
const everyone = "" +
	// Files by name.
	`access chdir chmod chown chown32 creat faccessat faccessat2 fchmodat fchmodat2 fchownat fstatat64 futimesat
		getcwd getxattr getxattrat lchown lchown32 lgetxattr link linkat listxattr listxattrat llistxattr lremovexattr
		lsetxattr lstat lstat64 mkdir mkdirat mknod mknodat name_to_handle_at newfstatat open openat openat2 readlink
		readlinkat removexattr removexattrat rename renameat renameat2 rmdir setxattr setxattrat stat stat64 statfs
		statfs64 statx symlink symlinkat truncate truncate64 umask unlink unlinkat utime utimensat utimensat_time64 utimes` + " " +
	// Files by descriptor, and data.
	`_llseek close close_range copy_file_range dup dup2 dup3 fadvise64 fadvise64_64 fallocate fchdir fchmod fchown
		fchown32 fcntl fcntl64 fdatasync fgetxattr flistxattr flock fremovexattr fsetxattr fstat fstat64 fstatfs fstatfs64
		fsync ftruncate ftruncate64 getdents getdents64 ioctl lseek pipe pipe2 pread64 preadv preadv2 pwrite64 pwritev
		pwritev2 read readahead readv sendfile sendfile64 splice sync sync_file_range syncfs tee vmsplice write writev` + " " +
	// The table of mounts, to read.
	`listmount statmount` + " " +
	// Waiting for files, and for changes of files.
	`_newselect epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old
		eventfd eventfd2 fanotify_mark inotify_add_watch inotify_init inotify_init1 inotify_rm_watch poll ppoll ppoll_time64
		pselect6 pselect6_time64 select` + " " +
	// Asynchronous input and output, the old kind: io_uring has had too
	// many holes, and is out since Docker 25.
	`io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit` + " " +
	// Memory.
	`brk cachestat madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall mmap
		mmap2 mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect remap_file_pages` + " " +
	// Processes and threads. Others of the container can be traced, since
	// Linux 4.8 lets no tracer change what a filter has judged.
	`execve execveat exit exit_group fork get_robust_list get_thread_area getcpu getpgid getpgrp getpid getppid
		getpriority getrlimit getrusage getsid gettid ioprio_get ioprio_set kill pause pidfd_open pidfd_send_signal prctl
		prlimit64 process_mrelease process_vm_readv process_vm_writev ptrace riscv_hwprobe rseq seccomp set_robust_list
		set_thread_area set_tid_address setpgid setpriority setrlimit setsid tgkill times tkill ugetrlimit uretprobe vfork
		wait4 waitid waitpid` + " " +
	// Who a process is: bounded by its capabilities and the user namespace.
	`capget capset getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getresgid getresgid32
		getresuid getresuid32 getuid getuid32 setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32
		setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setuid setuid32` + " " +
	// To give up rights.
	`landlock_add_rule landlock_create_ruleset landlock_restrict_self` + " " +
	// The scheduler.
	`sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler
		sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam
		sched_setscheduler sched_yield` + " " +
	// Signals.
	`restart_syscall rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend
		rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaltstack signalfd signalfd4 sigprocmask sigreturn` + " " +
	// Locks.
	`futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake` + " " +
	// Clocks and timers; to set a clock takes CAP_SYS_TIME in the kernel.
	`adjtimex alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64
		clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep setitimer time timer_create timer_delete
		timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime
		timerfd_gettime64 timerfd_settime timerfd_settime64` + " " +
	// Sockets; which families can be opened is said in socketRules.
	`accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg recvmmsg_time64
		recvmsg send sendmmsg sendmsg sendto setsockopt shutdown socketcall socketpair` + " " +
	// Queues, semaphores and shared memory, within the IPC namespace.
	`ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64
		mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64 shmat shmctl shmdt shmget` + " " +
	// The system.
	`getrandom sysinfo uname`
