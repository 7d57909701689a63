package plan

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/runtime/plan/resctrl"
	"lade/internal/runtime/plan/step"
	"lade/internal/runtime/plan/sysctl"
	"lade/internal/runtime/program"
)

// nsOrder is the order in which namespaces are joined: the user namespace last,
// as the others may belong to one above it, which only the runtime's own
// privileges reach.
var nsOrder = []struct {
	kind specs.LinuxNamespaceType
	flag uint64
}{
	{specs.IPCNamespace, unix.CLONE_NEWIPC},
	{specs.UTSNamespace, unix.CLONE_NEWUTS},
	{specs.NetworkNamespace, unix.CLONE_NEWNET},
	{specs.PIDNamespace, unix.CLONE_NEWPID},
	{specs.CgroupNamespace, unix.CLONE_NEWCGROUP},
	{specs.TimeNamespace, unix.CLONE_NEWTIME},
	{specs.MountNamespace, unix.CLONE_NEWNS},
	{specs.UserNamespace, unix.CLONE_NEWUSER},
}

// namespaces reads linux.namespaces.
func (b *builder) namespaces() error {
	b.joins = map[uint64]string{}
	for i, ns := range b.cfg.Linux.Namespaces {
		var flag uint64
		for _, o := range nsOrder {
			if o.kind == ns.Type {
				flag = o.flag
			}
		}
		switch {
		case flag == 0:
			return errdefs.New(errdefs.Invalid, "linux.namespaces[%d]: namespace %q does not exist", i, ns.Type)
		case b.newNS&flag != 0 || b.joins[flag] != "":
			return errdefs.New(errdefs.Invalid, "linux.namespaces[%d]: malformed spec file: duplicated ns %q", i, ns.Type)
		case ns.Path == "":
			b.newNS |= flag
		case !strings.HasPrefix(ns.Path, "/"):
			return errdefs.New(errdefs.Invalid, "linux.namespaces[%d].path: %q is not absolute", i, ns.Path)
		default:
			b.joins[flag] = ns.Path
		}
	}
	b.newMount = b.newNS&unix.CLONE_NEWNS != 0
	b.userNS = (b.newNS&unix.CLONE_NEWUSER != 0) || b.joins[unix.CLONE_NEWUSER] != ""
	if err := b.checkLabels(); err != nil {
		return err
	}
	if b.entering {
		return nil // all this was checked when the container was created
	}
	l := b.cfg.Linux
	switch {
	case b.joins[unix.CLONE_NEWNS] != "" && len(b.cfg.Mounts) > 0 && b.cfg.Root != nil:
		return errdefs.New(errdefs.NotImplemented, "linux.namespaces: a mount namespace that is joined together with mounts of its own")
	case b.newNS&unix.CLONE_NEWUSER != 0 && (len(l.UIDMappings) == 0 || len(l.GIDMappings) == 0):
		return errdefs.New(errdefs.Invalid, "user namespaces enabled, but no uid/gid mappings found (linux.uidMappings, linux.gidMappings)")
	case !b.userNS && len(l.UIDMappings)+len(l.GIDMappings) > 0:
		return errdefs.New(errdefs.Invalid, "user namespace mappings specified, but user namespace isn't enabled in the config")
	case b.cfg.VM != nil:
		return errdefs.New(errdefs.NotImplemented, "vm: virtual machines are not supported")
	case b.cfg.Hostname != "" && !b.isolated(unix.CLONE_NEWUTS):
		return errdefs.New(errdefs.Invalid, "unable to set hostname without a private UTS namespace")
	case b.cfg.Domainname != "" && !b.isolated(unix.CLONE_NEWUTS):
		return errdefs.New(errdefs.Invalid, "unable to set domainname without a private UTS namespace")
	}
	for _, check := range []func() error{b.checkTime, b.checkNetDevices, b.checkSharedMounts, b.checkRootless, b.checkHooks, b.checkSysctls} {
		if err := check(); err != nil {
			return err
		}
	}
	return resctrl.Check(b.cfg.Linux.IntelRdt, b.f.Resctrl)
}

// isolated reports whether the container has a namespace that is not the
// runtime's own.
func (b *builder) isolated(flag uint64) bool {
	return b.newNS&flag != 0 || b.joins[flag] != "" && !b.f.OwnNamespaces[b.joins[flag]]
}

