package plan

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/runtime/plan/mountopt"
	"lade/internal/runtime/plan/step"
	"lade/internal/runtime/plan/sysctl"
	"lade/internal/runtime/program"
)

// Slots of the child that are used over and over: a step that needs one closes
// it before the next takes it.
const (
	rootFD  program.Slot = "root"  // the container's root
	devFD   program.Slot = "dev"   // its /dev
	ptsFD   program.Slot = "pts"   // its devpts
	mntFD   program.Slot = "mnt"   // the mount at hand
	placeFD program.Slot = "place" // where it goes
	nullFD  program.Slot = "null"  // the host's /dev/null
	emptyFD program.Slot = "empty" // the directory that masks others
)

// root makes the container's file system and enters it.
func (b *builder) root() error {
	if err := b.rootMount(); err != nil {
		return err
	}
	if err := b.mounts(); err != nil {
		return err
	}
	if err := b.devices(); err != nil {
		return err
	}
	// What does not depend on the cgroups is done while the runtime makes them.
	early := !b.underCgroups()
	if early {
		b.protect()
	}
	b.meet()
	if err := b.cgroupMounts(); err != nil {
		return err
	}
	b.terminal()
	// What waits for its start holds nothing that it needs no more.
	if b.ownDev() {
		b.add(step.Close(devFD))
	}
	if b.proc.Terminal && b.hasDevpts() {
		b.add(step.Close(ptsFD))
	}
	if !early {
		b.protect()
	}
	b.readonlyDev()
	b.workdir()
	b.hookStop()
	b.enter()
	return nil
}

// rootMount cuts the mounts off from the host's and makes the root a mount.
func (b *builder) rootMount() error {
	flags := uint64(unix.MS_SLAVE | unix.MS_REC)
	if p := b.cfg.Linux.RootfsPropagation; p != "" {
		f, rec, ok := mountopt.Propagation(p)
		switch {
		case !ok:
			return errdefs.New(errdefs.Invalid, "linux.rootfsPropagation: %q is not one of shared, slave, private and unbindable, nor these with an r in front", p)
		case f == unix.MS_SHARED:
			// What is mounted on volumes shall reach the host: only the place
			// on which the root is put must not.
			flags = unix.MS_PRIVATE
		case f != unix.MS_UNBINDABLE: // set when the root is entered
			if flags = f; rec {
				flags |= unix.MS_REC
			}
		}
	}
	b.add(step.Why(step.Mount("", "/", flags), "linux.rootfsPropagation: no mount of the root reaches the host"))
	// The runtime opens the tree: the way to it may be closed to the user that
	// the child is by now.
	tree := b.outside(rootFD)
	open := []program.Step{
		step.Why(step.Say(step.CloneTree(program.CWD(), b.in.Rootfs, true, tree), "open root.path "+b.in.Rootfs), "root.path; pivot_root wants a mount"),
	}
	if !b.sharedWithHost() {
		open = append(open, step.Why(step.SetAttr(tree, 0, 0, flags&^unix.MS_REC, true), "no mount in the root reaches the host"))
	}
	if f, _, _ := mountopt.Propagation(b.cfg.Linux.RootfsPropagation); f != unix.MS_SLAVE {
		open = append(open, step.Why(step.SetAttr(tree, 0, 0, unix.MS_PRIVATE, false), "no mount on the root reaches the host"))
	}
	if b.f.Rootless {
		b.add(open...) // only the child may
	} else {
		b.prog.Before = append(b.prog.Before, open...)
	}
	if b.staged() {
		b.add(b.collect()...)
	}
	b.putRoot()
	return nil
}

// putRoot puts the root over the old one, a place that needs no way to it. With
// hooks it goes where root.path says: they enter the mount namespace by itself,
// and look for the root there. The way may be closed to root of a user
// namespace; hooks would not get through, either.
func (b *builder) putRoot() {
	put := func(place string) program.Step {
		return program.Step{Call: "move_mount", Why: "root.path", Say: "mount root.path " + b.in.Rootfs, Args: []program.Arg{
			program.FD(rootFD), program.String(""), program.CWD(), program.String(place), program.Flags(unix.MOVE_MOUNT_F_EMPTY_PATH, step.MoveFlags),
		}}
	}
	over := put("/")
	if !b.hooked() {
		b.add(over)
		return
	}
	if b.sharedWithHost() {
		b.add(step.Why(step.Mount("", b.f.RootMount, unix.MS_PRIVATE), "the root must not come to lie on the host's mounts, too"))
	}
	there := step.Tolerate(put(b.in.Rootfs), syscall.EACCES)
	there.Why, there.Else = "root.path, where hooks look for it", []program.Step{over}
	b.add(there)
}

