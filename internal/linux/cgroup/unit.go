package cgroup

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/errdefs"
	"lade/internal/linux/sdbus"
)

// Systemd is what a plan must know of the systemd that is to make the cgroup.
type Systemd struct {
	// Version is its number: 252.
	Version int
	// User is set where it is that of a user, who owns the cgroup Root and may
	// do below it as he likes.
	User bool
	Root string
	// Annotations are the container's: org.systemd.property.NAME sets one.
	Annotations map[string]string
}

// Unit is the unit of systemd that holds a container.
type Unit struct {
	Name       string
	User       bool
	Properties []sdbus.Property
}

// String returns the unit as a line of a listing.
func (u *Unit) String() string {
	words := []string{u.Name}
	for _, p := range u.Properties {
		words = append(words, fmt.Sprintf("%s=%v", p.Name, p.Value))
	}
	return strings.Join(words, " ")
}

// Start makes the unit, with a first process in it.
func (u *Unit) Start(pid int) error {
	c, err := sdbus.Dial(u.User)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Start(u.Name, append(slices.Clone(u.Properties), sdbus.Property{Name: "PIDs", Value: []uint32{uint32(pid)}}))
}

// PlanUnit derives the cgroups of a container that systemd is to make.
//
// cgroupsPath is SLICE:PREFIX:NAME, for a scope PREFIX-NAME.scope in that
// slice, or empty. What systemd has no property for is written to cgroupfs when
// the unit is there; so is everything else, as systemd rounds some values.
func (l Layout) PlanUnit(cgroupsPath, id string, r *specs.LinuxResources, s Systemd) (Plan, error) {
	slice, name, err := unitName(cgroupsPath, id, s.User)
	if err != nil {
		return Plan{}, err
	}
	dir, err := expandSlice(slice)
	if err != nil {
		return Plan{}, err
	}
	switch {
	case s.User && !l.Unified():
		return Plan{}, errdefs.New(errdefs.NotImplemented, "cannot use rootless systemd cgroups manager on cgroup v1")
	case r == nil:
		r = &specs.LinuxResources{}
	}
	unit := &Unit{Name: name, User: s.User}
	unit.add("Description", "container "+id)
	if strings.HasSuffix(name, ".slice") {
		unit.add("Wants", []string{slice})
	} else {
		unit.add("Slice", slice)
		unit.add("Delegate", true)
	}
	io := "IOAccounting"
	if !l.Unified() {
		io = "BlockIOAccounting"
	}
	for _, a := range []string{"MemoryAccounting", "CPUAccounting", io, "TasksAccounting"} {
		unit.add(a, true)
	}
	unit.add("DefaultDependencies", false)
	limits, err := l.UnitProperties(r, s.Version)
	if err != nil {
		return Plan{}, err
	}
	own, err := annotated(s.Annotations)
	if err != nil {
		return Plan{}, err
	}
	unit.Properties = slices.Concat(unit.Properties, limits, own)
	p := planner{layout: l}
	for _, h := range l.Hierarchies {
		p.directories(h, filepath.Join("/", s.Root, dir, name), r)
	}
	if err := p.resources(r); err != nil {
		return Plan{}, err
	}
	p.group.Unit, p.group.User = name, s.User
	return Plan{Group: p.group, Steps: p.steps, Unit: unit}, nil
}

func (u *Unit) add(name string, value any) {
	u.Properties = append(u.Properties, sdbus.Property{Name: name, Value: value})
}

// unitName reads a cgroupsPath of the form that systemd needs.
func unitName(cgroupsPath, id string, user bool) (slice, unit string, err error) {
	slice, prefix, name := "system.slice", "lade", id
	if user {
		slice = "user.slice"
	}
	if cgroupsPath != "" {
		parts := strings.Split(cgroupsPath, ":")
		if len(parts) != 3 || parts[2] == "" || strings.ContainsAny(cgroupsPath, "/\x00") {
			return "", "", errdefs.New(errdefs.Invalid, "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got %q instead", cgroupsPath)
		}
		if parts[0] != "" {
			slice = parts[0]
		}
		prefix, name = parts[1], parts[2]
	}
	switch {
	case strings.HasSuffix(name, ".slice"):
		return slice, name, nil
	case prefix == "":
		return slice, name + ".scope", nil
	}
	return slice, prefix + "-" + name + ".scope", nil
}

