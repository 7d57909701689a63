package cgroup

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/devfilter"
)

// Plan is how a container's cgroups come about.
type Plan struct {
	// Group is what there is when the steps are done.
	Group Group `json:"group"`
	// Steps are to be done in order, before a process joins the group.
	Steps []Step `json:"steps"`
	// Unit, unless it is nil, is to be started before the steps, and with it
	// the process that is to be in the group.
	Unit *Unit `json:"unit,omitempty"`
}

// planner collects the steps of a plan.
type planner struct {
	layout Layout
	group  Group
	steps  []Step
	update bool // the cgroups hold older limits, and processes
}

// Plan derives the cgroups of container id.
//
// An absolute cgroupsPath counts from the root of each hierarchy. A relative
// one counts from this process's own cgroup; on a machine with v2 only, from
// the cgroup above that one, since a v2 cgroup with processes in it cannot
// hand out controllers. An empty one is the container's id, relative. These
// are runc's rules.
//
// Errors about resources are of class Invalid, or NotImplemented where the
// machine has no controller for one.
func (l Layout) Plan(cgroupsPath, id string, r *specs.LinuxResources) (Plan, error) {
	inner := cleanInner(cgroupsPath)
	if strings.Trim(inner, "/") == "" {
		inner = cleanInner(filepath.Base(filepath.Join("/", id)))
	}
	if strings.Trim(inner, "/") == "" {
		return Plan{}, errdefs.New(errdefs.Invalid, "cgroups path %q for container %q names no cgroup", cgroupsPath, id)
	}
	if r == nil {
		r = &specs.LinuxResources{}
	}
	p := planner{layout: l}
	for _, h := range l.Hierarchies {
		if !l.idle(h, inner, r) {
			p.directories(h, inner, r)
		}
	}
	if err := p.resources(r); err != nil {
		return Plan{}, err
	}
	return Plan{Group: p.group, Steps: p.steps}, nil
}

// idle reports whether a hierarchy can be left alone, which spares a container
// making a cgroup there, moving to it and removing it. It can, where nothing
// is asked of its controllers and there is no cgroup above the container's own
// whose limits it would escape, nor one whose owner keeps count of what is in.
func (l Layout) idle(h Hierarchy, inner string, r *specs.LinuxResources) bool {
	atRoot := strings.Trim(h.Own, "/") == ""
	switch {
	case h.V2, strings.Contains(strings.Trim(inner, "/"), "/"):
		return false
	case len(h.Controllers) == 0:
		return atRoot // a named hierarchy in which nobody left the root is nobody's
	case !filepath.IsAbs(inner) && !atRoot:
		return false
	}
	return !slices.ContainsFunc(h.Controllers, func(c string) bool {
		switch c {
		case "perf_event", "misc", "debug":
			return false
		case "net_cls":
			return r.Network != nil && r.Network.ClassID != nil
		case "net_prio":
			return r.Network != nil && len(r.Network.Priorities) > 0
		case "hugetlb":
			return len(r.HugepageLimits) > 0
		case "rdma":
			return len(r.Rdma) > 0
		case "freezer":
			return l.v2() < 0 // v2 freezes, and better
		}
		return true
	})
}

// cleanInner makes a path safe to join: no "..", no way up.
func cleanInner(path string) string {
	if path == "" {
		return ""
	}
	clean := filepath.Clean("/" + path)
	if filepath.IsAbs(path) {
		return clean
	}
	return clean[1:]
}

// Update derives the writes that change the resources of a running group.
func (l Layout) Update(g Group, r *specs.LinuxResources) ([]Step, error) {
	p := planner{layout: l, group: g, update: true}
	if err := p.resources(r); err != nil {
		return nil, err
	}
	return p.steps, nil
}

func (p *planner) add(s Step) { p.steps = append(p.steps, s) }