// sharedWithHost reports whether mounts may reach the host at all: those of a
// user namespace never do.
func (b *builder) sharedWithHost() bool {
	f, _, _ := mountopt.Propagation(b.cfg.Linux.RootfsPropagation)
	return f == unix.MS_SHARED && !b.userNS
}

// mounts makes the mounts of the configuration, but those of cgroups.
func (b *builder) mounts() error {
	proc := false
	for i := range b.cfg.Mounts {
		m := &b.cfg.Mounts[i]
		o, err := mountopt.Parse(i, m)
		if err != nil {
			return err
		}
		if !path.IsAbs(m.Destination) {
			// The specification asks for absolute ones; runc takes the others
			// from the root, and engines rely on that.
			m.Destination = "/" + m.Destination
		}
		if inside, ok := b.below(m.Destination); ok {
			m.Destination = inside // named as the host sees it
		}
		if err := b.checkProc(i, m, o); err != nil && !b.in.Unchecked {
			return err
		}
		if path.Clean(m.Destination) == "/" {
			return errdefs.New(errdefs.Invalid, "mounts[%d]: nothing can be mounted over the root; root.path says what it is", i)
		}
		switch {
		case (m.Type == "cgroup" || m.Type == "cgroup2") && !o.Bind:
			continue
		case o.Bind:
			err = b.bind(i, m, o)
		default:
			if m.Type == "proc" {
				proc = true
			}
			err = b.fileSystem(i, m, o)
		}
		if err != nil {
			return err
		}
	}
	if !proc && len(b.cfg.Linux.Sysctl) > 0 {
		b.add(step.NewFS("proc", "proc", nil, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC, mntFD)...)
		b.add(sysctl.Steps(mntFD, b.cfg.Linux.Sysctl)...)
		b.add(step.Close(mntFD))
	}
	return nil
}

// checkProc refuses mounts over /proc that would let a container show the
// runtime, or itself, a false one (CVE-2019-16884, CVE-2019-19921).
func (b *builder) checkProc(i int, m *specs.Mount, o mountopt.Options) error {
	d := path.Clean(m.Destination)
	rest, below := strings.CutPrefix(d, "/proc/")
	switch {
	case d == "/proc" && (m.Type == "proc" && !o.Bind || o.Bind && b.f.Sources[m.Source].Proc):
		return nil
	case !below && d != "/proc", m.Type == "proc" && !o.Bind:
		return nil
	case below && o.Bind && slices.Contains([]string{
		"cpuinfo", "diskstats", "meminfo", "stat", "swaps", "uptime", "loadavg", "slabinfo",
		"sys/kernel/ns_last_pid", "sys/crypto/fips_enabled", "net/dev",
	}, rest):
		return nil
	}
	return errdefs.New(errdefs.Invalid, "mounts[%d]: %q cannot be mounted because it is inside /proc", i, m.Destination)
}

// fileSystem mounts a new file system.
func (b *builder) fileSystem(i int, m *specs.Mount, o mountopt.Options) error {
	if m.Type == "" {
		return errdefs.New(errdefs.Invalid, "mounts[%d]: %s has neither a type nor the option bind", i, m.Destination)
	}
	label := step.Field("mounts", i) + ": " + m.Destination
	attr := o.Set | o.RecSet
	d := path.Clean(m.Destination)
	source := cmp.Or(m.Source, m.Type)
	if o.Classic {
		b.classic(i, m, o, source)
		return nil
	}
	inherits := m.Type == "tmpfs" && !o.CopyUp && !hasOption(o, "mode")
	late := d == "/dev" || o.CopyUp || inherits
	if late {
		attr &^= unix.MOUNT_ATTR_RDONLY // something is yet to be done in it
	}
	data := b.mountData(m.Type, o.Data)
	if mode := b.f.Places[m.Destination].Mode; inherits && mode != 0 {
		data = append(slices.Clone(data), fmt.Sprintf("mode=%o", mode))
	}
	if o.Readonly && !slices.Contains([]string{"tmpfs", "proc", "sysfs", "devpts", "mqueue"}, m.Type) {
		data = append(slices.Clone(data), "ro") // a device must not even be opened for writing
	}
	for k, s := range step.NewFS(m.Type, source, data, attr, mntFD) {
		s.Say = "mount " + m.Type + " at " + m.Destination
		if k == 0 {
			s.Why = label
		}
		b.add(s)
	}
	resolve := uint64(step.InRoot)
	if m.Type == "proc" || m.Type == "sysfs" {
		// An image that has a link here has its reasons (CVE-2023-27561).
		resolve |= unix.RESOLVE_NO_SYMLINKS
	}
	if m.Type == "proc" {
		b.add(sysctl.Steps(mntFD, b.cfg.Linux.Sysctl)...)
	}
	found := b.outsideProc(i, m)
	if inherits {
		found = append(found, inheritMode(label)...)
	}
	b.place(m.Destination, true, resolve, label, found...)
	if resolve&unix.RESOLVE_NO_SYMLINKS != 0 {
		b.steps[len(b.steps)-1].Say = fmt.Sprintf("%s at %s must be mounted on ordinary directory", m.Type, m.Destination)
	}
	if o.CopyUp {
		b.copyUp(i, o)
	}
	if late && o.Readonly && d != "/dev" {
		b.add(step.Why(step.SetAttr(mntFD, unix.MOUNT_ATTR_RDONLY, 0, 0, false), label+": ro"))
	}
	b.add(step.Say(step.Attach(mntFD, placeFD), "mount "+m.Type+" at "+m.Destination), step.Close(placeFD))
	b.propagate(o)
	if d == "/dev/pts" && m.Type == "devpts" && b.proc.Terminal {
		b.add(program.Step{Call: "fcntl", Yield: ptsFD, Args: []program.Arg{program.FD(mntFD), program.Named(unix.F_DUPFD_CLOEXEC, "F_DUPFD_CLOEXEC"), program.Int(3)}, Why: "process.terminal: the pseudo terminals are taken from this very mount"})
	}
	b.add(step.Close(mntFD))
	return nil
}

