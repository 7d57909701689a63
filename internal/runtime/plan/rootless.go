package plan

import (
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/runtime/plan/idmap"
	"lade/internal/runtime/program"
)

// A runtime that is not root has no privileges but those that a user namespace
// gives: its child makes all mounts, and ids other than its own are mapped by
// newuidmap and newgidmap, which know what the user was granted.

// checkRootless refuses what takes privileges that no user namespace gives.
func (b *builder) checkRootless() error {
	if !b.f.Rootless {
		return nil
	}
	switch {
	case !b.userNS:
		return errdefs.Hint(errdefs.New(errdefs.Invalid, "rootless container requires user namespaces"), "add one to linux.namespaces, or run lade-runtime as root")
	case len(b.cfg.Linux.NetDevices) > 0:
		return errdefs.New(errdefs.Invalid, "linux.netDevices: network devices are not supported for rootless containers")
	case len(b.proc.User.AdditionalGids) > 0 && idmap.Own(b.cfg.Linux.GIDMappings, b.f.GID):
		return errdefs.New(errdefs.Invalid, "process.user.additionalGids: cannot set any additional groups in a rootless container that has one group")
	}
	return nil
}

// mappings are written by the runtime once the child is there.
func (b *builder) mappings() []program.Step {
	if b.newNS&unix.CLONE_NEWUSER == 0 || b.joins[unix.CLONE_NEWUSER] != "" {
		return nil
	}
	return idmap.Steps(b.cfg.Linux.UIDMappings, b.cfg.Linux.GIDMappings, idmap.User{Root: !b.f.Rootless, UID: b.f.UID, GID: b.f.GID})
}
