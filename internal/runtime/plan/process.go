package plan

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/capability"
	"lade/internal/runtime/plan/environ"
	"lade/internal/runtime/plan/limits"
	"lade/internal/runtime/plan/step"
	"lade/internal/runtime/program"
)

// process is the tail that a start and an exec share: what the process is
// given, what is taken from it, and execve.
func (b *builder) process() error {
	if err := b.checkProcess(); err != nil {
		return err
	}
	if !b.in.NoKeyring && !b.entering {
		b.keyLabel()
		b.keyring()
	}
	rlimits, err := limits.Steps(b.proc.Rlimits, b.f.Limits, b.f.Caps.Has(unix.CAP_SYS_RESOURCE))
	if err != nil {
		return err
	}
	b.add(rlimits...)
	if err := b.scheduling(); err != nil {
		return err
	}
	caps := b.capabilities()
	filter, err := b.seccomp()
	if err != nil {
		return err
	}
	b.bounding(caps.bounding)
	b.streams()
	b.user()
	// A filter without no_new_privs takes CAP_SYS_ADMIN, which the process
	// itself may lack: it goes in as late as possible, but before that is gone.
	early := filter != nil && !b.proc.NoNewPrivileges
	if early || b.proc.User.UID != 0 {
		b.add(capset(b.held(), b.held(), caps.inheritable, "the capabilities that the steps below take"))
	}
	b.directory()
	if !early {
		b.finalCaps(caps)
	}
	names := b.lookup()
	if b.proc.NoNewPrivileges {
		b.add(step.Why(step.Prctl("PR_SET_NO_NEW_PRIVS", unix.PR_SET_NO_NEW_PRIVS, program.Int(1)), "process.noNewPrivileges"))
	}
	if filter != nil && filter.Yield != "" {
		b.notify(*filter)
		filter = nil
	}
	b.wait()
	b.label()
	b.do("process.user.umask", "umask", program.Octal(b.umask()))
	b.do("nothing but what was asked for is left open (CVE-2024-21626)", "close_range",
		program.Int(3+b.in.Keep), program.Named(0xffffffff, "~0"), program.Named(unix.CLOSE_RANGE_CLOEXEC, "CLOSE_RANGE_CLOEXEC"))
	b.do("nothing but execve is left", "write", program.FD(program.Report), program.Bytes([]byte{'x'}, "executing"), program.Int(1))
	if filter != nil {
		b.add(*filter)
	}
	if early {
		b.finalCaps(caps)
	}
	b.execute(names)
	return nil
}

// keyring gives the process a session keyring of its own, in which it may
// search. The kernel grants that to owners of keys only.
func (b *builder) keyring() {
	const (
		join, setPerm      = 1, 5
		possessor, view    = 0x3f000000, 0x00010000
		read, search, link = 0x00020000, 0x00080000, 0x00100000
		othersSearch       = 0x00000008
	)
	const ring program.Slot = "keyring"
	perm := uint64(possessor | view | read | link)
	if b.userNS {
		perm |= othersSearch // the owner is not the user that the process sees itself as
	} else {
		perm |= search
	}
	b.add(program.Step{
		Call: "keyctl", Yield: ring, Args: []program.Arg{program.Named(join, "KEYCTL_JOIN_SESSION_KEYRING"), program.String("_ses." + b.in.ID)},
		Tolerate: []syscall.Errno{syscall.ENOSYS, syscall.EPERM, syscall.EDQUOT, syscall.EACCES}, Why: "a session keyring of its own",
		Then: []program.Step{{
			Call: "keyctl", Args: []program.Arg{program.Named(setPerm, "KEYCTL_SETPERM"), program.FD(ring), program.Int(perm)},
			Tolerate: []syscall.Errno{syscall.EACCES}, Why: "in which it may search",
		}},
	})
}

