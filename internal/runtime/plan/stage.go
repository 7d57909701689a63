package plan

import (
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"lade/internal/runtime/plan/mountopt"
	"lade/internal/runtime/plan/step"
	"lade/internal/runtime/program"
)

// A mount's options are its maker's only where it came from above: the kernel
// locks the options of a mount that is copied, as part of a mount namespace,
// into one of another user namespace, and of no other. A tree that the runtime
// opened and the child attached could be made writable by whoever has
// CAP_SYS_ADMIN in the container's user namespace, whatever the host had it
// mounted as.
//
// So what comes from the host crosses the boundary as the kernel expects it:
// the runtime hangs the trees, with all the options that they shall have, into
// a stage, a small file system in a mount namespace that only one thread of it
// is in. The thread stands in the stage when it clones the child, which
// therefore stands in its own copy of it, and takes the copies of the trees from
// there.

// stage is the runtime's file system on which trees wait to be copied.
const stage program.Slot = "stage"

// staged reports whether trees cross into a user namespace by a stage.
func (b *builder) staged() bool { return b.userNS && b.newMount && !b.f.Rootless }

// outside names the slot in which the runtime has a tree; the child has its
// own copy.
func (b *builder) outside(tree program.Slot) program.Slot {
	if b.staged() {
		return "host-" + tree
	}
	return tree
}

// crossing returns the runtime's steps that set the stage. They are the last
// ones before the clone.
func (b *builder) crossing() []program.Step {
	if !b.staged() {
		return nil
	}
	steps := []program.Step{
		step.Why(program.Step{Call: "unshare", Args: []program.Arg{program.Flags(unix.CLONE_NEWNS, step.CloneFlags)}}, "mounts that cross from here into the user namespace have their options locked by the kernel"),
		step.Why(step.Mount("", "/", unix.MS_REC|unix.MS_SLAVE), "nothing of it reaches the host"),
	}
	steps = append(steps, step.NewFS("ramfs", "", nil, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC, stage)...)
	steps = append(steps, program.Step{Call: "move_mount", Args: []program.Arg{
		program.FD(stage), program.String(""), program.CWD(), program.String(b.in.State),
		program.Flags(unix.MOVE_MOUNT_F_EMPTY_PATH, step.MoveFlags),
	}, Why: "a place that nobody looks at; over / it would count as a changed root"})
	hang := func(tree program.Slot, dir bool) {
		name := program.String(string(tree))
		place := program.Step{Call: "mkdirat", Args: []program.Arg{program.FD(stage), name, program.Octal(0o700)}}
		if !dir {
			place = program.Step{Call: "mknodat", Args: []program.Arg{program.FD(stage), name, program.Octal(unix.S_IFREG | 0o600), program.Int(0)}}
		}
		steps = append(steps, place, program.Step{Call: "move_mount", Args: []program.Arg{
			program.FD(b.outside(tree)), program.String(""), program.FD(stage), name,
			program.Flags(unix.MOVE_MOUNT_F_EMPTY_PATH, step.MoveFlags),
		}})
	}
	hang(rootFD, true)
	for _, i := range b.binds {
		hang(treeSlot(i), b.f.Sources[b.cfg.Mounts[i].Source].Dir)
	}
	return append(steps, step.Why(program.Step{Call: "fchdir", Args: []program.Arg{program.FD(stage)}}, "who is cloned here stands in its own copy of the stage"))
}

// collect are the child's steps that take its copies from the stage.
func (b *builder) collect() []program.Step {
	take := func(tree program.Slot, why string) program.Step {
		return step.Why(step.CloneTree(program.CWD(), string(tree), true, tree), why)
	}
	steps := []program.Step{take(rootFD, "root.path, as it came into the user namespace")}
	for i := range b.cfg.Mounts {
		if o, err := mountopt.Parse(i, &b.cfg.Mounts[i]); err == nil && o.Bind && !b.f.Sources[b.cfg.Mounts[i].Source].Inside {
			steps = append(steps, take(treeSlot(i), "mounts["+strconv.Itoa(i)+"], as it came into the user namespace"))
		}
	}
	return slices.Concat(steps, []program.Step{{Call: "chdir", Args: []program.Arg{program.String("/")}}})
}