// expandSlice returns the folder of a slice: a-b.slice is in a.slice.
func expandSlice(slice string) (string, error) {
	bad := errdefs.New(errdefs.Invalid, "invalid slice name: %s", slice)
	name, ok := strings.CutSuffix(slice, ".slice")
	if !ok || strings.Contains(slice, "/") {
		return "", bad
	}
	if name == "-" {
		return "/", nil
	}
	dir, prefix := "", ""
	for part := range strings.SplitSeq(name, "-") {
		if part == "" {
			return "", bad
		}
		dir += "/" + prefix + part + ".slice"
		prefix += part + "-"
	}
	return dir, nil
}

// The versions of systemd from which on it knows a property.
const (
	sdQuotaPeriod = 242
	sdCPUSet      = 244
	sdIdle        = 252
)

// UnitProperties returns what systemd is to be told of resources, so that it
// does not undo them when it next writes a unit's limits.
func (l Layout) UnitProperties(r *specs.LinuxResources, version int) ([]sdbus.Property, error) {
	u := &Unit{}
	m, c, b := value(r.Memory), value(r.CPU), value(r.BlockIO)
	if err := u.unified(r.Unified, version); err != nil {
		return nil, err
	}
	set := func(name string, n uint64, asked bool) {
		if asked {
			u.add(name, n)
		}
	}
	limit, low := value(m.Limit), value(m.Reservation)
	idle := value(c.Idle) == 1 && version >= sdIdle
	if l.Unified() {
		set("MemoryMax", uint64(limit), limit != 0)
		set("MemoryLow", uint64(low), low != 0)
		swap := value(m.Swap)
		if swap > 0 && limit > 0 {
			swap -= limit
			set("MemorySwapMax", uint64(swap), swap >= 0)
		} else {
			set("MemorySwapMax", math.MaxUint64, swap == -1 || limit == -1 && swap == 0)
		}
		set("CPUWeight", 0, idle)
		set("CPUWeight", weight(value(c.Shares)), value(c.Shares) != 0 && !idle)
	} else {
		set("MemoryLimit", uint64(limit), limit != 0)
		set("CPUShares", value(c.Shares), value(c.Shares) != 0)
		set("BlockIOWeight", uint64(value(b.Weight)), value(b.Weight) != 0)
	}
	u.quota(value(c.Quota), value(c.Period), version)
	if r.Pids != nil && r.Pids.Limit != nil {
		n := *r.Pids.Limit
		if n == 0 {
			n = 1 // systemd knows no 0; to fork is refused either way
		}
		u.add("TasksMax", uint64(max(n, -1))) // -1 is systemd's infinity
	}
	return u.Properties, u.cpuset(c.Cpus, c.Mems, version)
}

// quota tells the time on the CPUs that may be used in each second, which
// systemd keeps in hundredths: it is rounded up.
func (u *Unit) quota(quota int64, period uint64, version int) {
	if period != 0 && version >= sdQuotaPeriod {
		u.add("CPUQuotaPeriodUSec", period)
	}
	if quota == 0 && period == 0 {
		return
	}
	perSecond := uint64(math.MaxUint64)
	if quota > 0 {
		if period == 0 {
			period = 100_000 // the kernel's default
		}
		const percent = 10_000
		perSecond = uint64(quota) * 1_000_000 / period
		perSecond = (perSecond + percent - 1) / percent * percent
	}
	u.add("CPUQuotaPerSecUSec", perSecond)
}