// checkNetDevices verifies that there is a place to move devices to, and that
// their names are some.
func (b *builder) checkNetDevices() error {
	devices := b.cfg.Linux.NetDevices
	if len(devices) > 0 && !b.isolated(unix.CLONE_NEWNET) {
		return errdefs.New(errdefs.Invalid, "unable to move network devices without a NET namespace")
	}
	for name, d := range devices {
		for _, n := range []string{name, cmp.Or(d.Name, name)} {
			if n == "" || len(n) >= unix.IFNAMSIZ || n == "." || n == ".." || strings.ContainsAny(n, "/: \t\n\v\f\r\x00") {
				return errdefs.New(errdefs.Invalid, "linux.netDevices: invalid network device name %q", n)
			}
		}
	}
	return nil
}

// netDevices are the runtime's steps that move devices, once the network
// namespace is there.
func (b *builder) netDevices() []program.Step {
	var steps []program.Step
	devices := b.cfg.Linux.NetDevices
	for _, name := range slices.Sorted(maps.Keys(devices)) {
		to := cmp.Or(devices[name].Name, name)
		steps = append(steps, program.Step{
			Call: "net_device", Args: []program.Arg{program.String(name), program.String(to), program.String(b.joins[unix.CLONE_NEWNET])}, Why: "linux.netDevices",
			Say: "move network device " + name + " into the container",
		})
	}
	if b.netLate && len(steps) > 0 {
		steps = append([]program.Step{
			{Call: "release", Args: []program.Arg{program.FD(program.Sync)}, Why: "the cgroups are made"},
			{Call: "await", Args: []program.Arg{program.FD(program.Sync), program.Named('r', "ready")}, Why: "the network namespace is made"},
		}, steps...)
	}
	return steps
}

// checkSharedMounts refuses what would be done to the mounts of others.
func (b *builder) checkSharedMounts() error {
	l := b.cfg.Linux
	switch {
	case b.newMount:
	case len(l.MaskedPaths)+len(l.ReadonlyPaths) > 0:
		return errdefs.New(errdefs.Invalid, "unable to restrict sys entries without a private MNT namespace (linux.maskedPaths, linux.readonlyPaths)")
	case b.joins[unix.CLONE_NEWNS] == "" && len(b.cfg.Mounts) > 0:
		return errdefs.New(errdefs.Invalid, "mounts: without a mount namespace they would be the host's")
	}
	return nil
}

// prologue are the child's first steps, wherever it goes.
func (b *builder) prologue() {
	mask := program.Struct(step.Words(0), func() string { return "empty" })
	b.do("whoever executes /proc/self/exe in a container gets no further (CVE-2019-5736)",
		"fcntl", program.FD(program.Sync), program.Named(unix.F_GETFD, "F_GETFD"))
	if !b.f.Rootless || b.newNS&unix.CLONE_NEWUSER == 0 || b.entering {
		// Otherwise it is, until its ids are mapped: nobody but root could write
		// its uid_map. There is no container that could look before that.
		b.add(step.Why(step.Prctl("PR_SET_DUMPABLE", unix.PR_SET_DUMPABLE, program.Int(0)), "nobody in the container can look into the child (CVE-2016-9962)"))
	}
	b.add(
		step.Prctl("PR_SET_NAME", unix.PR_SET_NAME, program.String("lade:init")),
	)
	b.do("the runtime had them blocked", "rt_sigprocmask", program.Named(unix.SIG_SETMASK, "SIG_SETMASK"), mask, program.Int(0), program.Int(8))
	b.do("a session of its own", "setsid")
	b.do("modes are as given below", "umask", program.Octal(0))
}

// userNamespace makes the child root of its new user namespace.
func (b *builder) userNamespace() {
	if b.newNS&unix.CLONE_NEWUSER == 0 || b.joins[unix.CLONE_NEWUSER] != "" {
		return
	}
	b.prog.Early = ambient()
	b.meet()
	b.becomeRoot()
	if b.newNS&unix.CLONE_NEWIPC != 0 {
		b.do("linux.namespaces: ipc; its mqueue belongs to who makes it, who is root only now", "unshare", program.Flags(unix.CLONE_NEWIPC, step.CloneFlags))
	}
}

