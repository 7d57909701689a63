// Package resctrl plans classes of cache and memory bandwidth: the resource
// director of some processors, which the kernel shows as a file system.
package resctrl

import (
	"path"
	"strings"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/errdefs"
	"lade/internal/runtime/plan/step"
	"lade/internal/runtime/program"
)

// Check refuses classes that have no name, or no place: root is where resctrl
// is mounted, or "".
func Check(r *specs.LinuxIntelRdt, root string) error {
	switch {
	case r == nil:
		return nil
	case root == "":
		return errdefs.Hint(errdefs.New(errdefs.NotImplemented, "linux.intelRdt: intelRdt is specified in config, but Intel RDT is not enabled"), "mount resctrl at /sys/fs/resctrl, where the processor and the kernel have it")
	case r.ClosID == "." || r.ClosID == ".." || len(r.ClosID) > 1 && strings.Contains(r.ClosID, "/"):
		return errdefs.New(errdefs.Invalid, "linux.intelRdt.closID: invalid intelRdt.ClosID %q", r.ClosID)
	}
	for _, line := range r.Schemata {
		if strings.Contains(line, "\n") {
			return errdefs.New(errdefs.Invalid, "linux.intelRdt.schemata: %q is more than a line", line)
		}
	}
	return nil
}

// Groups returns the directories of a container on the resctrl that is
// mounted at root: of its class, and of its monitoring, or "".
func Groups(root, closID, id string, monitoring bool) (class, monitor string) {
	if class = path.Join(root, id); closID != "" {
		class = path.Join(root, closID)
	}
	if monitoring {
		monitor = path.Join(class, "mon_groups", id)
	}
	return class, monitor
}

// Steps are the runtime's steps that put the process of container id into its
// class. One that is given by name alone must be there.
func Steps(r *specs.LinuxIntelRdt, root, id string) []program.Step {
	if r == nil {
		return nil
	}
	const field = "linux.intelRdt"
	class, monitor := Groups(root, r.ClosID, id, r.EnableMonitoring)
	mkdir := func(dir string) program.Step {
		return program.Step{Call: "mkdir", Args: []program.Arg{program.String(dir), program.Octal(0o755)}, Tolerate: []syscall.Errno{syscall.EEXIST}, Why: field}
	}
	join := func(dir string) program.Step {
		return program.Step{Call: "write_pid", Args: []program.Arg{program.String(dir + "/tasks")}, Why: field}
	}
	var lines strings.Builder
	for _, l := range append([]string{r.L3CacheSchema, r.MemBwSchema}, r.Schemata...) {
		if l != "" {
			lines.WriteString(l + "\n")
		}
	}
	var steps []program.Step
	enter := join(class)
	if r.ClosID == "" || lines.Len() > 0 {
		steps = append(steps, mkdir(class))
	} else {
		enter.Say = "linux.intelRdt.closID: join " + class + ", which must be there where no schema is given"
	}
	if text := lines.String(); text != "" {
		steps = append(steps, step.Sayf(program.Step{Call: "write_file", Args: []program.Arg{program.String(class + "/schemata"), program.String(text)}, Why: field}, "write %q to %s/schemata", text, class))
	}
	steps = append(steps, enter)
	if monitor != "" {
		steps = append(steps, mkdir(monitor), join(monitor))
	}
	return steps
}
