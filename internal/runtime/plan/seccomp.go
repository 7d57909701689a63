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
	if f.Notify {
		return nil, errdefs.New(errdefs.NotImplemented, "linux.seccomp: SCMP_ACT_NOTIFY is not supported yet")
	}
	insns := make([]byte, 0, 8*len(f.Insns))
	for _, i := range f.Insns {
		insns = binary.LittleEndian.AppendUint16(insns, i.Code)
		insns = append(insns, i.Jt, i.Jf)
		insns = binary.LittleEndian.AppendUint32(insns, i.K)
	}
	return &program.Step{
		Call: "seccomp", Why: "linux.seccomp", Say: "install the filter of linux.seccomp",
		Args: []program.Arg{
			program.Named(unix.SECCOMP_SET_MODE_FILTER, "SECCOMP_SET_MODE_FILTER"),
			program.Flags(uint64(f.Flags), step.SeccompFlags), program.Filter(insns),
		},
	}, nil
}