// becomeRoot takes the ids of the user namespace's root.
func (b *builder) becomeRoot() {
	if len(b.cfg.Linux.GIDMappings) > 0 || b.joins[unix.CLONE_NEWUSER] != "" || b.entering {
		b.add(
			step.Why(step.Tolerate(program.Step{Call: "setgroups", Args: []program.Arg{program.Int(0), program.Int(0)}}, syscall.EPERM), "the runtime's groups mean nothing here"),
		)
	}
	zero := program.Int(0)
	b.do("root of the user namespace", "setresgid", zero, zero, zero)
	b.do("root of the user namespace", "setresuid", zero, zero, zero)
	b.add(step.Why(step.Prctl("PR_SET_DUMPABLE", unix.PR_SET_DUMPABLE, zero), "a change of user may have undone it"))
}

// ambient keeps the capabilities in a new user namespace over the execve of
// the executor: there is no mapping yet, so the child is not root there, and
// execve leaves only ambient capabilities to one who is not.
func ambient() []program.Step {
	const all = 1<<41 - 1
	steps := []program.Step{capset(all, all, all, "execve must not take away what the user namespace gave")}
	for c := range uint64(41) {
		steps = append(steps, step.Prctl("PR_CAP_AMBIENT", unix.PR_CAP_AMBIENT, program.Named(unix.PR_CAP_AMBIENT_RAISE, "PR_CAP_AMBIENT_RAISE"), program.Int(c)))
	}
	return steps
}

// meet waits for the runtime's release, and joins the cgroups that it made.
func (b *builder) meet() {
	if b.met {
		return
	}
	b.met = true
	b.await("cgroups, mappings and the record of the container are made")
	for _, d := range b.f.Cgroup.Group.Dirs {
		switch {
		case !d.V2:
			b.joinFile(d.Path, "tasks")
		case b.f.Cgroup.Unit != nil:
			b.joinFile(d.Path, "cgroup.procs")
		default: // the child was born there
		}
	}
	if b.joins[unix.CLONE_NEWUSER] == "" {
		b.cgroupNamespace()
	}
}

// await reads the runtime's release.
func (b *builder) await(text string) {
	b.do(text, "read", program.FD(program.Sync), program.Buffer("go", 8), program.Int(1))
	b.add(program.Step{
		Call: "check", Args: program.Check("go.len", ^uint64(0), 1, uint64(syscall.EPIPE)),
		Why: "the runtime is gone", Say: "the runtime ended before it released the child",
	})
}

func (b *builder) joinFile(dir, file string) {
	const fd program.Slot = "tasks"
	words := joining(dir)
	b.add(
		program.Step{Call: "openat", Yield: fd, Why: "linux.cgroupsPath", Say: words, Args: []program.Arg{
			program.CWD(), program.String(dir + "/" + file), program.Flags(unix.O_WRONLY|unix.O_CLOEXEC, step.OpenFlags), program.Int(0),
		}},
		program.Step{Call: "write", Why: "one that moves itself need not stop all others", Say: words, Args: []program.Arg{
			program.FD(fd), program.String("0"), program.Int(1),
		}},
		step.Close(fd),
	)
}

// joining words the failure to join a cgroup; 0 is what the kernel calls a
// process that moves itself.
func joining(dir string) string { return "join cgroup: adding pid 0 to " + dir }

// cgroupNamespace is made after the cgroups are joined: they are its root.
func (b *builder) cgroupNamespace() {
	if b.newNS&unix.CLONE_NEWCGROUP != 0 {
		b.do("linux.namespaces: cgroup; its root is where the child is now", "unshare", program.Flags(unix.CLONE_NEWCGROUP, step.CloneFlags))
	}
}

func nsSlot(flag uint64) program.Slot {
	for _, o := range nsOrder {
		if o.flag == flag {
			return program.Slot("ns-" + string(o.kind))
		}
	}
	return ""
}

// openJoins has the runtime open the namespaces that are joined by path. The
// pid namespace is joined by the runtime's thread: it counts for children only.
func (b *builder) openJoins() {
	for _, o := range nsOrder {
		file, ok := b.joins[o.flag]
		if !ok {
			continue
		}
		b.prog.Before = append(b.prog.Before, program.Step{
			Call: "openat", Yield: nsSlot(o.flag), Why: "linux.namespaces: " + string(o.kind),
			Args: []program.Arg{program.CWD(), program.String(file), program.Flags(unix.O_CLOEXEC, step.OpenFlags), program.Int(0)},
		})
		if o.flag == unix.CLONE_NEWPID {
			b.prog.Before = append(b.prog.Before, program.Step{
				Call: "setns", Why: "linux.namespaces: pid, for the child",
				Args: []program.Arg{program.FD(nsSlot(o.flag)), program.Flags(o.flag, step.CloneFlags)},
			})
		}
	}
}

