package plan

import (
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/capability"
	"lade/internal/linux/cgroup"
	"lade/internal/runtime/plan/resctrl"
	"lade/internal/runtime/plan/step"
	"lade/internal/runtime/program"
)

// Slots that the caller of a program fills.
const (
	Listen  program.Slot = "listen"  // the socket on which a created container awaits its start
	Console program.Slot = "console" // the connection to the console socket
	Init    program.Slot = "init"    // a pidfd of the container's first process
	Cgroup  program.Slot = "cgroup"  // the v2 cgroup in which the child is born
)

// Input is what is to be started.
type Input struct {
	ID     string
	State  string // the directory of the container's record
	Bundle string
	Rootfs string // absolute
	Config *specs.Spec
	// Wait makes the child wait, when all is set up, for a connection to the
	// socket in slot Listen.
	Wait bool
	// NoPivot enters the root by moving it over the old one, for a root that
	// is the initramfs.
	NoPivot bool
	// PlainTerminal leaves the newlines that are written to a terminal as they
	// are: it is shown on another, which does what there is to do.
	PlainTerminal bool
	// NoKeyring leaves the session keyring as it is.
	NoKeyring bool
	// Keep is how many descriptors from 3 on the process is given.
	Keep int
	// Unchecked plans what is refused otherwise. It is for tests, which show
	// what a check is there for.
	Unchecked bool
}

// Source is what is known about the source of a bind mount.
type Source struct {
	Dir  bool // a directory
	Proc bool // on procfs
	// Inside tells that it lies in the container's root: what is there is known
	// only when the mounts before it are made.
	Inside bool
}

// Place is what is known about a place in the root where something is mounted.
type Place struct {
	Mode uint32 // of a directory that is there
	Link string // where links lead of which the last leads nowhere
}

// Facts are what a program depends on and the configuration does not say.
type Facts struct {
	Layout cgroup.Layout
	Cgroup cgroup.Plan
	// Caps are the capabilities that the runtime holds; LastCap the highest
	// that the kernel knows.
	Caps    capability.Set
	LastCap uint
	// Limits are the runtime's own resource limits, where the configuration
	// sets one.
	Limits map[int]unix.Rlimit
	// Sources holds the source of every bind mount.
	Sources map[string]Source
	// Places holds what is known about places in the root, by destination.
	Places map[string]Place
	// Pseudo are the mounts of procfs and sysfs that would stay without
	// pivot_root.
	Pseudo []string
	// RootMount is the mount of the host that the root lies on; it is looked
	// for where it matters only.
	RootMount string
	// SharedStreams tells which of the standard streams are not the process's
	// alone, but devices of the machine.
	SharedStreams [3]bool
	// Rootless tells that the runtime is not root; UID and GID are who it is.
	Rootless bool
	UID, GID int
	// AppArmor and SELinux tell whether the kernel enforces them; they are
	// looked for where the configuration has a label only.
	AppArmor, SELinux bool
	// Resctrl is where resctrl is mounted, or "".
	Resctrl string
	// Nested tells that the runtime lives in a user namespace itself.
	Nested bool
	// OwnNamespaces holds the paths of namespaces to join that are those of
	// the runtime itself.
	OwnNamespaces map[string]bool
	// Arch is the machine's architecture in Go's words; "" is the program's.
	Arch string
	// Home is the home directory of the process's user, "" if it has none.
	Home string
}

// Start returns the program that creates a container.
//
// The order, and its reasons: The child makes itself unreadable first. Where
// there is a user namespace it waits for its mappings, joins its cgroups while
// it still is the runtime's user, and becomes root of the namespace. Mounts
// come in the order of the configuration, each one attached by descriptor to a
// place that was resolved inside the root. Meanwhile the runtime makes the
// cgroups and the record of the container; the child joins as late as it can,
// by its own hand: a process that moves itself costs the kernel nothing, one
// that is moved by another costs a grace period of all CPUs. After pivot_root
// nothing of the host is in reach, and only then privileges are dropped.
func Start(in Input, f Facts) (*program.Program, error) {
	b := &builder{in: in, f: f, cfg: in.Config, proc: in.Config.Process, steps: make([]program.Step, 0, 512)}
	if err := b.prepare(); err != nil {
		return nil, err
	}
	b.prog.Name = "create " + in.ID
	b.prologue()
	b.userNamespace()
	b.joinNamespaces()
	b.networkUp()
	if b.newMount {
		if err := b.checkRoot(); err != nil {
			return nil, err
		}
		if err := b.root(); err != nil {
			return nil, err
		}
	} else {
		b.meet()
		b.sharedRoot()
	}
	b.names()
	if err := b.process(); err != nil {
		return nil, err
	}
	b.runtimeSide()
	b.prog.Child = b.steps
	return &b.prog, nil
}

