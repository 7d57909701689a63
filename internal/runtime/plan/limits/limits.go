// Package limits plans the resource limits of a process.
package limits

import (
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/runtime/plan/step"
	"lade/internal/runtime/program"
)

// Steps plans process.rlimits. own are the runtime's own limits by number;
// mayRaise tells whether it may give more than it has.
func Steps(list []specs.POSIXRlimit, own map[int]unix.Rlimit, mayRaise bool) ([]program.Step, error) {
	steps := make([]program.Step, 0, len(list))
	for i, r := range list {
		n, ok := Number(r.Type)
		if !ok {
			return nil, errdefs.New(errdefs.Invalid, "process.rlimits[%d]: invalid rlimit type: %s", i, r.Type)
		}
		soft, hard, label := r.Soft, r.Hard, fmt.Sprintf("process.rlimits[%d]: %s", i, r.Type)
		if have, ok := own[n]; ok && hard > have.Max && !mayRaise {
			// Only CAP_SYS_RESOURCE raises a limit.
			hard, soft = have.Max, min(soft, have.Max)
			label += fmt.Sprintf("; the runtime's own limit is %d", have.Max)
		}
		steps = append(steps, step.Why(step.Sayf(program.Step{Call: "prlimit64", Args: []program.Arg{
			program.Int(0), program.Named(uint64(n), r.Type),
			program.Struct(step.Words(soft, hard), func() string { return fmt.Sprintf("soft %d, hard %d", soft, hard) }),
			program.Int(0),
		}}, "set the resource limit %s to %d:%d", r.Type, soft, hard), label))
	}
	return steps, nil
}

// Number returns the number of the resource limit called name.
func Number(name string) (int, bool) {
	i := slices.Index([]string{
		"RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_DATA", "RLIMIT_STACK", "RLIMIT_CORE", "RLIMIT_RSS", "RLIMIT_NPROC", "RLIMIT_NOFILE",
		"RLIMIT_MEMLOCK", "RLIMIT_AS", "RLIMIT_LOCKS", "RLIMIT_SIGPENDING", "RLIMIT_MSGQUEUE", "RLIMIT_NICE", "RLIMIT_RTPRIO", "RLIMIT_RTTIME",
	}, name)
	return i, i >= 0
}
