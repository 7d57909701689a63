package plan

import (
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/runtime/plan/mountopt"
	"lade/internal/runtime/plan/step"
	"lade/internal/runtime/program"
)

// underCgroups reports whether a path that is to be protected lies in the
// cgroup mounts, which come late.
func (b *builder) underCgroups() bool {
	for i := range b.cfg.Mounts {
		m := &b.cfg.Mounts[i]
		if m.Type != "cgroup" && m.Type != "cgroup2" {
			continue
		}
		below := path.Clean(m.Destination) + "/"
		for _, p := range slices.Concat(b.cfg.Linux.MaskedPaths, b.cfg.Linux.ReadonlyPaths) {
			if strings.HasPrefix(path.Clean(p)+"/", below) || strings.HasPrefix(below, path.Clean(p)+"/") {
				return true
			}
		}
	}
	return false
}

// protect makes paths read-only and masks others, which may lie in them.
func (b *builder) protect() {
	l := b.cfg.Linux
	for i, p := range l.ReadonlyPaths {
		b.add(b.readonlyPath(p, step.Field("linux.readonlyPaths", i)))
	}
	if len(l.MaskedPaths) > 0 {
		// The host's /dev/null, taken before the root is entered: one in the
		// container could be anything (CVE-2025-31133).
		open := program.Step{Call: "openat", Yield: nullFD, Why: "linux.maskedPaths: the host's own, never the container's (CVE-2025-31133)", Args: []program.Arg{
			program.CWD(), program.String("/dev/null"), program.Flags(step.PathOnly|unix.O_NOFOLLOW, step.OpenFlags), program.Int(0),
		}}
		b.add(open)
	}
	seen := map[string]bool{}
	for i, p := range l.MaskedPaths {
		if p = path.Clean(p); !seen[p] {
			b.mask(i, p)
		}
		seen[p] = true
	}
	if len(l.MaskedPaths) > 0 {
		b.add(step.Close(nullFD), step.Why(step.Tolerate(step.Close(emptyFD), syscall.EBADF), "if there is one"))
	}
}

// mask lays the host's /dev/null over a file, or an empty directory over a
// directory, which is the same one everywhere: the first one makes it. A path
// that does not exist need not be masked.
func (b *builder) mask(i int, p string) {
	attach := step.Say(step.Attach(mntFD, placeFD), "mask "+p)
	const attr = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC
	file := step.Openat2(rootFD, p, step.PathOnly, step.InRoot, placeFD)
	file.Tolerate = []syscall.Errno{syscall.ENOENT, syscall.ENOTDIR}
	file.Then = []program.Step{step.CloneTree(program.FD(nullFD), "", false, mntFD), attach, step.Close(mntFD), step.Close(placeFD)}
	again := step.Tolerate(step.CloneTree(program.FD(emptyFD), "", false, mntFD), syscall.EBADF)
	again.Then = []program.Step{attach}
	again.Else = append(step.NewFS("tmpfs", "tmpfs", b.mountData("tmpfs", []string{"nr_blocks=1", "nr_inodes=1"}), attr, mntFD), attach,
		program.Step{Call: "fcntl", Yield: emptyFD, Args: []program.Arg{program.FD(mntFD), program.Named(unix.F_DUPFD_CLOEXEC, "F_DUPFD_CLOEXEC"), program.Int(3)}, Why: "for the directories to come"})
	dir := step.Openat2(rootFD, p, step.PathOnly|unix.O_DIRECTORY, step.InRoot, placeFD)
	dir.Why = step.Field("linux.maskedPaths", i)
	dir.Tolerate = []syscall.Errno{syscall.ENOENT, syscall.ENOTDIR}
	dir.Then = []program.Step{again, step.Close(mntFD), step.Close(placeFD)}
	dir.Else = []program.Step{file}
	b.add(dir)
}