// directories plans the container's directory in one hierarchy, and those
// above it that may be missing.
func (p *planner) directories(h Hierarchy, inner string, r *specs.LinuxResources) {
	base := h.Mount
	if !filepath.IsAbs(inner) {
		if base = h.ownDir(); p.layout.Unified() && base != h.Mount {
			base = filepath.Dir(base)
		}
	}
	dir := base
	names := strings.Split(strings.Trim(inner, "/"), "/")
	for i, name := range names {
		// Controllers are handed down from each cgroup above. On a hybrid
		// machine v2 has hardly any, and only a limit calls for them.
		if h.V2 && len(h.Controllers) > 0 && (p.layout.Unified() || len(r.HugepageLimits)+len(r.Unified) > 0) {
			p.add(Step{
				Op: Enable, Path: dir + "/cgroup.subtree_control", Value: "+" + strings.Join(h.Controllers, " +"),
				Why: "linux.cgroupsPath: controllers for the cgroups below",
			})
		}
		dir = filepath.Join(dir, name)
		why := "linux.cgroupsPath"
		if i < len(names)-1 {
			why += ": the way to the container's cgroup"
		}
		p.add(Step{Op: Mkdir, Path: dir, Why: why})
		if !slices.Contains(h.Controllers, "cpuset") || h.V2 {
			continue
		}
		for _, f := range []string{"cpus", "mems"} {
			p.add(Step{
				Op: Inherit, Path: cpusetFile(dir, f, h.NoPrefix),
				Why: "a v1 cpuset begins empty, and nothing can run in it",
			})
		}
	}
	p.group.Dirs = append(p.group.Dirs, Dir{Path: dir, V2: h.V2, Controllers: h.Controllers})
}

func cpusetFile(dir, name string, noPrefix bool) string {
	if noPrefix {
		return dir + "/" + name
	}
	return dir + "/cpuset." + name
}

// target is the directory in which a controller's files are.
type target struct {
	p   *planner
	dir Dir
	// field prefixes the reasons: "linux.resources.cpu".
	field string
}

// target finds the controller, by any of its names. Where there is none and
// something is asked of it, that is an error.
func (p *planner) target(field string, asked bool, controllers ...string) (*target, error) {
	if !asked {
		return nil, nil
	}
	i := slices.IndexFunc(p.group.Dirs, func(d Dir) bool {
		return slices.ContainsFunc(controllers, func(c string) bool { return slices.Contains(d.Controllers, c) })
	})
	if i < 0 {
		if p.update && p.layout.find(controllers...) >= 0 {
			return nil, errdefs.New(errdefs.Conflict, "cgroup limit %s: the container was started without a cgroup of the controller %s", field, controllers[0])
		}
		return nil, errdefs.Hint(
			errdefs.New(errdefs.NotImplemented, "cgroup limit %s: no mounted cgroup hierarchy has the controller %s", field, controllers[0]),
			"leave the limit away, or start the kernel with the controller")
	}
	return &target{p: p, dir: p.group.Dirs[i], field: field}, nil
}

// write plans one write; why is the field below the target's, or "".
func (t *target) write(file, value, why string, tolerate ...unix.Errno) {
	t.p.add(t.step(file, value, why, tolerate...))
}

func (t *target) step(file, value, why string, tolerate ...unix.Errno) Step {
	if why != "" {
		why = "." + why
	}
	return Step{Op: Write, Path: t.dir.Path + "/" + file, Value: value, Why: t.field + why, Tolerate: tolerate}
}

// resources plans the limits, controller by controller.
func (p *planner) resources(r *specs.LinuxResources) error {
	if r == nil {
		return nil
	}
	for _, f := range []func(*specs.LinuxResources) error{
		p.devices, p.cpu, p.cpuset, p.memory, p.pids, p.blockIO, p.hugepages, p.network, p.rdma, p.unified,
	} {
		if err := f(r); err != nil {
			return err
		}
	}
	return nil
}

// devices plans who may use which device. On creation this is never left out:
// without a rule, everything but the base devices is denied.
func (p *planner) devices(r *specs.LinuxResources) error {
	if p.update && r.Devices == nil {
		return nil
	}
	policy, err := devfilter.Parse(slices.Concat(r.Devices, devfilter.Base()))
	if err != nil {
		return err
	}
	const why = "linux.resources.devices"
	if i := slices.IndexFunc(p.group.Dirs, func(d Dir) bool { return slices.Contains(d.Controllers, "devices") }); i >= 0 {
		lines, err := policy.V1()
		if err != nil {
			return err
		}
		for _, l := range lines {
			p.add(Step{Op: Write, Path: p.group.Dirs[i].Path + "/" + l.File, Value: l.Value, Why: why})
		}
		return nil
	}
	i := slices.IndexFunc(p.group.Dirs, func(d Dir) bool { return d.V2 })
	switch {
	case policy.Default && len(policy.Rules) == 0 && !p.update:
		return nil
	case i < 0:
		return errdefs.Hint(errdefs.New(errdefs.NotImplemented, "%s: there is neither a v1 devices hierarchy nor cgroup v2", why),
			"mount one: mount -t cgroup -o devices none /sys/fs/cgroup/devices")
	}
	p.add(Step{Op: Filter, Path: p.group.Dirs[i].Path, Value: policy.String(), Why: why, policy: policy})
	return nil
}
