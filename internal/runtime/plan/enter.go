package plan

import (
	"path"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/cgroup"
	"lade/internal/runtime/program"
)

// Entry is a process that is to be started in a running container.
type Entry struct {
	Input
	// Cgroup are the container's cgroups.
	Cgroup cgroup.Group
}

// Exec returns the program that starts another process in a container; slot
// Init holds a pidfd of its first process, and in.Config.Process what to start.
//
// The pid namespace is joined by the runtime's thread, as it counts for
// children only, all others by the child, at once: the kernel takes them all
// or none.
func Exec(in Entry, f Facts) (*program.Program, error) {
	f.Cgroup = cgroup.Plan{Group: in.Cgroup}
	b := &builder{in: in.Input, f: f, cfg: in.Config, proc: in.Config.Process, entering: true}
	switch {
	case b.proc == nil:
		return nil, errdefs.New(errdefs.Invalid, "process property must not be empty")
	case b.cfg.Linux == nil:
		return nil, errdefs.New(errdefs.Invalid, "linux property must not be empty")
	}
	if err := b.namespaces(); err != nil {
		return nil, err
	}
	p := &b.prog
	p.Name = "exec in " + in.ID
	b.prologue()
	b.meet()
	all := b.newNS
	for flag := range b.joins {
		all |= flag
	}
	if all&unix.CLONE_NEWPID != 0 {
		p.Before = append(p.Before, program.Step{Call: "setns", Why: "the container's pid namespace, for the child", Args: []program.Arg{
			program.FD(Init), program.Flags(unix.CLONE_NEWPID, cloneFlags),
		}})
	}
	if rest := all &^ unix.CLONE_NEWPID; rest != 0 {
		b.do("the container's namespaces", "setns", program.FD(Init), program.Flags(rest, cloneFlags))
	}
	if b.userNS {
		b.becomeRoot()
	}
	if b.proc.Terminal {
		b.add(program.Step{Call: "openat", Yield: rootFD, Args: []program.Arg{program.CWD(), program.String("/"), program.Flags(cloexecPath|unix.O_DIRECTORY, openFlags), program.Int(0)}})
		b.terminal()
		b.add(closeFD(rootFD))
	}
	if err := b.process(); err != nil {
		return nil, err
	}
	flags := uint64(0)
	if dir := in.Cgroup.Unified(); dir != "" {
		flags = unix.CLONE_INTO_CGROUP
		p.Before = append(p.Before, program.Step{
			Call: "openat", Yield: Cgroup, Why: "the child is born in its cgroup",
			Args: []program.Arg{program.CWD(), program.String(dir), program.Flags(unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, openFlags), program.Int(0)},
		})
	}
	p.Clone = program.Step{Call: "clone3", Args: []program.Arg{program.Flags(flags, cloneFlags)}}
	p.Beside = append(b.score(), program.Step{Call: "release", Args: []program.Arg{program.FD(program.Sync)}, Why: "the child may go on"})
	p.Child = b.steps
	return p, nil
}

// hasDevpts reports whether the configuration mounts a devpts at /dev/pts.
func (b *builder) hasDevpts() bool {
	for i := range b.cfg.Mounts {
		if m := &b.cfg.Mounts[i]; m.Type == "devpts" && path.Clean(m.Destination) == "/dev/pts" {
			return true
		}
	}
	return false
}
