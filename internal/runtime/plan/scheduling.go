package plan

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/runtime/program"
)

// scheduling says how the process is to be treated beside others: by the
// scheduler, by the disks, and as which system the kernel shows itself.
func (b *builder) scheduling() error {
	for _, add := range []func() error{b.personality, b.scheduler, b.ioPriority} {
		if err := add(); err != nil {
			return err
		}
	}
	return b.affinity("final", func(a *specs.CPUAffinity) string { return a.Final })
}

func (b *builder) personality() error {
	p := b.cfg.Linux.Personality
	if p == nil {
		return nil
	}
	var n uint64
	switch p.Domain {
	case specs.PerLinux:
	case specs.PerLinux32:
		n = 8
	default:
		return errdefs.New(errdefs.Invalid, "linux.personality.domain: %q is neither LINUX nor LINUX32", p.Domain)
	}
	if len(p.Flags) > 0 {
		return errdefs.New(errdefs.Invalid, "linux.personality.flags: there are none")
	}
	b.do("linux.personality", "personality", program.Named(n, string(p.Domain)))
	return nil
}

// scheduler sets process.scheduler.
func (b *builder) scheduler() error {
	s := b.proc.Scheduler
	if s == nil {
		return nil
	}
	policy := slices.Index([]specs.LinuxSchedulerPolicy{
		specs.SchedOther, specs.SchedFIFO, specs.SchedRR, specs.SchedBatch, specs.SchedISO, specs.SchedIdle, specs.SchedDeadline,
	}, s.Policy)
	switch {
	case policy < 0:
		return errdefs.New(errdefs.Invalid, "process.scheduler.policy: there is no %q", s.Policy)
	case s.Nice < -20 || s.Nice > 19:
		return errdefs.New(errdefs.Invalid, "process.scheduler.nice: %d is not between -20 and 19", s.Nice)
	case s.Priority != 0 && s.Policy != specs.SchedFIFO && s.Policy != specs.SchedRR:
		return errdefs.New(errdefs.Invalid, "process.scheduler.priority is for SCHED_FIFO and SCHED_RR only")
	case (s.Runtime|s.Deadline|s.Period) != 0 && s.Policy != specs.SchedDeadline:
		return errdefs.New(errdefs.Invalid, "process.scheduler: runtime, deadline and period are for SCHED_DEADLINE only")
	}
	var flags uint64
	for _, f := range s.Flags {
		i := slices.Index([]specs.LinuxSchedulerFlag{
			specs.SchedFlagResetOnFork, specs.SchedFlagReclaim, specs.SchedFlagDLOverrun, specs.SchedFlagKeepPolicy,
			specs.SchedFlagKeepParams, specs.SchedFlagUtilClampMin, specs.SchedFlagUtilClampMax,
		}, f)
		if i < 0 {
			return errdefs.New(errdefs.Invalid, "process.scheduler.flags: there is no %q", f)
		}
		flags |= 1 << i
	}
	le := binary.LittleEndian
	const size = 48 // the first version of struct sched_attr, which has all of it
	attr := le.AppendUint32(nil, size)
	attr = le.AppendUint32(attr, uint32(policy))
	attr = le.AppendUint64(attr, flags)
	attr = le.AppendUint32(attr, uint32(s.Nice))
	attr = le.AppendUint32(attr, uint32(s.Priority))
	attr = append(attr, words(s.Runtime, s.Deadline, s.Period)...)
	text := func() string { return fmt.Sprintf("%s, nice %d, priority %d", s.Policy, s.Nice, s.Priority) }
	b.add(sayf(program.Step{
		Call: "sched_setattr", Why: "process.scheduler",
		Args: []program.Arg{program.Int(0), program.Struct(attr, text), program.Int(0)},
	}, "set the scheduler %s", s.Policy))
	return nil
}

// ioPriority sets process.ioPriority.
func (b *builder) ioPriority() error {
	p := b.proc.IOPriority
	if p == nil {
		return nil
	}
	class := 1 + slices.Index([]specs.IOPriorityClass{specs.IOPRIO_CLASS_RT, specs.IOPRIO_CLASS_BE, specs.IOPRIO_CLASS_IDLE}, p.Class)
	switch {
	case class == 0:
		return errdefs.New(errdefs.Invalid, "process.ioPriority.class: there is no %q", p.Class)
	case p.Priority < 0 || p.Priority > 7:
		return errdefs.New(errdefs.Invalid, "process.ioPriority.priority: %d is not between 0 and 7", p.Priority)
	}
	b.add(sayf(program.Step{Call: "ioprio_set", Why: "process.ioPriority", Args: []program.Arg{
		program.Named(1, "IOPRIO_WHO_PROCESS"), program.Int(0), program.Named(uint64(class<<13|p.Priority), string(p.Class)+"|"+strconv.Itoa(p.Priority)),
	}}, "set the I/O priority %s %d", p.Class, p.Priority))
	return nil
}

// affinity takes one half of process.execCPUAffinity, which is about processes
// that enter a container: the CPUs before it joins the container's cgroups,
// and after.
func (b *builder) affinity(name string, of func(*specs.CPUAffinity) string) error {
	a := b.proc.ExecCPUAffinity
	if a == nil || of(a) == "" {
		return nil
	}
	field := "process.execCPUAffinity." + name
	mask, err := cpuMask(of(a))
	if err != nil {
		return errdefs.New(errdefs.Invalid, "%s: %w", field, err)
	}
	if !b.entering {
		return nil
	}
	s := program.Step{Call: "sched_setaffinity", Why: field, Args: []program.Arg{
		program.Int(0), program.Int(len(mask)), program.Bytes(mask, of(a)),
	}}
	if name == "initial" && b.f.Cgroup.Group.Unified() != "" {
		// It was born in the container's cgroup, which may have none of them.
		s.Tolerate = []syscall.Errno{syscall.EINVAL}
	}
	b.add(say(s, "run on the CPUs "+of(a)))
	return nil
}

// cpuMask reads a list of CPUs: "0-3,7".
func cpuMask(list string) ([]byte, error) {
	const most = 1 << 13 // what kernels are built for at most
	var mask []byte
	for part := range strings.SplitSeq(list, ",") {
		from, to, found := strings.Cut(strings.TrimSpace(part), "-")
		if !found {
			to = from
		}
		first, err := strconv.ParseUint(from, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("%q is not a list of CPUs", list)
		}
		last, err := strconv.ParseUint(to, 10, 32)
		if err != nil || last < first || last >= most {
			return nil, fmt.Errorf("%q is not a list of CPUs", list)
		}
		for n := first; n <= last; n++ {
			for uint64(len(mask)) <= n/8 {
				mask = append(mask, make([]byte, 8)...)
			}
			mask[n/8] |= 1 << (n % 8)
		}
	}
	return mask, nil
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
		{!b.entering && len(l.NetDevices) > 0, "linux.netDevices: moving network interfaces is not supported yet"},
		{!b.entering && l.IntelRdt != nil, "linux.intelRdt: the resource director is not supported yet"},
		{l.MemoryPolicy != nil, "linux.memoryPolicy: memory policies are not supported yet"},
		{!b.entering && (len(l.TimeOffsets) > 0 || b.isolated(unix.CLONE_NEWTIME)), "linux.timeOffsets: time namespaces are not supported yet"},
		{b.cfg.VM != nil, "vm: virtual machines are not supported"},
	} {
		if f.set {
			return errdefs.New(errdefs.NotImplemented, "%s", f.text)
		}
	}
	return nil
}