// classic mounts a file system by mount(2): its options are too long for the
// new calls, or not known to them. It is mounted on the directory that the
// child is in, which was resolved inside the root.
func (b *builder) classic(i int, m *specs.Mount, o mountopt.Options, source string) {
	label := step.Field("mounts", i) + ": " + m.Destination
	o.Data = b.mountData(m.Type, o.Data)
	flags, data := o.Flags()
	if slices.Contains(m.Options, "iversion") {
		flags |= unix.MS_I_VERSION
	}
	b.place(m.Destination, true, step.InRoot, label, b.outsideProc(i, m)...)
	b.do(label, "fchdir", program.FD(placeFD))
	b.add(
		step.Close(placeFD),
		step.Say(step.MountHere(m.Type, source, flags, data), "mount "+m.Type+" at "+m.Destination),
		step.Openat2(rootFD, m.Destination, step.PathOnly, step.InRoot, mntFD),
	)
	b.do("", "chdir", program.String("/"))
	b.propagate(o)
	b.add(step.Close(mntFD))
}

// inheritMode gives the tmpfs at hand the mode of the directory that it covers,
// as long as nobody says another.
func inheritMode(label string) []program.Step {
	const top program.Slot = "top"
	return []program.Step{
		{Call: "statx", Args: []program.Arg{program.FD(placeFD), program.String(""), program.Flags(unix.AT_EMPTY_PATH, step.AtFlags), program.Flags(unix.STATX_MODE, step.StatFlags), program.Buffer("stat", 256)}},
		step.Openat2(mntFD, ".", unix.O_DIRECTORY|unix.O_CLOEXEC, 0, top),
		{Call: "fchmod", Args: []program.Arg{program.FD(top), program.Field("stat", 28)}, Why: label + ": the mode of what it covers"},
		step.Close(top),
	}
}

func hasOption(o mountopt.Options, keys ...string) bool {
	return slices.ContainsFunc(o.Data, func(s string) bool {
		key, _, _ := strings.Cut(s, "=")
		return slices.Contains(keys, key)
	})
}

// outsideProc verifies that a link in the image has not led into /proc, where
// checkProc lets nothing be mounted: neither where LSM labels are written nor
// where they are read (CVE-2019-19921).
func (b *builder) outsideProc(i int, m *specs.Mount) []program.Step {
	if d := path.Clean(m.Destination); d == "/proc" || strings.HasPrefix(d, "/proc/") || b.in.Unchecked {
		return nil
	}
	return []program.Step{
		{Call: "fstatfs", Args: []program.Arg{program.FD(placeFD), program.Buffer("statfs", 120)}},
		{
			Call: "check", Args: program.Check("statfs", 0xffffffff, unix.PROC_SUPER_MAGIC, uint64(syscall.ENOTTY)), Tolerate: []syscall.Errno{syscall.ENOTTY},
			Why: "no link in the image leads into /proc (CVE-2019-19921)",
			Then: []program.Step{{
				Call: "check", Args: []program.Arg{program.Buffer("never", 8), program.Int(0), program.Int(1), program.Int(uint64(syscall.EPERM))},
				Say: fmt.Sprintf("mounts[%d]: %q cannot be mounted because it is inside /proc", i, m.Destination),
			}},
		},
	}
}

