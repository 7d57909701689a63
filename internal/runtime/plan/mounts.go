package plan

import (
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
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
)

// root makes the container's file system and enters it.
func (b *builder) root() error {
	if err := b.rootMount(); err != nil {
		return err
	}
	if err := b.mounts(); err != nil {
		return err
	}
	b.devices()
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
	flag, _, _ := propagation("slave")
	rec := true
	if p := b.cfg.Linux.RootfsPropagation; p != "" {
		f, r, ok := propagation(p)
		if !ok {
			return errdefs.New(errdefs.Invalid, "linux.rootfsPropagation: %q is not one of shared, slave, private and unbindable, nor these with an r in front", p)
		}
		// The root's own propagation is set at the end; until then what is
		// made here must not reach the host.
		if f != unix.MS_SHARED && f != unix.MS_UNBINDABLE {
			flag, rec = f, r
		}
	}
	flags := flag
	if rec {
		flags |= unix.MS_REC
	}
	b.add(why(mount("", "/", flags), "linux.rootfsPropagation: no mount made here reaches the host"))
	// The runtime opens the tree: the way to it may be closed to the user that
	// the child is by now. It is put over the old root, a place that needs no
	// way at all.
	b.prog.Before = append(b.prog.Before,
		why(say(cloneTree(program.CWD(), b.in.Rootfs, true, rootFD), "open root.path "+b.in.Rootfs), "root.path; pivot_root wants a mount"),
		why(setAttr(rootFD, 0, 0, flag, true), "no mount in the root reaches the host"),
		why(setAttr(rootFD, 0, 0, unix.MS_PRIVATE, false), "no mount on the root reaches the host"),
	)
	b.add(program.Step{Call: "move_mount", Why: "root.path", Say: "mount root.path " + b.in.Rootfs, Args: []program.Arg{
		program.FD(rootFD), program.String(""), program.CWD(), program.String("/"),
		program.Flags(unix.MOVE_MOUNT_F_EMPTY_PATH, moveFlags),
	}})
	return nil
}

