// Package scheduling plans how a process is treated beside others: by the
// scheduler, the disks, the CPUs, and as which system the kernel shows itself.
package scheduling

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/errdefs"
	"lade/internal/runtime/plan/step"
	"lade/internal/runtime/program"
)

// Personality plans linux.personality.
func Personality(p *specs.LinuxPersonality) ([]program.Step, error) {
	if p == nil {
		return nil, nil
	}
	var n uint64
	switch p.Domain {
	case specs.PerLinux:
	case specs.PerLinux32:
		n = 8
	default:
		return nil, errdefs.New(errdefs.Invalid, "linux.personality.domain: %q is neither LINUX nor LINUX32", p.Domain)
	}
	if len(p.Flags) > 0 {
		return nil, errdefs.New(errdefs.Invalid, "linux.personality.flags: there are none")
	}
	return []program.Step{{Call: "personality", Args: []program.Arg{program.Named(n, string(p.Domain))}, Why: "linux.personality"}}, nil
}

// Scheduler plans process.scheduler.
func Scheduler(s *specs.Scheduler) ([]program.Step, error) {
	if s == nil {
		return nil, nil
	}
	policy := slices.Index([]specs.LinuxSchedulerPolicy{
		specs.SchedOther, specs.SchedFIFO, specs.SchedRR, specs.SchedBatch, specs.SchedISO, specs.SchedIdle, specs.SchedDeadline,
	}, s.Policy)
	switch {
	case policy < 0:
		return nil, errdefs.New(errdefs.Invalid, "process.scheduler.policy: there is no %q", s.Policy)
	case s.Nice < -20 || s.Nice > 19:
		return nil, errdefs.New(errdefs.Invalid, "process.scheduler.nice: %d is not between -20 and 19", s.Nice)
	case s.Priority != 0 && s.Policy != specs.SchedFIFO && s.Policy != specs.SchedRR:
		return nil, errdefs.New(errdefs.Invalid, "process.scheduler.priority is for SCHED_FIFO and SCHED_RR only")
	case (s.Runtime|s.Deadline|s.Period) != 0 && s.Policy != specs.SchedDeadline:
		return nil, errdefs.New(errdefs.Invalid, "process.scheduler: runtime, deadline and period are for SCHED_DEADLINE only")
	}
	var flags uint64
	for _, f := range s.Flags {
		i := slices.Index([]specs.LinuxSchedulerFlag{
			specs.SchedFlagResetOnFork, specs.SchedFlagReclaim, specs.SchedFlagDLOverrun, specs.SchedFlagKeepPolicy,
			specs.SchedFlagKeepParams, specs.SchedFlagUtilClampMin, specs.SchedFlagUtilClampMax,
		}, f)
		if i < 0 {
			return nil, errdefs.New(errdefs.Invalid, "process.scheduler.flags: there is no %q", f)
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
	attr = append(attr, step.Words(s.Runtime, s.Deadline, s.Period)...)
	text := func() string { return fmt.Sprintf("%s, nice %d, priority %d", s.Policy, s.Nice, s.Priority) }
	return []program.Step{step.Sayf(program.Step{
		Call: "sched_setattr", Why: "process.scheduler",
		Args: []program.Arg{program.Int(0), program.Struct(attr, text), program.Int(0)},
	}, "set the scheduler %s", s.Policy)}, nil
}

// IOPriority plans process.ioPriority.
func IOPriority(p *specs.LinuxIOPriority) ([]program.Step, error) {
	if p == nil {
		return nil, nil
	}
	class := 1 + slices.Index([]specs.IOPriorityClass{specs.IOPRIO_CLASS_RT, specs.IOPRIO_CLASS_BE, specs.IOPRIO_CLASS_IDLE}, p.Class)
	switch {
	case class == 0:
		return nil, errdefs.New(errdefs.Invalid, "process.ioPriority.class: there is no %q", p.Class)
	case p.Priority < 0 || p.Priority > 7:
		return nil, errdefs.New(errdefs.Invalid, "process.ioPriority.priority: %d is not between 0 and 7", p.Priority)
	}
	return []program.Step{step.Sayf(program.Step{Call: "ioprio_set", Why: "process.ioPriority", Args: []program.Arg{
		program.Named(1, "IOPRIO_WHO_PROCESS"), program.Int(0), program.Named(uint64(class<<13|p.Priority), string(p.Class)+"|"+strconv.Itoa(p.Priority)),
	}}, "set the I/O priority %s %d", p.Class, p.Priority)}, nil
}

// Affinity plans one half of process.execCPUAffinity: the field called name
// holds the list of CPUs.
func Affinity(name, list string) ([]program.Step, error) {
	if list == "" {
		return nil, nil
	}
	field := "process.execCPUAffinity." + name
	mask, err := bitmap(list, mostCPUs)
	if err != nil {
		err = fmt.Errorf("%q is not a list of CPUs", list)
	}
	if err != nil {
		return nil, errdefs.New(errdefs.Invalid, "%s: %w", field, err)
	}
	return []program.Step{step.Say(program.Step{Call: "sched_setaffinity", Why: field, Args: []program.Arg{
		program.Int(0), program.Int(len(mask)), program.Bytes(mask, list),
	}}, "run on the CPUs "+list)}, nil
}

// AllCPUs takes away what the process has inherited from who started the
// runtime, and leaves what its cgroups allow.
func AllCPUs() program.Step {
	mask := bytes.Repeat([]byte{0xff}, 1024/8)
	return program.Step{
		Call: "sched_setaffinity", Args: []program.Arg{program.Int(0), program.Int(len(mask)), program.Bytes(mask, "all")},
		Tolerate: []syscall.Errno{syscall.EINVAL, syscall.EPERM, syscall.ENOSYS}, Why: "the runtime's own CPUs are not the container's",
	}
}

// MemoryModes are the modes of linux.memoryPolicy, in the kernel's order.
func MemoryModes() []specs.MemoryPolicyModeType {
	return []specs.MemoryPolicyModeType{
		specs.MpolDefault, specs.MpolPreferred, specs.MpolBind, specs.MpolInterleave,
		specs.MpolLocal, specs.MpolPreferredMany, specs.MpolWeightedInterleave,
	}
}

// MemoryFlags are its flags, in the order of the kernel's bits from 13 on.
func MemoryFlags() []specs.MemoryPolicyFlagType {
	return []specs.MemoryPolicyFlagType{specs.MpolFNumaBalancing, specs.MpolFRelativeNodes, specs.MpolFStaticNodes}
}

// ones counts what is set in a bitmap.
func ones(mask []byte) (n int) {
	for _, b := range mask {
		n += bits.OnesCount8(b)
	}
	return n
}

// MemoryPolicy plans linux.memoryPolicy: on which nodes the process's memory
// is to lie.
func MemoryPolicy(p *specs.LinuxMemoryPolicy) ([]program.Step, error) {
	if p == nil {
		return nil, nil
	}
	mode := slices.Index(MemoryModes(), p.Mode)
	if mode < 0 {
		return nil, errdefs.New(errdefs.Invalid, "linux.memoryPolicy.mode: invalid memory policy mode %q", p.Mode)
	}
	word, text := uint64(mode), string(p.Mode)
	for _, f := range p.Flags {
		bit := slices.Index(MemoryFlags(), f)
		if bit < 0 {
			return nil, errdefs.New(errdefs.Invalid, "linux.memoryPolicy.flags: invalid memory policy flag %q", f)
		}
		word |= 1 << (13 + bit)
		text += "|" + string(f)
	}
	var mask []byte
	if strings.TrimSpace(p.Nodes) != "" {
		var err error
		if mask, err = bitmap(p.Nodes, mostNodes); err != nil {
			return nil, errdefs.New(errdefs.Invalid, "linux.memoryPolicy.nodes: invalid memory policy node list %q", p.Nodes)
		}
	}
	switch p.Mode {
	case specs.MpolDefault, specs.MpolLocal:
		if len(mask) > 0 {
			return nil, errdefs.New(errdefs.Invalid, "linux.memoryPolicy.nodes: %s mode requires 0 nodes but got %d", p.Mode, ones(mask))
		}
	case specs.MpolPreferred: // of no node: the one at hand
	default:
		if len(mask) == 0 {
			return nil, errdefs.New(errdefs.Invalid, "linux.memoryPolicy.nodes: %s takes at least one", p.Mode)
		}
	}
	nodes, most := program.Int(0), 0
	if len(mask) > 0 {
		nodes, most = program.Bytes(mask, p.Nodes), 8*len(mask)+1 // the kernel looks at one bit less
	}
	return []program.Step{step.Say(program.Step{
		Call: "set_mempolicy", Why: "linux.memoryPolicy", Args: []program.Arg{program.Named(word, text), nodes, program.Int(most)},
	}, strings.TrimSpace("set the memory policy "+text+" "+p.Nodes))}, nil
}

// What kernels are built for at most.
const (
	mostCPUs  = 1 << 13
	mostNodes = 1 << 10
)

var errList = errors.New("not a list of numbers")

// bitmap reads a list of numbers below most: "0-3,7".
func bitmap(list string, most uint64) ([]byte, error) {
	var mask []byte
	for part := range strings.SplitSeq(list, ",") {
		from, to, found := strings.Cut(strings.TrimSpace(part), "-")
		if !found {
			to = from
		}
		first, err := strconv.ParseUint(from, 10, 32)
		if err != nil {
			return nil, errList
		}
		last, err := strconv.ParseUint(to, 10, 32)
		if err != nil || last < first || last >= most {
			return nil, errList
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
