package plan

import (
	"syscall"

	"lade/internal/errdefs"
	"lade/internal/runtime/plan/scheduling"
	"lade/internal/runtime/program"
)

// scheduling says how the process is to be treated beside others.
func (b *builder) scheduling() error {
	for _, part := range []func() ([]program.Step, error){
		func() ([]program.Step, error) { return scheduling.Personality(b.cfg.Linux.Personality) },
		func() ([]program.Step, error) { return scheduling.Scheduler(b.proc.Scheduler) },
		func() ([]program.Step, error) { return scheduling.IOPriority(b.proc.IOPriority) },
		func() ([]program.Step, error) { return scheduling.MemoryPolicy(b.cfg.Linux.MemoryPolicy) },
	} {
		steps, err := part()
		if err != nil {
			return err
		}
		b.add(steps...)
	}
	return b.affinity(true)
}

// affinity takes one half of process.execCPUAffinity, which is about processes
// that enter a container: the CPUs before it joins the container's cgroups,
// and, finally, after.
func (b *builder) affinity(final bool) error {
	a := b.proc.ExecCPUAffinity
	if a == nil {
		return nil
	}
	name, list := "initial", a.Initial
	if final {
		name, list = "final", a.Final
	}
	steps, err := scheduling.Affinity(name, list)
	if err != nil || !b.entering {
		return err
	}
	if !final && b.f.Cgroup.Group.Unified() != "" {
		// It was born in the container's cgroup, which may have none of them.
		for i := range steps {
			steps[i].Tolerate = []syscall.Errno{syscall.EINVAL}
		}
	}
	b.add(steps...)
	return nil
}

// unsupported names the first field that asks for something that is not there.
// None is passed over: who asks for it counts on it.
func (b *builder) unsupported() error {
	l := b.cfg.Linux
	if b.proc == nil {
		return nil // a hook's place is looked for
	}
	for _, f := range []struct {
		set  bool
		text string
	}{
		{b.proc.ApparmorProfile != "", "process.apparmorProfile: this runtime or kernel has no AppArmor"},
		{b.proc.SelinuxLabel != "", "process.selinuxLabel: this runtime or kernel has no SELinux"},
		{!b.entering && l.MountLabel != "", "linux.mountLabel: this runtime or kernel has no SELinux"},
		{!b.entering && l.IntelRdt != nil, "linux.intelRdt: the resource director is not supported yet"},
		{b.cfg.VM != nil, "vm: virtual machines are not supported"},
	} {
		if f.set {
			return errdefs.New(errdefs.NotImplemented, "%s", f.text)
		}
	}
	return nil
}