// builder collects the steps of one program.
type builder struct {
	in    Input
	f     Facts
	cfg   *specs.Spec
	proc  *specs.Process
	prog  program.Program
	steps []program.Step // of the child

	newNS    uint64            // CLONE_NEW* flags of new namespaces
	joins    map[uint64]string // namespaces to join, by flag
	newMount bool              // the mount namespace is new
	userNS   bool              // the process lives in a user namespace other than the runtime's
	entering bool              // into a running container
	met      bool              // the child has met the runtime's release
	binds    []int             // mounts whose trees the runtime opens
	recloned bool              // the child's child becomes the container's process

	listener []program.Step // of the runtime, for a seccomp filter that asks somebody
	netLate  bool           // the network namespace is made after the child was released

	mapped map[string]program.Slot // user namespaces that have a mapping, by it

	copies     []program.Step // of the runtime, for tmpfs mounts that begin as copies
	copiesLate bool           // the child has been released before it makes mounts
}

// warn notes what is not done as it was asked for.
func (b *builder) warn(format string, args ...any) {
	b.prog.Warnings = append(b.prog.Warnings, fmt.Sprintf(format, args...))
}

func (b *builder) add(steps ...program.Step) { b.steps = append(b.steps, steps...) }

// do appends a plain call.
func (b *builder) do(why, call string, args ...program.Arg) {
	b.steps = append(b.steps, program.Step{Call: call, Args: args, Why: why})
}

// prepare checks what the whole program depends on.
func (b *builder) prepare() error {
	switch {
	case b.proc == nil:
		return errdefs.New(errdefs.Invalid, "process property must not be empty")
	case b.cfg.Linux == nil:
		b.cfg.Linux = &specs.Linux{}
	}
	return b.namespaces()
}

// runtimeSide lays out the runtime's own steps: what must be there before the
// child is, and what is done beside it.
func (b *builder) runtimeSide() {
	p := &b.prog
	flags := b.newNS &^ (unix.CLONE_NEWCGROUP | unix.CLONE_NEWTIME)
	switch {
	case b.joins[unix.CLONE_NEWUSER] != "":
		flags = 0 // made by unshare, in the namespace that is joined
	case b.newNS&unix.CLONE_NEWUSER != 0:
		flags &^= unix.CLONE_NEWIPC // see userNamespace
	}
	var beside []program.Step
	if u := b.f.Cgroup.Unit; u != nil {
		beside = append(beside, program.Step{Call: "unit", Args: []program.Arg{program.String(u.String())}, Why: "--systemd-cgroup: systemd makes the cgroups, and takes the child in", Carry: u})
	}
	p.Before = append(p.Before, program.Step{Call: "record", Args: []program.Arg{program.String("creating")}, Why: "what is to be undone is on disk before it is done"})
	for i := range b.f.Cgroup.Steps {
		s := &b.f.Cgroup.Steps[i]
		step := program.Step{Call: "cgroup", Args: []program.Arg{program.String(s.String())}, Why: s.Why, Carry: s}
		if b.inUnified(s.Path) && b.f.Cgroup.Unit == nil {
			p.Before = append(p.Before, step)
		} else {
			beside = append(beside, step)
		}
	}
	if dir := b.f.Cgroup.Group.Unified(); dir != "" && b.f.Cgroup.Unit == nil {
		flags |= unix.CLONE_INTO_CGROUP
		p.Before = append(p.Before, program.Step{
			Call: "openat", Yield: Cgroup, Why: "the child is born in its cgroup", Say: joining(dir),
			Args: []program.Arg{program.CWD(), program.String(dir), program.Flags(unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, step.OpenFlags), program.Int(0)},
		})
	}
	b.openJoins()
	p.Before = append(p.Before, b.openTrees()...)
	p.Before = append(p.Before, b.crossing()...)
	p.Clone = program.Step{Call: "clone3", Args: []program.Arg{program.Flags(flags, step.CloneFlags)}, Why: "linux.namespaces"}
	p.Beside = append(p.Beside, beside...)
	p.Beside = append(p.Beside, b.mappings()...)
	if b.recloned {
		p.Beside = append(p.Beside,
			program.Step{Call: "release", Args: []program.Arg{program.FD(program.Sync)}, Why: "the cgroups are made"},
			adopt(),
		)
	}
	p.Beside = append(p.Beside, b.netDevices()...)
	p.Beside = append(p.Beside, b.score()...)
	p.Beside = append(p.Beside, resctrl.Steps(b.cfg.Linux.IntelRdt, b.f.Resctrl, b.in.ID)...)
	p.Beside = append(p.Beside,
		program.Step{Call: "record", Args: []program.Arg{program.String("created")}, Why: "the process is on disk before it can do anything"})
	if !b.copiesLate {
		p.Beside = append(p.Beside, b.copies...)
	}
	hooks := b.runtimeHooks()
	if b.copiesLate && len(hooks) > 0 {
		hooks = slices.Insert(hooks, 1, b.copies...)
	}
	p.Beside = append(p.Beside, hooks...)
	p.Beside = append(p.Beside, program.Step{Call: "release", Args: []program.Arg{program.FD(program.Sync)}, Why: "the child may go on"})
	if b.copiesLate && len(hooks) == 0 {
		p.Beside = append(p.Beside, b.copies...)
	}
	p.Beside = append(p.Beside, b.listener...)
}

func (b *builder) inUnified(path string) bool {
	for _, h := range b.f.Layout.Hierarchies {
		if h.V2 && (path == h.Mount || len(path) > len(h.Mount) && path[:len(h.Mount)+1] == h.Mount+"/") {
			return b.f.Layout.Unified() || path != h.Mount
		}
	}
	return false
}