func (b *builder) checkProcess() error {
	p := b.proc
	switch {
	case len(p.Args) == 0 || p.Args[0] == "":
		return errdefs.New(errdefs.Invalid, "process.args must not be empty")
	case !path.IsAbs(p.Cwd):
		if p.Cwd == "" {
			return errdefs.New(errdefs.Invalid, "Cwd property must not be empty")
		}
		return errdefs.New(errdefs.Invalid, "Cwd must be an absolute path")
	case !b.in.Unchecked && (p.User.UID == ^uint32(0) || p.User.GID == ^uint32(0) || slices.Contains(p.User.AdditionalGids, ^uint32(0))):
		return errdefs.New(errdefs.Invalid, "process.user: the id 4294967295 is nobody's")
	}
	for i, s := range slices.Concat(p.Args, p.Env) {
		if strings.IndexByte(s, 0) >= 0 {
			return errdefs.New(errdefs.Invalid, "process: string %d of args and env contains a zero byte", i)
		}
	}
	return nil
}

// capSets are the five sets of a process.
type capSets struct {
	bounding, effective, permitted, inheritable, ambient capability.Set
}

// held returns what the child holds while it works: in a user namespace, all.
func (b *builder) held() capability.Set {
	all := capability.Set(2)<<b.f.LastCap - 1
	if b.userNS {
		return all
	}
	return b.f.Caps & all
}

// capabilities reads the five sets. One that the runtime does not hold cannot
// be given; names that nobody knows are an error of the configuration.
func (b *builder) capabilities() capSets {
	c := b.proc.Capabilities
	if c == nil {
		c = &specs.LinuxCapabilities{}
	}
	var sets capSets
	for _, s := range []struct {
		names []string
		set   *capability.Set
		field string
	}{
		{c.Bounding, &sets.bounding, "bounding"},
		{c.Effective, &sets.effective, "effective"},
		{c.Permitted, &sets.permitted, "permitted"},
		{c.Inheritable, &sets.inheritable, "inheritable"},
		{c.Ambient, &sets.ambient, "ambient"},
	} {
		// The specification: names that cannot be mapped are passed over.
		set, err := capability.ParseSet(s.names)
		if err != nil {
			b.warn("process.capabilities.%s: %s", s.field, strings.ReplaceAll(err.Error(), "\n", "; "))
		}
		if rest := set &^ b.held(); rest != 0 {
			b.warn("process.capabilities.%s: the runtime does not hold %s", s.field, rest)
		}
		*s.set = set & b.held()
	}
	// What the kernel would refuse otherwise.
	sets.effective &= sets.permitted
	for _, name := range (sets.ambient &^ (sets.permitted & sets.inheritable)).Names() {
		b.warn("can't raise ambient capability %s: it is not both permitted and inheritable", name)
	}
	sets.ambient &= sets.permitted & sets.inheritable
	return sets
}

// bounding takes away what is not in the bounding set.
func (b *builder) bounding(keep capability.Set) {
	first := true
	for c := range b.f.LastCap + 1 {
		if keep.Has(c) || !b.userNS && !b.f.Caps.Has(c) {
			continue
		}
		s := step.Prctl("PR_CAPBSET_DROP", unix.PR_CAPBSET_DROP, program.Named(uint64(c), capability.Name(c)))
		if first {
			s.Why, first = "process.capabilities.bounding", false
		}
		b.add(s)
	}
}

// streams gives the process the streams that it is started with: else a user
// who is not root could not open /dev/stdout where that is a pipe.
func (b *builder) streams() {
	if b.proc.Terminal || b.proc.User.UID == 0 {
		return
	}
	for fd := range 3 {
		if b.f.SharedStreams[fd] {
			continue
		}
		b.add(step.Tolerate(step.Why(program.Step{Call: "fchownat", Args: []program.Arg{
			program.Int(fd), program.String(""), program.Int(b.proc.User.UID), program.Int(int32(-1)), program.Flags(unix.AT_EMPTY_PATH, step.AtFlags),
		}}, "process.user owns its streams"), syscall.EPERM, syscall.EINVAL, syscall.EROFS, syscall.EACCES, syscall.EBADF, syscall.ENOSYS))
	}
}

