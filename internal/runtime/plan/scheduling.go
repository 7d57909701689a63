package plan

import (
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/runtime/plan/scheduling"
	"lade/internal/runtime/program"
)

// scheduling says how the process is to be treated beside others.
func (b *builder) scheduling() error {
	for _, part := range []func() ([]program.Step, error){
		func() ([]program.Step, error) { return scheduling.Personality(b.cfg.Linux.Personality) },
		b.scheduler,
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

// scheduler takes process.scheduler. The kernel has no deadlines for processes
// that may not use all CPUs.
func (b *builder) scheduler() ([]program.Step, error) {
	steps, err := scheduling.Scheduler(b.proc.Scheduler)
	if r := b.cfg.Linux.Resources; len(steps) > 0 && r != nil && r.CPU != nil && r.CPU.Cpus != "" {
		last := &steps[len(steps)-1]
		last.Say += " (process scheduler can't be used together with AllowedCPUs, linux.resources.cpu.cpus)"
	}
	return steps, err
}

// affinity takes one half of process.execCPUAffinity, which is about processes
// that enter a container: the CPUs before it joins the container's cgroups,
// and, finally, after.
func (b *builder) affinity(final bool) error {
	a := b.proc.ExecCPUAffinity
	if final && (!b.entering || a == nil || *a == (specs.CPUAffinity{})) {
		b.add(scheduling.AllCPUs())
	}
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
