package plan

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/seccomp"
	"lade/internal/runtime/plan/step"
	"lade/internal/runtime/program"
)

// seccomp returns the step that installs linux.seccomp, or nil.
func (b *builder) seccomp() (*program.Step, error) {
	if b.cfg.Linux.Seccomp == nil {
		return nil, nil
	}
	f, err := seccomp.Compile(b.cfg.Linux.Seccomp, seccomp.Host{GOARCH: b.f.Arch})
	if err != nil || f == nil {
		return nil, err
	}
	if f.Notify && b.cfg.Linux.Seccomp.ListenerPath == "" {
		return nil, errdefs.New(errdefs.Invalid, "linux.seccomp: seccomp listenerPath is not set, and SCMP_ACT_NOTIFY asks there")
	}
	insns := make([]byte, 0, 8*len(f.Insns))
	for _, i := range f.Insns {
		insns = binary.LittleEndian.AppendUint16(insns, i.Code)
		insns = append(insns, i.Jt, i.Jf)
		insns = binary.LittleEndian.AppendUint32(insns, i.K)
	}
	s := &program.Step{
		Call: "seccomp", Why: "linux.seccomp", Say: "install the filter of linux.seccomp",
		Args: []program.Arg{
			program.Named(unix.SECCOMP_SET_MODE_FILTER, "SECCOMP_SET_MODE_FILTER"),
			program.Flags(uint64(f.Flags), step.SeccompFlags), program.Filter(insns),
		},
	}
	if f.Notify {
		s.Yield = listenerFD
	}
	return s, nil
}

// hookFilter puts a hook that runs in the container's place under the
// container's filter. One that asks an agent is left out: the agent was told of
// the container's process alone, and waits for no other.
func (b *builder) hookFilter() error {
	s, err := b.seccomp()
	if s != nil && s.Yield == "" {
		b.add(*s)
	}
	return err
}

// listenerFD is where the system calls come that somebody else decides on.
const listenerFD program.Slot = "listener"

// notify installs a filter that asks a listener. The runtime hands the listener
// on before the process is started: it takes the descriptor out of the child,
// which thereby needs no call but write, the one that may not be asked about.
func (b *builder) notify(filter program.Step) {
	const reason = "linux.seccomp.listenerPath"
	b.add(filter)
	b.do(reason+": the runtime takes it from here", "write", program.FD(program.Sync), program.SlotAddress(listenerFD), program.Int(8))
	b.await("the runtime has it")
	b.add(step.Close(listenerFD))
	path := b.cfg.Linux.Seccomp.ListenerPath
	b.listener = []program.Step{
		step.Say(program.Step{Call: "listener", Args: []program.Arg{program.FD(program.Sync), program.String(path)}, Why: reason}, "hand the seccomp listener to "+path),
		{Call: "release", Args: []program.Arg{program.FD(program.Sync)}, Why: "the listener is handed on"},
	}
}