// user takes on the process's ids; the capabilities stay for now.
func (b *builder) user() {
	u := b.proc.User
	b.add(step.Why(step.Prctl("PR_SET_KEEPCAPS", unix.PR_SET_KEEPCAPS, program.Int(1)), "the steps below still take capabilities"))
	groups := make([]byte, 0, 4*len(u.AdditionalGids))
	for _, g := range u.AdditionalGids {
		groups = binary.LittleEndian.AppendUint32(groups, g)
	}
	list := program.Int(0)
	if len(groups) > 0 {
		list = program.Struct(groups, func() string { return strings.Trim(fmt.Sprint(u.AdditionalGids), "[]") })
	}
	set := program.Step{Call: "setgroups", Args: []program.Arg{program.Int(len(u.AdditionalGids)), list}, Why: "process.user.additionalGids"}
	if b.userNS && len(groups) == 0 {
		set.Tolerate = []syscall.Errno{syscall.EPERM} // where the namespace forbids setgroups
	}
	b.add(set)
	b.add(step.Sayf(program.Step{Call: "setresgid", Args: []program.Arg{program.Int(u.GID), program.Int(u.GID), program.Int(u.GID)}, Why: "process.user.gid"}, "become group %d", u.GID))
	b.add(step.Sayf(program.Step{Call: "setresuid", Args: []program.Arg{program.Int(u.UID), program.Int(u.UID), program.Int(u.UID)}, Why: "process.user.uid"}, "become user %d", u.UID))
	b.add(step.Prctl("PR_SET_KEEPCAPS", unix.PR_SET_KEEPCAPS, program.Int(0)))
}

// finalCaps leaves the process what the configuration gives it.
func (b *builder) finalCaps(c capSets) {
	b.add(capset(c.effective, c.permitted, c.inheritable, "process.capabilities"))
	b.add(step.Why(step.Prctl("PR_CAP_AMBIENT", unix.PR_CAP_AMBIENT, program.Named(unix.PR_CAP_AMBIENT_CLEAR_ALL, "PR_CAP_AMBIENT_CLEAR_ALL")), "process.capabilities.ambient"))
	for n := range b.f.LastCap + 1 {
		if c.ambient.Has(n) {
			b.add(step.Why(step.Prctl("PR_CAP_AMBIENT", unix.PR_CAP_AMBIENT, program.Named(unix.PR_CAP_AMBIENT_RAISE, "PR_CAP_AMBIENT_RAISE"), program.Named(uint64(n), capability.Name(n))), "process.capabilities.ambient"))
		}
	}
}

// capset sets effective, permitted and inheritable capabilities.
func capset(effective, permitted, inheritable capability.Set, reason string) program.Step {
	le := binary.LittleEndian
	header := le.AppendUint64(nil, unix.LINUX_CAPABILITY_VERSION_3)
	var data []byte
	for shift := 0; shift < 64; shift += 32 {
		for _, s := range []capability.Set{effective, permitted, inheritable} {
			data = le.AppendUint32(data, uint32(s>>shift))
		}
	}
	text := func() string {
		return fmt.Sprintf("effective %s; permitted %s; inheritable %s", setText(effective), setText(permitted), setText(inheritable))
	}
	return program.Step{Call: "capset", Args: []program.Arg{program.Bytes(header, "v3"), program.Struct(data, text)}, Why: reason}
}

func setText(s capability.Set) string {
	switch s {
	case 0:
		return "none"
	case capability.Known:
		return "all"
	}
	if rest := capability.Known &^ s; bits.OnesCount64(uint64(rest)) < 8 {
		return "all but " + rest.String()
	}
	return s.String()
}