// mounts makes the mounts of the configuration, but those of cgroups.
func (b *builder) mounts() error {
	proc := false
	for i := range b.cfg.Mounts {
		m := &b.cfg.Mounts[i]
		o, err := parseOptions(i, m)
		if err != nil {
			return err
		}
		if !path.IsAbs(m.Destination) {
			// The specification asks for absolute ones; runc takes the others
			// from the root, and engines rely on that.
			m.Destination = "/" + m.Destination
		}
		if err := b.checkProc(i, m, o); err != nil && !b.in.Unchecked {
			return err
		}
		switch {
		case (m.Type == "cgroup" || m.Type == "cgroup2") && !o.bind:
			continue
		case o.bind:
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
		b.add(newFS("proc", "proc", nil, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC, mntFD)...)
		b.sysctls(mntFD)
		b.add(closeFD(mntFD))
	}
	return nil
}

// checkProc refuses mounts over /proc that would let a container show the
// runtime, or itself, a false one (CVE-2019-16884, CVE-2019-19921).
func (b *builder) checkProc(i int, m *specs.Mount, o mountOptions) error {
	d := path.Clean(m.Destination)
	rest, below := strings.CutPrefix(d, "/proc/")
	switch {
	case d == "/proc" && (m.Type == "proc" && !o.bind || o.bind && b.f.Sources[m.Source].Proc):
		return nil
	case !below && d != "/proc", m.Type == "proc" && !o.bind:
		return nil
	case below && o.bind && slices.Contains([]string{
		"cpuinfo", "diskstats", "meminfo", "stat", "swaps", "uptime", "loadavg", "slabinfo",
		"sys/kernel/ns_last_pid", "sys/crypto/fips_enabled", "net/dev",
	}, rest):
		return nil
	}
	return errdefs.New(errdefs.Invalid, "mounts[%d]: %q cannot be mounted because it is inside /proc", i, m.Destination)
}

// fileSystem mounts a new file system.
func (b *builder) fileSystem(i int, m *specs.Mount, o mountOptions) error {
	if m.Type == "" {
		return errdefs.New(errdefs.Invalid, "mounts[%d]: %s has neither a type nor the option bind", i, m.Destination)
	}
	label := field("mounts", i) + ": " + m.Destination
	attr := o.set | o.rset
	d := path.Clean(m.Destination)
	if d == "/dev" || o.copyUp {
		attr &^= unix.MOUNT_ATTR_RDONLY // it is yet to be filled
	}
	source := m.Source
	if source == "" {
		source = m.Type
	}
	if len(o.data) > 0 && slices.ContainsFunc(o.data, func(s string) bool { return len(s) > 255 }) {
		return errdefs.New(errdefs.NotImplemented, "mounts[%d]: an option is longer than 255 bytes", i)
	}
	for k, s := range newFS(m.Type, source, o.data, attr, mntFD) {
		s.Say = "mount " + m.Type + " at " + m.Destination
		if k == 0 {
			s.Why = label
		}
		b.add(s)
	}
	resolve := uint64(inRoot)
	if m.Type == "proc" || m.Type == "sysfs" {
		// An image that has a link here has its reasons (CVE-2023-27561).
		resolve |= unix.RESOLVE_NO_SYMLINKS
	}
	if m.Type == "proc" {
		b.sysctls(mntFD)
	}
	b.place(m.Destination, true, resolve, label)
	if o.copyUp {
		b.copyUp(i, o)
		if o.readonly && d != "/dev" {
			b.add(why(setAttr(mntFD, unix.MOUNT_ATTR_RDONLY, 0, 0, false), label+": ro"))
		}
	}
	b.add(say(attach(mntFD), "mount "+m.Type+" at "+m.Destination), closeFD(placeFD))
	b.propagate(o)
	switch d {
	case "/dev/pts":
		if m.Type == "devpts" && b.proc.Terminal {
			b.add(program.Step{Call: "fcntl", Yield: ptsFD, Args: []program.Arg{program.FD(mntFD), program.Named(unix.F_DUPFD_CLOEXEC, "F_DUPFD_CLOEXEC"), program.Int(3)}, Why: "process.terminal: the pseudo terminals are taken from this very mount"})
		}
	}
	b.add(closeFD(mntFD))
	return nil
}

// propagate sets the propagation of the mount at hand.
func (b *builder) propagate(o mountOptions) {
	if o.propagation != 0 {
		b.add(why(setAttr(mntFD, 0, 0, o.propagation, o.propagationRec), "mount propagation"))
	}
}

// bind attaches a copy of a mount of the host.
func (b *builder) bind(i int, m *specs.Mount, o mountOptions) error {
	src, ok := b.f.Sources[m.Source]
	if !ok {
		return errdefs.New(errdefs.Invalid, "mounts[%d]: the source %q is not known", i, m.Source)
	}
	label := field("mounts", i) + ": " + m.Destination
	if err := b.checkIDMap(i, m, o); err != nil {
		return err
	}
	fd := mntFD
	if b.opensInRuntime(o) {
		fd = treeSlot(i)
		b.binds = append(b.binds, i)
	} else {
		b.add(why(say(cloneTree(program.CWD(), m.Source, o.recursive, mntFD), "open the source "+m.Source+" of the mount at "+m.Destination), label))
	}
	b.add(b.bindAttributes(fd, o, m.Destination)...)
	b.place(m.Destination, src.Dir, inRoot, label)
	b.add(say(attach(fd), "mount "+m.Source+" at "+m.Destination), closeFD(placeFD))
	if o.propagation != 0 {
		b.add(why(setAttr(fd, 0, 0, o.propagation, o.propagationRec), "mount propagation"))
	}
	b.add(closeFD(fd))
	return nil
}

func treeSlot(i int) program.Slot { return program.Slot("tree" + strconv.Itoa(i)) }

// bindAttributes sets what the options ask for on a tree that is not attached
// yet. Options that take an attribute away count for recursive ones only: a
// bind mount never makes writable what the host has read-only.
func (b *builder) bindAttributes(fd program.Slot, o mountOptions, dest string) []program.Step {
	var steps []program.Step
	if set := o.set; set != 0 || o.clear&unix.MOUNT_ATTR__ATIME != 0 {
		clear := o.clear & unix.MOUNT_ATTR__ATIME
		steps = append(steps, say(setAttr(fd, set, clear, 0, false), "set the options of the mount at "+dest))
	}
	if o.rset != 0 || o.rclear != 0 {
		steps = append(steps, say(setAttr(fd, o.rset, o.rclear, 0, true), "set the recursive options of the mount at "+dest))
	}
	return steps
}

// opensInRuntime reports whether the runtime must open a bind's source: in a
// user namespace the child may not even be able to see it, and an idmapped
// mount takes privileges over the file system.
func (b *builder) opensInRuntime(o mountOptions) bool {
	return b.userNS || o.idmap
}

// openTrees are the steps of the runtime that open sources for the child.
func (b *builder) openTrees() []program.Step {
	var steps []program.Step
	made := map[string]program.Slot{}
	for _, i := range b.binds {
		m := &b.cfg.Mounts[i]
		o, _ := parseOptions(i, m) // it went well before
		fd := treeSlot(i)
		steps = append(steps,
			why(say(cloneTree(program.CWD(), m.Source, o.recursive, fd), "open the source "+m.Source+" of the mount at "+m.Destination), field("mounts", i)),
			why(setAttr(fd, 0, 0, unix.MS_SLAVE, true), "what is mounted in the container does not reach the host"),
		)
		steps = append(steps, b.idmap(i, m, o, fd, made)...)
	}
	return steps
}

// place yields the place of a mount in slot placeFD. What is missing on the
// way is made: each name in the directory that was resolved before it, so that
// nobody can swap one for a link to elsewhere (CVE-2021-30465, CVE-2024-45310).
func (b *builder) place(dest string, dir bool, resolve uint64, label string) {
	open := openat2(rootFD, dest, cloexecPath, resolve, placeFD)
	open.Why = label
	open.Say = "find " + dest + " in the root"
	open.Tolerate = []syscall.Errno{syscall.ENOENT}
	open.Else = makePath(dest, dir, resolve)
	b.add(open)
}

// makePath makes a directory, or a file in its directory, and yields it in
// slot placeFD.
func makePath(dest string, dir bool, resolve uint64) []program.Step {
	const up program.Slot = "up"
	parts := strings.Split(strings.Trim(path.Clean(dest), "/"), "/")
	var steps []program.Step
	for k, name := range parts {
		last := k == len(parts)-1
		parent := rootFD
		if k > 0 {
			parent = up
			steps = append(steps, openat2(rootFD, path.Join(parts[:k]...), cloexecPath|unix.O_DIRECTORY, resolve, up))
		}
		make := program.Step{Call: "mkdirat", Args: []program.Arg{program.FD(parent), program.String(name), program.Octal(0o755)}, Tolerate: []syscall.Errno{syscall.EEXIST}}
		if last && !dir {
			make = program.Step{Call: "mknodat", Args: []program.Arg{program.FD(parent), program.String(name), program.Octal(unix.S_IFREG | 0o644), program.Int(0)}, Tolerate: []syscall.Errno{syscall.EEXIST}}
		}
		make.Say = "make " + dest + " in the root"
		steps = append(steps, make)
		if k > 0 {
			steps = append(steps, closeFD(up))
		}
	}
	return append(steps, say(openat2(rootFD, dest, cloexecPath, resolve, placeFD), "find "+dest+" in the root"))
}