func (u *Unit) cpuset(cpus, mems string, version int) error {
	for _, f := range []struct{ property, list string }{{"AllowedCPUs", cpus}, {"AllowedMemoryNodes", mems}} {
		if f.list == "" || version < sdCPUSet {
			continue
		}
		bits, err := bitmap(f.list)
		if err != nil {
			return errdefs.New(errdefs.Invalid, "linux.resources.cpu: %w", err)
		}
		u.add(f.property, bits)
	}
	return nil
}

// bitmap turns a list such as "0-3,7" into one bit for each, the lowest first.
func bitmap(list string) ([]byte, error) {
	numbers, err := parseList(strings.ReplaceAll(list, " ", ""))
	if err != nil || len(numbers) == 0 {
		return nil, fmt.Errorf("%q is not a list of numbers", list)
	}
	b := make([]byte, slices.Max(numbers)/8+1)
	for _, n := range numbers {
		b[n/8] |= 1 << (n % 8)
	}
	return b, nil
}

// unified tells systemd of those files of v2 that it has a property for.
func (u *Unit) unified(files map[string]string, version int) error {
	names := map[string]string{
		"memory.high": "MemoryHigh", "memory.low": "MemoryLow", "memory.min": "MemoryMin", "memory.max": "MemoryMax",
		"memory.swap.max": "MemorySwapMax", "pids.max": "TasksMax", "cpu.weight": "CPUWeight",
	}
	for _, file := range sortedKeys(files) {
		text := strings.TrimSpace(files[file])
		var err error
		switch property, plain := names[file]; {
		case file == "cpu.weight" && strings.TrimSpace(files["cpu.idle"]) == "1" && version >= sdIdle:
			// What is idle has no weight.
		case plain:
			n := uint64(math.MaxUint64)
			if text != "max" {
				n, err = strconv.ParseUint(text, 10, 64)
			}
			u.add(property, n)
		case file == "cpu.idle" && text == "1" && version >= sdIdle:
			u.add("CPUWeight", uint64(0))
		case file == "cpu.max":
			err = u.cpuMax(text, version)
		case file == "cpuset.cpus":
			err = u.cpuset(text, "", version)
		case file == "cpuset.mems":
			err = u.cpuset("", text, version)
		}
		if err != nil {
			return errdefs.New(errdefs.Invalid, "linux.resources.unified: %s: %w", file, err)
		}
	}
	return nil
}

func (u *Unit) cpuMax(text string, version int) error {
	first, second, both := strings.Cut(text, " ")
	quota, period := int64(-1), uint64(100_000)
	var err error
	if first != "max" {
		quota, err = strconv.ParseInt(first, 10, 64)
	}
	if both && err == nil {
		period, err = strconv.ParseUint(strings.TrimSpace(second), 10, 64)
	}
	u.quota(quota, period, version)
	return err
}

// annotated reads the properties that annotations ask for, whose values are
// written as systemd's own tools write them: 'text', true, 7, uint64 7, ['a'].
func annotated(annotations map[string]string) ([]sdbus.Property, error) {
	var out []sdbus.Property
	for _, key := range sortedKeys(annotations) {
		name, ok := strings.CutPrefix(key, "org.systemd.property.")
		if !ok {
			continue
		}
		if len(name) < 3 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
			return nil, errdefs.New(errdefs.Invalid, "annotation %s: %q is not the name of a property", key, name)
		}
		v, err := sdbus.ParseValue(annotations[key])
		if err != nil {
			return nil, errdefs.New(errdefs.Invalid, "annotation %s=%s: %w", key, annotations[key], err)
		}
		if stem, ok := strings.CutSuffix(name, "Sec"); ok && strings.ToLower(stem[len(stem)-1:]) == stem[len(stem)-1:] {
			if v, ok = sdbus.Microseconds(v); !ok {
				return nil, errdefs.New(errdefs.Invalid, "annotation %s=%s is not a number of seconds", key, annotations[key])
			}
			name = stem + "USec"
		}
		out = append(out, sdbus.Property{Name: name, Value: v})
	}
	return out, nil
}