// directory enters the working directory and verifies that it lies below the
// root (CVE-2024-21626). The ids are the user's by now, which a file system in
// user space or over a network may insist on; the capabilities are still the
// runtime's, as images name directories that are closed to their users.
func (b *builder) directory() {
	const cwd, top program.Slot = "cwd", "top"
	b.add(
		program.Step{Call: "openat", Yield: top, Args: []program.Arg{program.CWD(), program.String("/"), program.Flags(step.PathOnly|unix.O_DIRECTORY, step.OpenFlags), program.Int(0)}},
		step.Why(step.Sayf(step.Openat2(top, b.proc.Cwd, step.PathOnly|unix.O_DIRECTORY, step.InRoot, cwd), "chdir to cwd (%q) set in config.json", b.proc.Cwd), "process.cwd; no link of /proc leads out (CVE-2024-21626)"),
		step.Sayf(program.Step{Call: "fchdir", Args: []program.Arg{program.FD(cwd)}, Why: "process.cwd"}, "chdir to cwd (%q) set in config.json", b.proc.Cwd),
		step.Close(cwd), step.Close(top),
		program.Step{Call: "getcwd", Args: []program.Arg{program.Buffer("wd", 4096), program.Int(4096)}},
		program.Step{Call: "check", Args: program.Check("wd", 0xff, '/', uint64(syscall.ENOENT)), Why: "a directory outside of the root has no name here", Say: "current working directory is outside of container mount namespace root -- possible container breakout detected"},
	)
}

func (b *builder) umask() uint32 {
	if b.proc.User.Umask != nil {
		return *b.proc.User.Umask
	}
	return 0o022
}

// lookup finds the program while the container is being created, so that a
// missing one is told of by create. It returns the names to execute.
func (b *builder) lookup() []string {
	file := b.proc.Args[0]
	access := func(p string) program.Step {
		return program.Step{Call: "faccessat2", Args: []program.Arg{program.CWD(), program.String(p), program.Named(unix.X_OK, "X_OK"), program.Flags(unix.AT_EACCESS, step.AtFlags)}, Why: "process.args[0]"}
	}
	if strings.Contains(file, "/") {
		b.add(step.Sayf(access(file), "exec: %q", file))
		return []string{file}
	}
	var names []string
	for dir := range strings.SplitSeq(environ.Path(b.proc.Env), ":") {
		if path.IsAbs(dir) { // a relative one is not searched: neither does Go
			names = append(names, path.Join(dir, file))
		}
	}
	// Each is asked for only when the one before it was not found.
	missing := program.Step{
		Call: "check", Args: []program.Arg{program.Buffer("never", 8), program.Int(0), program.Int(1), program.Int(uint64(syscall.ENOENT))},
		Why: "process.args[0]", Say: fmt.Sprintf("exec: %q: executable file not found in $PATH", file),
	}
	next := []program.Step{missing}
	for _, p := range slices.Backward(names) {
		s := step.Tolerate(access(p), syscall.ENOENT, syscall.ENOTDIR, syscall.EACCES, syscall.ELOOP)
		s.Else = next
		next = []program.Step{s}
	}
	b.add(next...)
	return names
}

// execute tries the names in turn, as execvp does.
func (b *builder) execute(names []string) {
	env := environ.Of(b.proc.Env, b.f.Home)
	args := program.Strings(b.proc.Args)
	vector := program.Strings(env)
	for i, p := range names {
		s := program.Step{Call: "execve", Args: []program.Arg{program.String(p), args, vector}, Why: "process.args", Say: "exec " + b.proc.Args[0]}
		if i+1 < len(names) {
			s.Tolerate = []syscall.Errno{syscall.ENOENT, syscall.ENOTDIR, syscall.EACCES, syscall.ELOOP}
		}
		b.add(s)
	}
}

// wait stops a created container until it is started.
func (b *builder) wait() {
	if !b.in.Wait {
		return
	}
	b.do("the container is created", "write", program.FD(program.Sync), program.Bytes([]byte{'c'}, "created"), program.Int(1))
	b.add(
		program.Step{Call: "accept4", Yield: program.Report, Args: []program.Arg{program.FD(Listen), program.Int(0), program.Int(0), program.Named(unix.SOCK_CLOEXEC, "SOCK_CLOEXEC")}, Why: "start connects; from here on it hears what goes wrong"},
		step.Close(Listen), step.Close(program.Sync),
	)
	b.do("start", "read", program.FD(program.Report), program.Buffer("started", 8), program.Int(1))
	b.add(program.Step{Call: "check", Args: program.Check("started.len", ^uint64(0), 1, uint64(syscall.EPIPE)), Say: "start ended before it started the container"})
}
