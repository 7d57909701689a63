package plan

import (
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
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
	case len(b.proc.User.AdditionalGids) > 0 && own(b.cfg.Linux.GIDMappings, b.f.GID):
		return errdefs.New(errdefs.Invalid, "process.user.additionalGids: cannot set any additional groups in a rootless container that has one group")
	}
	return nil
}

// own reports whether mappings show the runtime's own id, and no other.
func own(list []specs.LinuxIDMapping, id int) bool {
	return len(list) == 1 && list[0].Size == 1 && int(list[0].HostID) == id
}

// mappings are written by the runtime once the child is there.
func (b *builder) mappings() []program.Step {
	if b.newNS&unix.CLONE_NEWUSER == 0 || b.joins[unix.CLONE_NEWUSER] != "" {
		return nil
	}
	l := b.cfg.Linux
	write := func(file, text, field string) program.Step {
		return program.Step{Call: "write_proc", Args: []program.Arg{program.String(file), program.String(text)}, Why: field}
	}
	helper := func(name string, list []specs.LinuxIDMapping, field string) program.Step {
		return program.Step{
			Call: "helper", Why: field + "; other ids than the runtime's own are the administrator's to give",
			Args: []program.Arg{program.String(name), program.Strings(strings.Fields(mapLines(list)))},
		}
	}
	uids := write("uid_map", mapLines(l.UIDMappings)+"\n", "linux.uidMappings")
	gids := []program.Step{write("gid_map", mapLines(l.GIDMappings)+"\n", "linux.gidMappings")}
	if b.f.Rootless && !own(l.UIDMappings, b.f.UID) {
		uids = helper("newuidmap", l.UIDMappings, "linux.uidMappings")
	}
	switch {
	case !b.f.Rootless:
	case own(l.GIDMappings, b.f.GID):
		gids = append([]program.Step{write("setgroups", "deny", "who may give up no group may map one (user_namespaces(7))")}, gids...)
	default:
		gids = []program.Step{helper("newgidmap", l.GIDMappings, "linux.gidMappings")}
	}
	return append([]program.Step{uids}, gids...)
}
