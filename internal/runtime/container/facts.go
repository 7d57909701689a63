package container

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/capability"
	"lade/internal/linux/cgroup"
	"lade/internal/runtime/bundle"
	"lade/internal/runtime/plan"
	"lade/internal/runtime/plan/environ"
	"lade/internal/runtime/plan/limits"
)

// gather collects what the planner must know about this machine.
func gather(o *CreateOptions, b *bundle.Bundle) (plan.Facts, error) {
	mountLabel := ""
	if b.Config.Linux != nil {
		mountLabel = b.Config.Linux.MountLabel
	}
	f, err := processFacts(b.Config.Process, mountLabel)
	if err != nil {
		return f, err
	}
	f.Nested = nested()
	if f.Layout, err = cgroup.Detect(); err != nil {
		return f, err
	}
	var group string
	var resources *specs.LinuxResources
	if l := b.Config.Linux; l != nil {
		group, resources = l.CgroupsPath, l.Resources
	}
	if o.Systemd {
		f.Cgroup, err = planUnit(f.Layout, group, o.ID, resources, b.Config.Annotations)
	} else {
		f.Cgroup, err = f.Layout.Plan(group, o.ID, resources)
	}
	if err != nil {
		return f, err
	}
	if !o.Systemd && withoutCgroups(o.Rootless, f.Rootless || f.Nested) {
		if f.Cgroup, err = rootlessCgroups(f.Cgroup, group, resources); err != nil {
			return f, err
		}
	}
	if f.Sources, err = sources(b.Config, b.Rootfs); err != nil {
		return f, err
	}
	f.Places = places(b.Rootfs, b.Config)
	if o.NoPivot {
		if f.Pseudo, err = pseudo(b.Rootfs); err != nil {
			return f, err
		}
	}
	if b.Config.Hooks != nil {
		f.RootMount = mountOf(b.Rootfs)
	}
	f.OwnNamespaces = ownNamespaces(b.Config)
	f.Resctrl = resctrlRoot(b.Config)
	if p := b.Config.Process; p != nil && b.Rootfs != "" && environ.Homeless(p.Env) {
		f.Home = home(b.Rootfs, p.User.UID)
	}
	return f, nil
}

// processFacts collects what concerns a process alone.
func processFacts(p *specs.Process, mountLabel string) (plan.Facts, error) {
	var f plan.Facts
	var err error
	if f.Caps, f.LastCap, err = capabilities(); err != nil {
		return f, err
	}
	for fd := range f.SharedStreams {
		var st unix.Stat_t
		err := unix.Fstat(fd, &st)
		kind := st.Mode & unix.S_IFMT
		f.SharedStreams[fd] = err != nil || kind == unix.S_IFDIR || kind == unix.S_IFBLK || kind == unix.S_IFCHR && !isTerminal(&st)
	}
	f.Rootless, f.UID, f.GID = isRootless(), os.Geteuid(), os.Getegid()
	f.AppArmor, f.SELinux = labels(p, mountLabel)
	if p == nil || len(p.Rlimits) == 0 {
		return f, nil
	}
	f.Limits = map[int]unix.Rlimit{}
	for _, r := range p.Rlimits {
		if n, ok := limits.Number(r.Type); ok {
			var l unix.Rlimit
			if err := unix.Getrlimit(n, &l); err != nil {
				return f, fmt.Errorf("read the resource limit %s: %w", r.Type, err)
			}
			f.Limits[n] = l
		}
	}
	return f, nil
}

// isTerminal reports whether st is of a pseudo terminal.
func isTerminal(st *unix.Stat_t) bool {
	const first, last = 136, 143 // majors of pseudo terminals
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && unix.Major(st.Rdev) >= first && unix.Major(st.Rdev) <= last
}

// labels tells which of AppArmor and SELinux the kernel enforces, where a label
// asks for one.
func labels(p *specs.Process, mountLabel string) (apparmor, selinux bool) {
	if p != nil && p.ApparmorProfile != "" {
		b, err := os.ReadFile("/sys/module/apparmor/parameters/enabled")
		apparmor = err == nil && strings.HasPrefix(string(b), "Y")
	}
	if p != nil && p.SelinuxLabel != "" || mountLabel != "" {
		var s unix.Statfs_t
		selinux = unix.Statfs("/sys/fs/selinux", &s) == nil && s.Type == unix.SELINUX_MAGIC
	}
	return apparmor, selinux
}

