package plan

import (
	"golang.org/x/sys/unix"

	"lade/internal/runtime/plan/mountopt"
	"lade/internal/runtime/plan/step"
	"lade/internal/runtime/program"
)

// copyUp fills the tmpfs at hand with what is at its place. The child, which
// can loop over nothing, hands the runtime both by descriptor: the place that
// was resolved inside the root, and a file system that is attached nowhere
// yet. So the runtime takes no path of the container, and what it writes to is
// out of the container's reach until it is done.
func (b *builder) copyUp(i int, o mountopt.Options) {
	label := step.Field("mounts", i) + ": tmpcopyup"
	dest := b.cfg.Mounts[i].Destination
	for _, s := range []program.Slot{placeFD, mntFD} {
		b.add(step.Why(step.Say(b.handOn(s), "hand "+dest+" to the runtime"), label))
	}
	b.await("the runtime copies what is at " + dest)
	keep := uint64(0)
	if !hasOption(o, "mode") {
		keep |= unix.STATX_MODE
	}
	if !hasOption(o, "uid", "gid") {
		keep |= unix.STATX_UID
	}
	b.beside(program.Step{
		Call: "copy_up", Why: label, Say: "copy what is at " + dest + " up to the tmpfs there",
		Args: []program.Arg{program.FD(program.Sync), program.Flags(keep, step.StatFlags)},
	}, "the copy is made")
}
