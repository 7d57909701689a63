package plan

import (
	"lade/internal/errdefs"
	"lade/internal/runtime/program"
)

// seccomp returns the step that installs linux.seccomp, or nil.
func (b *builder) seccomp() (*program.Step, error) {
	if b.cfg.Linux.Seccomp == nil {
		return nil, nil
	}
	return nil, errdefs.New(errdefs.NotImplemented, "linux.seccomp is not supported yet")
}
