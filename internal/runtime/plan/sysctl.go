package plan

import (
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/runtime/program"
)

// checkSysctls lets through only what belongs to a namespace of the
// container's own; everything else is the host's (CVE-2022-0811).
func (b *builder) checkSysctls() error {
	for key := range b.cfg.Linux.Sysctl {
		if err := b.checkSysctl(key); err != nil && !b.in.Unchecked {
			return err
		}
	}
	return nil
}

func (b *builder) checkSysctl(key string) error {
	path := sysctlPath(key)
	for _, r := range key {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._-/", r) {
			return errdefs.New(errdefs.Invalid, "linux.sysctl: %q is not a name", key)
		}
	}
	if slices.ContainsFunc(strings.Split(path, "/"), func(s string) bool { return s == "" || s == "." || s == ".." }) {
		return errdefs.New(errdefs.Invalid, "linux.sysctl: %q is not a name", key)
	}
	need := uint64(0)
	switch {
	case slices.Contains([]string{
		"kernel/msgmax", "kernel/msgmnb", "kernel/msgmni", "kernel/sem", "kernel/shmall",
		"kernel/shmmax", "kernel/shmmni", "kernel/shm_rmid_forced", "kernel/shm_next_id", "kernel/msg_next_id", "kernel/sem_next_id",
	}, path), strings.HasPrefix(path, "fs/mqueue/"):
		need = unix.CLONE_NEWIPC
	case strings.HasPrefix(path, "net/"):
		need = unix.CLONE_NEWNET
	case path == "kernel/domainname":
		need = unix.CLONE_NEWUTS
	case path == "kernel/hostname":
		return errdefs.New(errdefs.Invalid, "linux.sysctl: %q conflicts with the field hostname; use that", key)
	case strings.HasPrefix(path, "user/"):
		need = unix.CLONE_NEWUSER
	default:
		return errdefs.New(errdefs.Invalid, "sysctl %q is not in a separate kernel namespace", key)
	}
	if !b.isolated(need) {
		return errdefs.New(errdefs.Invalid, "sysctl %q is not allowed in the hosts %s namespace", key, strings.TrimPrefix(string(nsSlot(need)), "ns-"))
	}
	return nil
}

// sysctlPath returns the path of a key below sys. As in sysctl(8), the first
// separator tells whether dots or slashes separate.
func sysctlPath(key string) string {
	if i := strings.IndexAny(key, "./"); i >= 0 && key[i] == '.' {
		return strings.Map(func(r rune) rune {
			switch r {
			case '.':
				return '/'
			case '/':
				return '.'
			}
			return r
		}, key)
	}
	return key
}

// sysctls writes through a procfs that is not attached anywhere yet: nothing
// in the container can lie over it (CVE-2025-52881).
func (b *builder) sysctls(proc program.Slot) {
	const fd program.Slot = "sysctl"
	for _, key := range slices.Sorted(maps.Keys(b.cfg.Linux.Sysctl)) {
		value := b.cfg.Linux.Sysctl[key]
		open := openat2(proc, "sys/"+sysctlPath(key), unix.O_WRONLY|unix.O_CLOEXEC, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_MAGICLINKS, fd)
		b.add(
			why(say(open, "set sysctl "+key), "linux.sysctl"),
			sayf(program.Step{Call: "write", Args: []program.Arg{program.FD(fd), program.String(value), program.Int(len(value))}, Why: "linux.sysctl"}, "set sysctl %s to %q", key, value),
			closeFD(fd),
		)
	}
}