// propagate sets the propagation of the mount at hand.
func (b *builder) propagate(o mountopt.Options) {
	if o.Propagation != 0 {
		b.add(step.Why(step.SetAttr(mntFD, 0, 0, o.Propagation, o.PropagationRec), "mount propagation"))
	}
}

// bind attaches a copy of a mount of the host.
func (b *builder) bind(i int, m *specs.Mount, o mountopt.Options) error {
	src, ok := b.f.Sources[m.Source]
	if !ok {
		return errdefs.New(errdefs.Invalid, "mounts[%d]: the source %q is not known", i, m.Source)
	}
	label := step.Field("mounts", i) + ": " + m.Destination
	if err := b.checkIDMap(i, m, o); err != nil {
		return err
	}
	if src.Inside {
		b.bindInside(i, m, o)
		return nil
	}
	fd := mntFD
	if b.opensInRuntime(o) {
		fd = treeSlot(i)
		b.binds = append(b.binds, i)
	} else {
		b.add(step.Why(step.Say(step.CloneTree(program.CWD(), m.Source, o.Recursive, mntFD), "open the source "+m.Source+" of the mount at "+m.Destination), label))
	}
	if fd == mntFD || !b.staged() {
		b.add(b.bindAttributes(fd, o, m.Destination)...)
	}
	b.place(m.Destination, src.Dir, step.InRoot, label, b.outsideProc(i, m)...)
	b.add(step.Say(step.Attach(fd, placeFD), "mount "+m.Source+" at "+m.Destination), step.Close(placeFD))
	if o.Propagation != 0 {
		b.add(step.Why(step.SetAttr(fd, 0, 0, o.Propagation, o.PropagationRec), "mount propagation"))
	}
	b.add(step.Close(fd))
	return nil
}

func treeSlot(i int) program.Slot { return program.Slot("tree" + strconv.Itoa(i)) }

// bindAttributes sets what the options ask for on a tree that is not attached
// yet. In a user namespace the kernel holds on to what its maker had set.
func (b *builder) bindAttributes(fd program.Slot, o mountopt.Options, dest string) []program.Step {
	var steps []program.Step
	if set, clear := o.OfBind(b.userNS || b.f.Rootless || b.f.Nested); set != 0 || clear != 0 {
		steps = append(steps, step.Say(step.SetAttr(fd, set, clear, 0, false), "set the options of the mount at "+dest))
	}
	if o.RecSet != 0 || o.RecClear != 0 {
		steps = append(steps, step.Say(step.SetAttr(fd, o.RecSet, o.RecClear, 0, true), "set the recursive options of the mount at "+dest))
	}
	return steps
}

// opensInRuntime reports whether the runtime must open a bind's source: in a
// user namespace the child may not even be able to see it, and an idmapped
// mount takes privileges over the file system.
func (b *builder) opensInRuntime(o mountopt.Options) bool {
	return (b.userNS || o.IDMap) && !b.f.Rootless
}

// openTrees are the steps of the runtime that open sources for the child.
func (b *builder) openTrees() []program.Step {
	var steps []program.Step
	for _, i := range b.binds {
		m := &b.cfg.Mounts[i]
		o, _ := mountopt.Parse(i, m) // it went well before
		fd := b.outside(treeSlot(i))
		steps = append(steps,
			step.Why(step.Say(step.CloneTree(program.CWD(), m.Source, o.Recursive, fd), "open the source "+m.Source+" of the mount at "+m.Destination), step.Field("mounts", i)),
		)
		if !b.sharedWithHost() {
			steps = append(steps, step.Why(step.SetAttr(fd, 0, 0, unix.MS_SLAVE, true), "what is mounted in the container does not reach the host"))
		}
		steps = append(steps, b.mapTree(i, m, o, fd)...)
		if b.staged() {
			steps = append(steps, b.bindAttributes(fd, o, m.Destination)...)
		}
	}
	return steps
}

// place yields the place of a mount in slot placeFD. What is missing on the
// way is made: each name in the directory that was resolved before it, so that
// nobody can swap one for a link to elsewhere (CVE-2021-30465, CVE-2024-45310).
// found are steps for a place that was there.
func (b *builder) place(dest string, dir bool, resolve uint64, label string, found ...program.Step) {
	b.add(b.placing(dest, dir, resolve, label, found...))
}

func (b *builder) placing(dest string, dir bool, resolve uint64, label string, found ...program.Step) program.Step {
	open := step.Openat2(rootFD, dest, step.PathOnly, resolve, placeFD)
	open.Why = label
	open.Say = "find " + dest + " in the root"
	open.Tolerate = []syscall.Errno{syscall.ENOENT}
	open.Then = found
	open.Else = step.MakePath(rootFD, cmp.Or(b.f.Places[dest].Link, dest), dir, resolve, placeFD)
	return open
}
