// Package sysctl decides which kernel parameters a container may set, and makes
// the steps that set them.
package sysctl

import (
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/runtime/plan/step"
	"lade/internal/runtime/program"
)

// Check returns the namespace, as a flag of clone, that a parameter belongs to.
// One that belongs to none is the host's, and refused (CVE-2022-0811).
func Check(key string) (namespace uint64, err error) {
	path := name(key)
	for _, r := range key {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._-/", r) {
			return 0, errdefs.New(errdefs.Invalid, "linux.sysctl: %q is not a name", key)
		}
	}
	if slices.ContainsFunc(strings.Split(path, "/"), func(s string) bool { return s == "" || s == "." || s == ".." }) {
		return 0, errdefs.New(errdefs.Invalid, "linux.sysctl: %q is not a name", key)
	}
	switch {
	case slices.Contains([]string{
		"kernel/msgmax", "kernel/msgmnb", "kernel/msgmni", "kernel/sem", "kernel/shmall",
		"kernel/shmmax", "kernel/shmmni", "kernel/shm_rmid_forced", "kernel/shm_next_id", "kernel/msg_next_id", "kernel/sem_next_id",
	}, path), strings.HasPrefix(path, "fs/mqueue/"):
		return unix.CLONE_NEWIPC, nil
	case strings.HasPrefix(path, "net/"):
		return unix.CLONE_NEWNET, nil
	case path == "kernel/domainname":
		return unix.CLONE_NEWUTS, nil
	case path == "kernel/hostname":
		return 0, errdefs.New(errdefs.Invalid, "linux.sysctl: %q conflicts with the field hostname; use that", key)
	case strings.HasPrefix(path, "user/"):
		return unix.CLONE_NEWUSER, nil
	}
	return 0, errdefs.New(errdefs.Invalid, "sysctl %q is not in a separate kernel namespace", key)
}

// name returns the path of a key below sys. As in sysctl(8), the first
// separator tells whether dots or slashes separate.
func name(key string) string {
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

// Steps set parameters through the procfs in slot proc, which is not attached
// anywhere yet: nothing in the container can lie over it (CVE-2025-52881).
func Steps(proc program.Slot, values map[string]string) []program.Step {
	const fd program.Slot = "sysctl"
	var steps []program.Step
	for _, key := range slices.Sorted(maps.Keys(values)) {
		value := values[key]
		open := step.Openat2(proc, "sys/"+name(key), unix.O_WRONLY|unix.O_CLOEXEC, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_MAGICLINKS, fd)
		steps = append(steps,
			step.Why(step.Say(open, "set sysctl "+key), "linux.sysctl"),
			step.Sayf(program.Step{Call: "write", Args: []program.Arg{program.FD(fd), program.String(value), program.Int(len(value))}, Why: "linux.sysctl"}, "set sysctl %s to %q", key, value),
			step.Close(fd),
		)
	}
	return steps
}