// capabilities returns what this thread is permitted, and the highest
// capability that the kernel knows, without a look at /proc.
func capabilities() (capability.Set, uint, error) {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return 0, 0, fmt.Errorf("read own capabilities: %w", err)
	}
	last := capability.Count - 1
	for last < 63 && known(last+1) {
		last++
	}
	return capability.Set(data[0].Permitted) | capability.Set(data[1].Permitted)<<32, last, nil
}

// known reports whether the kernel knows a capability.
func known(c uint) bool {
	_, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0)
	return err == nil
}

func sources(c *specs.Spec, root string) (map[string]plan.Source, error) {
	var out map[string]plan.Source
	for i := range c.Mounts {
		m := &c.Mounts[i]
		if !bundle.IsBind(m) {
			continue
		}
		var st unix.Stat_t
		_, inside := plan.Below(root, m.Source)
		if err := unix.Stat(m.Source, &st); err != nil && !inside {
			return nil, errdefs.New(errdefs.Invalid, "mounts[%d]: source of the bind mount at %s: stat %s: %w", i, m.Destination, m.Source, err)
		}
		s := plan.Source{Dir: st.Mode&unix.S_IFMT == unix.S_IFDIR, Inside: inside}
		if m.Destination == "/proc" {
			var fs unix.Statfs_t
			s.Proc = unix.Statfs(m.Source, &fs) == nil && fs.Type == unix.PROC_SUPER_MAGIC
		}
		if out == nil {
			out = map[string]plan.Source{}
		}
		out[m.Source] = s
	}
	return out, nil
}

// mountOf returns the mount that a path lies on.
func mountOf(p string) string {
	for ; p != "/" && p != "" && p != "."; p = path.Dir(p) {
		var st unix.Statx_t
		if unix.Statx(unix.AT_FDCWD, p, unix.AT_SYMLINK_NOFOLLOW, 0, &st) == nil && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 {
			return p
		}
	}
	return "/"
}

// nested reports whether the runtime lives in another user namespace than the
// kernel's first, whose inode has a number of its own.
func nested() bool {
	const first = 0xeffffffd
	var st unix.Stat_t
	return unix.Stat("/proc/self/ns/user", &st) == nil && st.Ino != first
}

// ownNamespaces returns the paths of namespaces to join that are the runtime's
// own already: who is told to join those is not apart from the host.
func ownNamespaces(c *specs.Spec) map[string]bool {
	var own map[string]bool
	if c.Linux == nil {
		return nil
	}
	names := map[specs.LinuxNamespaceType]string{specs.NetworkNamespace: "net", specs.IPCNamespace: "ipc", specs.UTSNamespace: "uts", specs.UserNamespace: "user"}
	for _, ns := range c.Linux.Namespaces {
		var a, b unix.Stat_t
		if name := names[ns.Type]; ns.Path != "" && name != "" && unix.Stat(ns.Path, &a) == nil && unix.Stat("/proc/self/ns/"+name, &b) == nil && a.Dev == b.Dev && a.Ino == b.Ino {
			if own == nil {
				own = map[string]bool{}
			}
			own[ns.Path] = true
		}
	}
	return own
}

// home looks up a user's home directory in the container's passwd, which may
// be anything (CVE-2024-9676): it is opened inside the root, must be a plain
// file, and only its first megabyte counts.
func home(root string, uid uint32) string {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(dir)
	fd, err := unix.Openat2(dir, "etc/passwd", &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_NONBLOCK | unix.O_CLOEXEC | unix.O_NOCTTY,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return ""
	}
	f := os.NewFile(uintptr(fd), "passwd")
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return ""
	}
	return homeIn(io.LimitReader(f, 1<<20), uid)
}

// homeIn reads passwd(5) and returns the home directory of uid.
func homeIn(r io.Reader, uid uint32) string {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<16)
	for lines.Scan() {
		f := strings.Split(lines.Text(), ":")
		if len(f) < 6 {
			continue
		}
		if n, err := strconv.ParseUint(f[2], 10, 32); err == nil && uint32(n) == uid && strings.HasPrefix(f[5], "/") && !strings.ContainsAny(f[5], "\x00\n\r") {
			return f[5]
		}
	}
	return ""
}
