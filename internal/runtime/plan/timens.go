package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/runtime/plan/step"
	"lade/internal/runtime/program"
)

// selfFD is the child's own directory of the host's procfs.
const selfFD program.Slot = "self"

// checkTime refuses offsets that nobody would get, or that are none.
func (b *builder) checkTime() error {
	offsets := b.cfg.Linux.TimeOffsets
	switch {
	case len(offsets) == 0:
		return nil
	case b.joins[unix.CLONE_NEWTIME] != "":
		return errdefs.New(errdefs.Invalid, "time namespace enabled, but both namespace path and time offsets specified -- you may only provide one")
	case b.newNS&unix.CLONE_NEWTIME == 0:
		return errdefs.New(errdefs.Invalid, "time namespace offsets specified, but time namespace isn't enabled in the config")
	}
	for clock, o := range offsets {
		switch {
		case clock != "monotonic" && clock != "boottime":
			return errdefs.New(errdefs.Invalid, "linux.timeOffsets: there is no clock %q: monotonic and boottime have offsets", clock)
		case o.Nanosecs >= 1e9:
			return errdefs.New(errdefs.Invalid, "linux.timeOffsets: %s: %d nanoseconds are more than a second", clock, o.Nanosecs)
		}
	}
	return nil
}

// openSelf is taken where the procfs at /proc is the host's for sure.
func (b *builder) openSelf() {
	if b.newNS&unix.CLONE_NEWTIME == 0 {
		return
	}
	b.do("linux.namespaces: time", "openat", program.CWD(), program.String("/proc/self"), program.Flags(step.PathOnly|unix.O_DIRECTORY, step.OpenFlags), program.Int(0))
	b.steps[len(b.steps)-1].Yield = selfFD
	b.onProc(selfFD)
}

// timeNamespace enters the time namespace that was unshared. Its clocks are set
// before: they are fixed once somebody lives by them.
func (b *builder) timeNamespace() {
	const fd program.Slot = "time"
	var text strings.Builder
	offsets := b.cfg.Linux.TimeOffsets
	for _, clock := range slices.Sorted(maps.Keys(offsets)) {
		fmt.Fprintf(&text, "%s %d %d\n", clock, offsets[clock].Secs, offsets[clock].Nanosecs)
	}
	if s := text.String(); s != "" {
		b.add(
			step.Why(step.Openat2(selfFD, "timens_offsets", unix.O_WRONLY|unix.O_CLOEXEC, 0, fd), "linux.timeOffsets"),
			step.Say(program.Step{Call: "write", Args: []program.Arg{program.FD(fd), program.String(s), program.Int(len(s))}, Why: "linux.timeOffsets"}, "set linux.timeOffsets"),
			step.Close(fd),
		)
	}
	b.add(
		step.Why(step.Openat2(selfFD, "ns/time_for_children", unix.O_CLOEXEC, 0, fd), "who unshares it is not in it"),
		program.Step{Call: "setns", Args: []program.Arg{program.FD(fd), program.Flags(unix.CLONE_NEWTIME, step.CloneFlags)}, Why: "linux.namespaces: time"},
		step.Close(fd), step.Close(selfFD),
	)
}