// readonlyPath lays a read-only copy of a part of the tree over itself.
func (b *builder) readonlyPath(p, label string) program.Step {
	open := step.Openat2(rootFD, p, step.PathOnly, step.InRoot, placeFD)
	open.Why = label
	open.Tolerate = []syscall.Errno{syscall.ENOENT, syscall.ENOTDIR}
	open.Then = []program.Step{
		step.CloneTree(program.FD(placeFD), "", true, mntFD),
		step.Say(step.SetAttr(mntFD, unix.MOUNT_ATTR_RDONLY, 0, 0, true), "make "+p+" read-only"),
		step.Say(step.Attach(mntFD, placeFD), "make "+p+" read-only"),
		step.Close(mntFD),
		step.Close(placeFD),
	}
	return open
}

// readonlyDev makes a /dev read-only that was asked to be, now that it is full.
func (b *builder) readonlyDev() {
	for i := range b.cfg.Mounts {
		m := &b.cfg.Mounts[i]
		o, err := mountopt.Parse(i, m)
		if err == nil && path.Clean(m.Destination) == "/dev" && !o.Bind && o.Readonly {
			b.add(
				step.Openat2(rootFD, "/dev", step.PathOnly, step.InRoot, placeFD),
				step.Why(step.SetAttr(placeFD, unix.MOUNT_ATTR_RDONLY, 0, 0, false), step.Field("mounts", i)+": ro"),
				step.Close(placeFD),
			)
		}
	}
}

// cgroupMounts shows the container its cgroups. The child has joined them.
func (b *builder) cgroupMounts() error {
	for i := range b.cfg.Mounts {
		m := &b.cfg.Mounts[i]
		o, err := mountopt.Parse(i, m)
		if err != nil {
			return err
		}
		if o.Bind || m.Type != "cgroup" && m.Type != "cgroup2" {
			continue
		}
		label := step.Field("mounts", i) + ": " + m.Destination
		if b.f.Layout.Unified() || m.Type == "cgroup2" {
			if h := b.unifiedMount(); h != "" && b.userNS && b.newNS&unix.CLONE_NEWCGROUP == 0 {
				// A user namespace may mount them only with a cgroup namespace.
				b.add(
					step.Why(step.Say(step.CloneTree(program.CWD(), h, false, mntFD), "open "+h), label),
					step.Say(step.SetAttr(mntFD, o.Set|o.RecSet, 0, unix.MS_SLAVE, false), "set the options of the mount at "+m.Destination),
				)
				b.place(m.Destination, true, step.InRoot, label)
				b.add(step.Attach(mntFD, placeFD), step.Close(placeFD), step.Close(mntFD))
				continue
			}
			for _, s := range step.NewFS("cgroup2", "cgroup", nil, o.Set|o.RecSet, mntFD) {
				b.add(step.Why(step.Say(s, "mount cgroup2 at "+m.Destination), label))
			}
			b.place(m.Destination, true, step.InRoot, label)
			b.add(step.Attach(mntFD, placeFD), step.Close(placeFD), step.Close(mntFD))
			continue
		}
		b.cgroupV1(m, o, label)
	}
	return nil
}

// unifiedMount returns where the host has its v2 hierarchy, or "".
func (b *builder) unifiedMount() string {
	for _, h := range b.f.Layout.Hierarchies {
		if h.V2 {
			return h.Mount
		}
	}
	return ""
}