// joinNamespaces enters the namespaces that are joined by path, and makes the
// new ones where the user namespace is joined: they shall belong to it.
func (b *builder) joinNamespaces() {
	if b.joins[unix.CLONE_NEWUSER] != "" {
		b.meet()
	}
	again := b.joins[unix.CLONE_NEWUSER] != "" && b.newNS&unix.CLONE_NEWPID != 0
	if !again {
		b.openLabels()
	}
	b.openSelf()
	for _, o := range nsOrder {
		if b.joins[o.flag] == "" || o.flag == unix.CLONE_NEWPID {
			continue
		}
		s := program.Step{Call: "setns", Why: "linux.namespaces: " + string(o.kind), Args: []program.Arg{program.FD(nsSlot(o.flag)), program.Flags(o.flag, step.CloneFlags)}}
		b.add(step.Say(s, "join the "+string(o.kind)+" namespace "+b.joins[o.flag]))
	}
	if b.joins[unix.CLONE_NEWUSER] == "" {
		if b.newNS&unix.CLONE_NEWTIME != 0 {
			b.do("linux.namespaces: time", "unshare", program.Flags(unix.CLONE_NEWTIME, step.CloneFlags))
			b.timeNamespace()
		}
		return
	}
	b.becomeRoot()
	if flags := b.newNS; flags != 0 {
		b.do("new namespaces belong to the user namespace that was joined", "unshare", program.Flags(flags, step.CloneFlags))
		if flags&unix.CLONE_NEWTIME != 0 {
			b.timeNamespace()
		}
		switch {
		case flags&unix.CLONE_NEWPID != 0:
			b.again()
			b.openLabels()
		case flags&unix.CLONE_NEWNET != 0 && len(b.cfg.Linux.NetDevices) > 0:
			b.ready("the network namespace is made")
			b.await("network devices")
			b.netLate = true
		}
	}
}

// ready tells the runtime that the child waits for it.
func (b *builder) ready(reason string) {
	b.do(reason, "write", program.FD(program.Sync), program.Bytes([]byte{'r'}, "ready"), program.Int(1))
}

// again clones once more, as a new pid namespace holds only the children of
// who unshared it. The runtime is the parent of both.
func (b *builder) again() {
	const pid program.Slot = "pid"
	args := program.Struct(step.Words(unix.CLONE_PARENT, 0, 0, 0, 0, 0, 0, 0), func() string { return step.Names(unix.CLONE_PARENT, step.CloneFlags) })
	b.do("the first process of the pid namespace", "clone3", args, program.Int(64))
	b.steps[len(b.steps)-1].Yield = pid
	b.add(program.Step{
		Call: "check", Args: []program.Arg{program.SlotAddress(pid), program.Int(^uint64(0)), program.Int(0), program.Int(uint64(syscall.ECHILD))},
		Tolerate: []syscall.Errno{syscall.ECHILD}, Why: "who got a pid is the parent",
		Else: []program.Step{
			{Call: "write", Args: []program.Arg{program.FD(program.Sync), program.SlotAddress(pid), program.Int(8)}, Why: "the runtime adopts the child"},
			{Call: "exit_group", Args: []program.Arg{program.Int(0)}},
		},
	})
	b.do("its parent led the session, and is gone", "setsid")
	b.recloned = true
	b.await("the record of the container is made")
	b.add(step.Why(step.Prctl("PR_SET_DUMPABLE", unix.PR_SET_DUMPABLE, program.Int(0)), "nobody in the container can look into the child (CVE-2016-9962)"))
}

// networkUp brings up lo in a new network namespace.
func (b *builder) networkUp() {
	if b.newNS&unix.CLONE_NEWNET == 0 {
		return
	}
	ifreq := make([]byte, 40)
	copy(ifreq, "lo")
	ifreq[16] = unix.IFF_UP
	const sock program.Slot = "socket"
	b.add(
		program.Step{Call: "socket", Yield: sock, Args: []program.Arg{program.Named(unix.AF_INET, "AF_INET"), program.Named(unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, "SOCK_DGRAM|SOCK_CLOEXEC"), program.Int(0)}},
		program.Step{Call: "ioctl", Why: "linux.namespaces: network; lo is up in a new one", Args: []program.Arg{
			program.FD(sock), program.Named(unix.SIOCSIFFLAGS, "SIOCSIFFLAGS"), program.Bytes(ifreq, "lo, IFF_UP"),
		}},
		step.Close(sock),
	)
}

