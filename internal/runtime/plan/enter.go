package plan

import (
	"path"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/cgroup"
	"lade/internal/runtime/plan/step"
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
	if err := b.affinity(false); err != nil {
		return nil, err
	}
	b.meet()
	b.openLabels()
	b.enterNamespaces()
	if b.proc.Terminal {
		b.add(program.Step{Call: "openat", Yield: rootFD, Args: []program.Arg{program.CWD(), program.String("/"), program.Flags(step.PathOnly|unix.O_DIRECTORY, step.OpenFlags), program.Int(0)}})
		b.terminal()
		b.add(step.Close(rootFD))
	}
	if err := b.process(); err != nil {
		return nil, err
	}
	flags := uint64(0)
	if dir := in.Cgroup.Unified(); dir != "" {
		flags = unix.CLONE_INTO_CGROUP
		p.Before = append(p.Before, program.Step{
			Call: "openat", Yield: Cgroup, Why: "the child is born in its cgroup", Say: joining(dir),
			Args: []program.Arg{program.CWD(), program.String(dir), program.Flags(unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, step.OpenFlags), program.Int(0)},
		})
	}
	p.Clone = program.Step{Call: "clone3", Args: []program.Arg{program.Flags(flags, step.CloneFlags)}}
	release := program.Step{Call: "release", Args: []program.Arg{program.FD(program.Sync)}, Why: "the child may go on"}
	if b.recloned {
		p.Beside = append(p.Beside, release, adopt())
	}
	p.Beside = append(append(p.Beside, b.score()...), release)
	p.Beside = append(p.Beside, b.listener...)
	p.Child = b.steps
	return p, nil
}

// enterNamespaces joins all namespaces of the process in slot Init.
func (b *builder) enterNamespaces() {
	all := b.newNS
	for flag := range b.joins {
		all |= flag
	}
	if b.f.Rootless {
		// The pid namespace is out of reach but from within the user namespace.
		b.do("the container's namespaces", "setns", program.FD(Init), program.Flags(all, step.CloneFlags))
		b.becomeRoot()
		if all&unix.CLONE_NEWPID != 0 {
			b.again()
		}
		return
	}
	if all&unix.CLONE_NEWPID != 0 {
		b.prog.Before = append(b.prog.Before, program.Step{Call: "setns", Why: "the container's pid namespace, for the child", Args: []program.Arg{
			program.FD(Init), program.Flags(unix.CLONE_NEWPID, step.CloneFlags),
		}})
	}
	if rest := all &^ unix.CLONE_NEWPID; rest != 0 {
		b.do("the container's namespaces", "setns", program.FD(Init), program.Flags(rest, step.CloneFlags))
	}
	if b.userNS {
		b.becomeRoot()
	}
}

// Slots of a hook that runs in the container's namespaces.
const (
	HookRoot   program.Slot = "hook-root"   // the root that the container's process has now
	HookInput  program.Slot = "hook-input"  // becomes its standard input
	HookOutput program.Slot = "hook-output" // becomes its standard output and error
)

// Hook returns the program that runs a hook where the container's process is:
// in its namespaces, and with its root, which is the host's until pivot_root.
func Hook(in Input, f Facts, kind string, h *specs.Hook) (*program.Program, error) {
	b := &builder{in: in, f: f, cfg: in.Config, proc: in.Config.Process, entering: true}
	if b.cfg.Linux == nil {
		b.cfg.Linux = &specs.Linux{}
	}
	if err := b.namespaces(); err != nil {
		return nil, err
	}
	b.prog.Name = "hooks." + kind + " of " + in.ID
	b.prologue()
	b.enterNamespaces()
	b.do("entering a mount namespace leads to its topmost root", "fchdir", program.FD(HookRoot))
	b.do("the root of the container's process", "chroot", program.String("."))
	if kind == "createContainer" {
		b.do("where the hooks of runc start, and so count on", "chdir", program.String(in.Rootfs))
		b.steps[len(b.steps)-1].Tolerate = []syscall.Errno{syscall.EACCES}
	}
	b.do("the state", "dup3", program.FD(HookInput), program.Int(0), program.Int(0))
	b.do("kept for an error", "dup3", program.FD(HookOutput), program.Int(1), program.Int(0))
	b.do("kept for an error", "dup3", program.FD(HookOutput), program.Int(2), program.Int(0))
	b.do("", "umask", program.Octal(0o022))
	b.do("nothing of the runtime is left open", "close_range", program.Int(3), program.Named(0xffffffff, "~0"), program.Named(unix.CLOSE_RANGE_CLOEXEC, "CLOSE_RANGE_CLOEXEC"))
	b.do("nothing but execve is left", "write", program.FD(program.Report), program.Bytes([]byte{'x'}, "executing"), program.Int(1))
	if kind == "startContainer" {
		if err := b.hookFilter(); err != nil {
			return nil, err
		}
	}
	args := h.Args
	if len(args) == 0 {
		args = []string{h.Path}
	}
	b.add(step.Say(program.Step{Call: "execve", Args: []program.Arg{program.String(h.Path), program.Strings(args), program.Strings(h.Env)}, Why: "hooks." + kind}, "execute the hook "+h.Path))
	if b.recloned {
		b.prog.Beside = []program.Step{adopt(), {Call: "release", Args: []program.Arg{program.FD(program.Sync)}, Why: "the child may go on"}}
	}
	b.prog.Clone = program.Step{Call: "clone3", Args: []program.Arg{program.Flags(0, step.CloneFlags)}}
	b.prog.Child = b.steps
	return &b.prog, nil
}

// adopt is the runtime's step when the child has cloned itself.
func adopt() program.Step {
	return program.Step{Call: "adopt", Args: []program.Arg{program.FD(program.Sync)}, Why: "the child's child is the container's process"}
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
