package plan

import (
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/runtime/plan/step"
	"lade/internal/runtime/program"
)

// Descriptors of the child's own attributes on procfs.
const (
	execAttrFD program.Slot = "attr-exec"      // what it is labelled on execve
	keyAttrFD  program.Slot = "attr-keycreate" // what keyrings are labelled that it makes
)

// checkLabels refuses labels that nothing would heed.
func (b *builder) checkLabels() error {
	p := b.proc
	switch {
	case p == nil: // a hook's place is looked for
	case p.ApparmorProfile != "" && !b.f.AppArmor:
		return errdefs.New(errdefs.NotImplemented, "process.apparmorProfile: apparmor profile %q is specified in config, but apparmor is disabled or not supported", p.ApparmorProfile)
	case p.SelinuxLabel != "" && !b.f.SELinux:
		return errdefs.New(errdefs.NotImplemented, "process.selinuxLabel: selinux label is specified in config, but selinux is disabled or not supported")
	case !b.entering && b.cfg.Linux.MountLabel != "" && !b.f.SELinux:
		return errdefs.New(errdefs.NotImplemented, "linux.mountLabel: selinux label is specified in config, but selinux is disabled or not supported")
	case p.ApparmorProfile != "" && p.SelinuxLabel != "":
		return errdefs.New(errdefs.Invalid, "process: a kernel enforces apparmorProfile or selinuxLabel, not both")
	case strings.ContainsAny(p.ApparmorProfile+p.SelinuxLabel+b.cfg.Linux.MountLabel, "\x00\n\""):
		return errdefs.New(errdefs.Invalid, "process: a label holds a character that none has")
	case !b.entering && b.labelled() && b.joins[unix.CLONE_NEWNS] != "" && b.joins[unix.CLONE_NEWUSER] != "" && b.newNS&unix.CLONE_NEWPID != 0:
		// Whoever writes its attributes must have opened them itself, and that
		// one is born where only another's /proc is left.
		return errdefs.New(errdefs.NotImplemented, "process: a label, together with a new pid namespace and mount and user namespaces that are joined")
	}
	return nil
}

func (b *builder) labelled() bool { return b.proc.ApparmorProfile+b.proc.SelinuxLabel != "" }

// openLabels opens the child's attributes while the procfs at /proc is the
// host's for sure: another could lead the write elsewhere (CVE-2019-16884,
// CVE-2025-52881).
func (b *builder) openLabels() {
	open := func(path, field string, fd program.Slot) program.Step {
		return program.Step{Call: "openat", Yield: fd, Why: field, Say: "open " + path, Args: []program.Arg{
			program.CWD(), program.String(path), program.Flags(unix.O_WRONLY|unix.O_CLOEXEC, step.OpenFlags), program.Int(0),
		}}
	}
	switch {
	case b.proc.ApparmorProfile != "":
		s := open("/proc/self/attr/apparmor/exec", "process.apparmorProfile", execAttrFD)
		s.Tolerate = []syscall.Errno{syscall.ENOENT} // Linux before 5.8 knows one owner of attributes only
		s.Else = []program.Step{open("/proc/self/attr/exec", "process.apparmorProfile", execAttrFD)}
		b.add(s)
		b.onProc(execAttrFD)
	case b.proc.SelinuxLabel != "":
		for _, a := range []struct {
			name string
			fd   program.Slot
		}{{"exec", execAttrFD}, {"keycreate", keyAttrFD}} {
			b.add(open("/proc/self/attr/"+a.name, "process.selinuxLabel", a.fd))
			b.onProc(a.fd)
		}
	}
}

// onProc verifies that a descriptor is one of a procfs.
func (b *builder) onProc(fd program.Slot) {
	b.do("it is on procfs", "fstatfs", program.FD(fd), program.Buffer("statfs", 120))
	b.add(program.Step{Call: "check", Args: program.Check("statfs", 0xffffffff, unix.PROC_SUPER_MAGIC, uint64(syscall.ENOTTY)), Say: "/proc is not a procfs"})
}

// keyLabel labels the session keyring that is made next.
func (b *builder) keyLabel() {
	if l := b.proc.SelinuxLabel; l != "" {
		b.add(step.Say(program.Step{Call: "write", Args: []program.Arg{program.FD(keyAttrFD), program.String(l), program.Int(len(l))}, Why: "process.selinuxLabel, for the keyring"}, "label the session keyring "+l))
		b.add(step.Close(keyAttrFD))
	}
}

// label says what the process is when it executes its program.
func (b *builder) label() {
	text, field := b.proc.SelinuxLabel, "process.selinuxLabel"
	if p := b.proc.ApparmorProfile; p != "" {
		text, field = "exec "+p, "process.apparmorProfile"
	}
	if text == "" {
		return
	}
	b.add(
		step.Say(program.Step{Call: "write", Args: []program.Arg{program.FD(execAttrFD), program.String(text), program.Int(len(text))}, Why: field}, "set "+field+" "+strings.TrimPrefix(text, "exec ")),
		step.Close(execAttrFD),
	)
}

// mountData returns the options of a new file system with linux.mountLabel
// among them. Those of the kernel have labels of its own.
func (b *builder) mountData(kind string, data []string) []string {
	l := b.cfg.Linux.MountLabel
	switch kind {
	case "proc", "sysfs", "mqueue", "cgroup", "cgroup2":
		return data
	}
	if l == "" {
		return data
	}
	return append(slices.Clip(data), "context="+l)
}