// cgroupV1 makes a tmpfs with one mount for each hierarchy: of the hierarchy
// itself, where a cgroup namespace hides what is above the container, and of
// the container's own directory otherwise.
func (b *builder) cgroupV1(m *specs.Mount, o mountopt.Options, label string) {
	const top program.Slot = "cgroups"
	attr := o.Set | o.RecSet
	for _, s := range step.NewFS("tmpfs", "tmpfs", b.mountData("tmpfs", []string{"mode=755"}), attr&^unix.MOUNT_ATTR_RDONLY, top) {
		b.add(step.Why(s, label))
	}
	b.place(m.Destination, true, step.InRoot, label)
	b.add(step.Say(step.Attach(top, placeFD), "mount the cgroups at "+m.Destination), step.Close(placeFD))
	for _, h := range b.f.Layout.Hierarchies {
		if h.V2 {
			continue
		}
		dir := b.groupDir(h.Controllers)
		named := len(h.Controllers) == 0
		if named {
			dir = b.namedDir(h.Mount)
		}
		if dir == "" {
			continue
		}
		name := path.Base(h.Mount)
		if b.isolated(unix.CLONE_NEWCGROUP) {
			options := h.Controllers
			if named {
				options = []string{"none", "name=" + h.Name}
			} else if h.NoPrefix {
				options = append(slices.Clone(options), "noprefix")
			}
			b.add(step.NewFS("cgroup", "cgroup", options, attr, mntFD)...)
		} else {
			b.add(step.CloneTree(program.CWD(), dir, false, mntFD), step.SetAttr(mntFD, attr, 0, unix.MS_SLAVE, false))
		}
		b.add(
			program.Step{Call: "mkdirat", Args: []program.Arg{program.FD(top), program.String(name), program.Octal(0o755)}},
			step.Openat2(top, name, step.PathOnly, step.InRoot, placeFD),
			step.Say(step.Attach(mntFD, placeFD), "mount the cgroup of "+name+" at "+m.Destination),
			step.Close(placeFD), step.Close(mntFD),
		)
		if strings.Contains(name, ",") {
			for _, c := range h.Controllers {
				b.add(program.Step{Call: "symlinkat", Args: []program.Arg{program.String(name), program.FD(top), program.String(c)}, Tolerate: []syscall.Errno{syscall.EEXIST}})
			}
		}
	}
	if attr&unix.MOUNT_ATTR_RDONLY != 0 {
		b.add(step.SetAttr(top, unix.MOUNT_ATTR_RDONLY, 0, 0, false))
	}
	b.add(step.Close(top))
}

// groupDir returns the container's directory in the hierarchy of a controller.
func (b *builder) groupDir(controllers []string) string {
	for _, d := range b.f.Cgroup.Group.Dirs {
		if !d.V2 && len(controllers) > 0 && slices.Contains(d.Controllers, controllers[0]) {
			return d.Path
		}
	}
	return ""
}

// namedDir returns the container's directory below a named hierarchy's mount.
func (b *builder) namedDir(mount string) string {
	for _, d := range b.f.Cgroup.Group.Dirs {
		if !d.V2 && len(d.Controllers) == 0 && strings.HasPrefix(d.Path, mount+"/") {
			return d.Path
		}
	}
	return ""
}

// workdir makes the working directory where the image has none.
func (b *builder) workdir() {
	if cwd := b.proc.Cwd; path.IsAbs(cwd) && path.Clean(cwd) != "/" {
		open := step.Openat2(rootFD, cwd, step.PathOnly, step.InRoot, placeFD)
		open.Why = "process.cwd is made where it is missing"
		// What is wrong with it besides, the process itself will find, as its user.
		open.Tolerate = []syscall.Errno{syscall.ENOENT, syscall.ENOTDIR, syscall.ELOOP, syscall.EACCES, syscall.EXDEV}
		open.Else = step.MakePath(rootFD, cwd, true, step.InRoot, placeFD)
		for i := range open.Else {
			s := &open.Else[i]
			s.Tolerate = []syscall.Errno{
				syscall.EEXIST, syscall.ENOENT, syscall.ENOTDIR, syscall.EROFS, syscall.EACCES,
				syscall.EPERM, syscall.ELOOP, syscall.EBADF, syscall.EXDEV, syscall.EOVERFLOW,
			}
		}
		b.add(open)
		b.add(step.Why(step.Tolerate(step.Close(placeFD), syscall.EBADF), "if there is one"))
	}
}