// names sets host name and domain name.
func (b *builder) names() {
	if n := b.cfg.Hostname; n != "" {
		b.do("hostname", "sethostname", program.String(n), program.Int(len(n)))
	}
	if n := b.cfg.Domainname; n != "" {
		b.do("domainname", "setdomainname", program.String(n), program.Int(len(n)))
	}
}

// score sets oom_score_adj from the runtime's side, through the host's proc,
// which no container can have tampered with (CVE-2025-52881).
func (b *builder) score() []program.Step {
	if b.proc.OOMScoreAdj == nil {
		return nil
	}
	return []program.Step{{
		Call: "write_proc", Why: "process.oomScoreAdj; lowering it takes CAP_SYS_RESOURCE",
		Args:     []program.Arg{program.String("oom_score_adj"), program.String(strconv.Itoa(*b.proc.OOMScoreAdj))},
		Tolerate: []syscall.Errno{syscall.EACCES},
	}}
}

// runtimeHooks run while the child waits for the second release.
func (b *builder) runtimeHooks() []program.Step {
	if !b.hooked() {
		return nil
	}
	steps := []program.Step{
		{Call: "release", Args: []program.Arg{program.FD(program.Sync)}, Why: "the child may make its mounts"},
		{Call: "await", Args: []program.Arg{program.FD(program.Sync), program.Named('r', "ready")}, Why: "namespaces and mounts are made"},
	}
	h := b.cfg.Hooks
	for _, k := range []struct {
		name  string
		hooks []specs.Hook
	}{{"prestart", prestart(h)}, {"createRuntime", h.CreateRuntime}, {"createContainer", h.CreateContainer}} {
		for i := range k.hooks {
			steps = append(steps, program.Step{
				Call: "hook", Args: []program.Arg{program.String(k.name), program.Strings(append([]string{k.hooks[i].Path}, k.hooks[i].Args...)), program.Int(i)},
				Why: fmt.Sprintf("hooks.%s[%d]", k.name, i), Carry: &k.hooks[i],
			})
		}
	}
	return steps
}

// checkHooks refuses hooks that could not be run, before anything is made.
func (b *builder) checkHooks() error {
	h := b.cfg.Hooks
	if h == nil {
		return nil
	}
	for _, k := range []struct {
		name  string
		hooks []specs.Hook
	}{
		{"prestart", prestart(h)},
		{"createRuntime", h.CreateRuntime},
		{"createContainer", h.CreateContainer},
		{"startContainer", h.StartContainer},
		{"poststart", h.Poststart},
		{"poststop", h.Poststop},
	} {
		for i, hook := range k.hooks {
			switch field := step.Field("hooks."+k.name, i); {
			case !path.IsAbs(hook.Path):
				return errdefs.New(errdefs.Invalid, "%s.path: %q is not absolute", field, hook.Path)
			case hook.Timeout != nil && *hook.Timeout <= 0:
				return errdefs.New(errdefs.Invalid, "%s.timeout: %d seconds are none", field, *hook.Timeout)
			}
		}
	}
	return nil
}

// hooked reports whether hooks run before the root is entered.
func (b *builder) hooked() bool {
	h := b.cfg.Hooks
	return h != nil && !b.entering && len(prestart(h))+len(h.CreateRuntime)+len(h.CreateContainer) > 0
}

// hookStop is where the child waits for them.
func (b *builder) hookStop() {
	if !b.hooked() {
		return
	}
	b.ready("hooks run now")
	b.await("hooks")
}

// prestart returns the hooks that the specification calls deprecated, and
// engines still use.
func prestart(h *specs.Hooks) []specs.Hook {
	return h.Prestart //nolint:staticcheck // see above
}

// checkSysctls lets through only what belongs to a namespace of the
// container's own.
func (b *builder) checkSysctls() error {
	for key := range b.cfg.Linux.Sysctl {
		ns, err := sysctl.Check(key)
		if err == nil && !b.isolated(ns) {
			err = errdefs.New(errdefs.Invalid, "sysctl %q is not allowed in the hosts %s namespace", key, strings.TrimPrefix(string(nsSlot(ns)), "ns-"))
		}
		if err != nil && !b.in.Unchecked {
			return err
		}
	}
	return nil
}