// enter makes the root the root.
func (b *builder) enter() {
	const old program.Slot = "old"
	if !b.in.NoPivot {
		b.do("the old root", "openat", program.CWD(), program.String("/"), program.Flags(step.PathOnly|unix.O_DIRECTORY, step.OpenFlags), program.Int(0))
		b.steps[len(b.steps)-1].Yield = old
	}
	b.do("root.path", "fchdir", program.FD(rootFD))
	if b.in.NoPivot {
		b.barePseudo()
		b.add(
			step.Why(step.Tolerate(step.Mount(".", "/", unix.MS_MOVE), syscall.ELOOP), "--no-pivot; it may be there"),
			program.Step{Call: "chroot", Args: []program.Arg{program.String(".")}, Why: "--no-pivot"},
		)
	} else {
		dot := program.String(".")
		b.do("the old root comes to lie over the new one", "pivot_root", dot, dot)
		b.do("", "fchdir", program.FD(old))
		b.add(
			step.Why(step.Mount("", ".", unix.MS_SLAVE|unix.MS_REC), "taking the old root away must not reach the host"),
			program.Step{Call: "umount2", Args: []program.Arg{dot, program.Named(unix.MNT_DETACH, "MNT_DETACH")}, Why: "nothing of the host is left"},
			step.Close(old),
		)
	}
	b.do("the directory is inside the root", "chdir", program.String("/"))
	if p := b.cfg.Linux.RootfsPropagation; p != "" {
		if f, rec, ok := mountopt.Propagation(p); ok && (f == unix.MS_SHARED || f == unix.MS_UNBINDABLE) {
			flags := f
			if rec {
				flags |= unix.MS_REC
			}
			b.add(step.Why(step.Mount("", "/", flags), "linux.rootfsPropagation"))
		}
	}
	if b.cfg.Root.Readonly {
		b.add(step.Why(step.SetAttr(rootFD, unix.MOUNT_ATTR_RDONLY, 0, 0, false), "root.readonly"))
	}
	b.add(step.Close(rootFD))
}

// barePseudo takes away the host's own procfs and sysfs, which without
// pivot_root stay in the mount namespace: the kernel lets a user namespace in
// the container mount another of each, with nothing masked, as long as there is one.
func (b *builder) barePseudo() {
	for _, p := range b.f.Pseudo {
		apart := step.Tolerate(step.Mount("", p, unix.MS_SLAVE|unix.MS_REC), syscall.ENOENT, syscall.EINVAL)
		apart.Why = "--no-pivot: no bare " + p + " is left to the container"
		cover := step.Mount("tmpfs", p, 0)
		cover.Args[2] = program.String("tmpfs")
		away := program.Step{Call: "umount2", Args: []program.Arg{program.String(p), program.Named(unix.MNT_DETACH, "MNT_DETACH")}, Tolerate: []syscall.Errno{syscall.EINVAL, syscall.EPERM}, Else: []program.Step{cover}}
		apart.Then = []program.Step{away}
		b.add(apart)
	}
}

// sharedRoot enters the root where the mounts are not the container's own.
func (b *builder) sharedRoot() {
	if b.cfg.Root == nil || b.in.Rootfs == "" {
		return
	}
	b.add(
		step.Why(step.Say(program.Step{Call: "openat", Yield: rootFD, Args: []program.Arg{
			program.CWD(), program.String(b.in.Rootfs), program.Flags(step.PathOnly|unix.O_DIRECTORY, step.OpenFlags), program.Int(0),
		}}, "open root.path "+b.in.Rootfs), "root.path"),
	)
	b.do("root.path", "fchdir", program.FD(rootFD))
	b.do("root.path, without a mount namespace", "chroot", program.String("."))
	b.terminal()
	b.add(step.Close(rootFD))
}

// checkRoot refuses a configuration without a root.
func (b *builder) checkRoot() error {
	if r := b.cfg.Root; r == nil || r.Path == "" {
		return errdefs.New(errdefs.Invalid, "root.path must not be empty")
	}
	return nil
}
