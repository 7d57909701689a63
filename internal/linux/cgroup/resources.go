package cgroup

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
)

// value returns what p points to, or 0, which in a configuration means unset.
func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

func itoa[T ~int64 | ~uint64 | ~uint16 | ~uint32](n T) string {
	if n < 0 {
		return strconv.FormatInt(int64(n), 10)
	}
	return strconv.FormatUint(uint64(n), 10)
}

// maxOr returns a limit as v2 has it, where -1 means none.
func maxOr(n int64) string {
	if n < 0 {
		return "max"
	}
	return itoa(n)
}

// The range of cpu.shares; outside of it the kernel silently takes an end.
const minShares, maxShares = 2, 262144

func (p *planner) cpu(r *specs.LinuxResources) error {
	c := value(r.CPU)
	asked := value(c.Shares) != 0 || value(c.Quota) != 0 || c.Burst != nil || value(c.Period) != 0 || c.Idle != nil
	t, err := p.target("linux.resources.cpu", asked, "cpu")
	if err != nil {
		return err
	}
	switch shares := value(c.Shares); {
	case shares == 0:
	case shares < minShares:
		return errdefs.New(errdefs.Invalid, "linux.resources.cpu.shares is %d: the minimum allowed cpu-shares is %d", shares, minShares)
	case shares > maxShares:
		return errdefs.New(errdefs.Invalid, "linux.resources.cpu.shares is %d: the maximum allowed cpu-shares is %d", shares, maxShares)
	}
	switch {
	case t == nil:
	case t.dir.V2:
		t.cpuV2(c)
	default:
		t.cpuV1(c)
	}
	return p.realtime(c)
}

func (t *target) cpuV1(c specs.LinuxCPU) {
	if n := value(c.Shares); n != 0 {
		t.write("cpu.shares", itoa(n), "shares")
	}
	period := func(tolerate ...unix.Errno) {
		if n := value(c.Period); n != 0 {
			t.write("cpu.cfs_period_us", itoa(n), "period", tolerate...)
		}
	}
	quota := value(c.Quota)
	// The kernel refuses what is out of proportion to the quota of before. So
	// while there may be one, the period is tried on both sides of the quota.
	if t.p.update && quota != 0 {
		period(unix.EINVAL)
	}
	if !t.p.update || quota == 0 {
		period()
	}
	if quota != 0 {
		if t.p.update && c.Burst != nil {
			t.write("cpu.cfs_burst_us", "0", "burst: none while the quota changes", unix.ENOENT)
		}
		t.write("cpu.cfs_quota_us", itoa(quota), "quota")
		if t.p.update {
			period()
		}
	}
	if c.Burst != nil {
		t.write("cpu.cfs_burst_us", itoa(*c.Burst), "burst", unix.ENOENT)
	}
	if c.Idle != nil {
		t.write("cpu.idle", itoa(*c.Idle), "idle")
	}
}

func (t *target) cpuV2(c specs.LinuxCPU) {
	if c.Idle != nil {
		t.write("cpu.idle", itoa(*c.Idle), "idle")
	}
	if n := value(c.Shares); n != 0 {
		t.write("cpu.weight", itoa(weight(n)), "shares")
	}
	quota, period := value(c.Quota), value(c.Period)
	if quota != 0 || period != 0 {
		if quota == 0 {
			quota = -1
		}
		if t.p.update && c.Burst != nil {
			t.write("cpu.max.burst", "0", "burst: none while the quota changes", unix.ENOENT)
		}
		// The kernel's own default period is 100 ms.
		t.write("cpu.max", maxOr(quota)+" "+itoa(cmp.Or(period, 100_000)), "quota")
	}
	if c.Burst != nil {
		t.write("cpu.max.burst", itoa(*c.Burst), "burst", unix.ENOENT)
	}
}

// weight turns cpu.shares of v1 (2 to 262144, 1024 by default) into cpu.weight
// of v2 (1 to 10000, 100 by default). The curve is the one that runc, crun and
// systemd agreed on: it hits the ends and the defaults.
func weight(shares uint64) uint64 {
	switch {
	case shares <= minShares:
		return 1
	case shares >= maxShares:
		return 10000
	}
	l := math.Log2(float64(shares))
	return uint64(math.Ceil(math.Pow(10, (l*l+125*l)/612-7.0/34)))
}

// realtime plans the time for real-time tasks, which v1 alone knows and which
// must be there before such a task joins.
func (p *planner) realtime(c specs.LinuxCPU) error {
	runtime, period := value(c.RealtimeRuntime), value(c.RealtimePeriod)
	t, err := p.target("linux.resources.cpu", runtime != 0 || period != 0, "cpu")
	if t == nil || t.dir.V2 {
		return err // cgroup v2 has no such limit: ignored, as the specification lets it
	}
	if period != 0 {
		var tolerate []unix.Errno
		if runtime != 0 {
			tolerate = []unix.Errno{unix.EINVAL} // out of proportion to the old runtime; tried again
		}
		t.write("cpu.rt_period_us", itoa(period), "realtimePeriod", tolerate...)
	}
	if runtime != 0 {
		t.write("cpu.rt_runtime_us", itoa(runtime), "realtimeRuntime")
		if period != 0 {
			t.write("cpu.rt_period_us", itoa(period), "realtimePeriod")
		}
	}
	return nil
}

func (p *planner) cpuset(r *specs.LinuxResources) error {
	c := value(r.CPU)
	t, err := p.target("linux.resources.cpu", c.Cpus != "" || c.Mems != "", "cpuset")
	if t == nil {
		return err
	}
	noPrefix := false
	if i := p.layout.find("cpuset"); i >= 0 {
		noPrefix = p.layout.Hierarchies[i].NoPrefix
	}
	for _, f := range []struct{ name, list string }{{"cpus", c.Cpus}, {"mems", c.Mems}} {
		if f.list != "" {
			p.add(Step{Op: Write, Path: cpusetFile(t.dir.Path, f.name, noPrefix), Value: f.list, Why: t.field + "." + f.name})
		}
	}
	return nil
}

func (p *planner) memory(r *specs.LinuxResources) error {
	m := value(r.Memory)
	limit, swap, low := value(m.Limit), value(m.Swap), value(m.Reservation)
	// -1 for swappiness comes as a very large number from programs that keep
	// it as a signed one; it means unset.
	swappiness := m.Swappiness != nil && *m.Swappiness != math.MaxUint64
	asked := limit != 0 || swap != 0 || low != 0 || swappiness || value(m.DisableOOMKiller)
	t, err := p.target("linux.resources.memory", asked, "memory")
	if t == nil {
		return err
	}
	if swappiness && *m.Swappiness > 100 {
		return errdefs.New(errdefs.Invalid, "linux.resources.memory.swappiness is %d: the range is 0 to 100", *m.Swappiness)
	}
	if t.dir.V2 {
		if value(m.CheckBeforeUpdate) {
			t.checkMemory(limit, swap)
		}
		return t.memoryV2(limit, swap, low)
	}
	t.memoryV1(limit, swap)
	if low != 0 {
		t.write("memory.soft_limit_in_bytes", itoa(low), "reservation")
	}
	if value(m.DisableOOMKiller) {
		t.write("memory.oom_control", "1", "disableOOMKiller")
	}
	if swappiness {
		t.write("memory.swappiness", itoa(*m.Swappiness), "swappiness")
	}
	return nil
}

// memoryV1 plans the limit of memory and that of memory and swap together,
// which may never be the smaller one.
func (t *target) memoryV1(limit, swap int64) {
	const file, both = "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"
	switch {
	case limit == -1 && swap == 0:
		t.write(both, "-1", "limit: none, so none for swap", unix.ENOENT)
		t.write(file, "-1", "limit")
	case t.p.update && limit != 0 && swap != 0:
		// Up, the sum goes first; down, it goes last.
		t.write(file, itoa(limit), "limit: tried before swap", unix.EINVAL)
		t.write(both, itoa(swap), "swap")
		t.write(file, itoa(limit), "limit")
	default:
		if limit != 0 {
			t.write(file, itoa(limit), "limit")
		}
		if swap != 0 {
			t.write(both, itoa(swap), "swap")
		}
	}
}

// checkMemory plans looks at what is used now, before limits below that would
// have processes killed. v1 refuses such limits by itself.
func (t *target) checkMemory(limit, swap int64) {
	if limit > 0 {
		s := t.step("memory.current", itoa(limit), "checkBeforeUpdate: rejecting memory limit below what is used")
		s.Op = AtMost
		t.p.add(s)
	}
	if swap > 0 && swap >= limit {
		s := t.step("memory.swap.current", itoa(swap-limit), "checkBeforeUpdate: rejecting memory+swap limit below what is used", unix.ENOENT)
		s.Op = AtMost
		t.p.add(s)
	}
}

// memoryV2 plans the limits; v2 counts swap by itself, without memory.
func (t *target) memoryV2(limit, swap, low int64) error {
	switch {
	case swap == 0 && limit == -1:
		t.write("memory.swap.max", "max", "limit: none, so none for swap", unix.ENOENT)
	case swap == 0:
	case swap == -1:
		// A kernel without swap accounting has no limit to lift.
		t.write("memory.swap.max", "max", "swap", unix.ENOENT)
	case limit == -1:
		t.write("memory.swap.max", itoa(swap), "swap")
	case limit == 0:
		return errdefs.New(errdefs.Invalid, "linux.resources.memory.swap is %d, but there is no limit for memory to tell swap from", swap)
	case swap < limit:
		return errdefs.New(errdefs.Invalid, "linux.resources.memory.swap (memory and swap) is %d, less than the limit of memory, %d", swap, limit)
	case swap == limit:
		t.write("memory.swap.max", "0", "swap", unix.ENOENT)
	default:
		t.write("memory.swap.max", itoa(swap-limit), "swap")
	}
	if limit != 0 {
		t.write("memory.max", maxOr(limit), "limit")
	}
	if low != 0 {
		t.write("memory.low", maxOr(low), "reservation")
	}
	return nil
}

func (p *planner) pids(r *specs.LinuxResources) error {
	if r.Pids == nil || r.Pids.Limit == nil {
		return nil
	}
	limit := *r.Pids.Limit
	// No limit needs no controller.
	if limit < 0 && p.layout.find("pids") < 0 {
		return nil
	}
	t, err := p.target("linux.resources.pids", true, "pids")
	if err != nil {
		return err
	}
	if limit == 0 {
		limit = 1 // as runc, since systemd knows no 0; to fork is refused either way
	}
	t.write("pids.max", maxOr(limit), "limit")
	return nil
}

func (p *planner) blockIO(r *specs.LinuxResources) error {
	b := value(r.BlockIO)
	asked := value(b.Weight) != 0 || value(b.LeafWeight) != 0 || len(b.WeightDevice)+len(b.ThrottleReadBpsDevice)+
		len(b.ThrottleWriteBpsDevice)+len(b.ThrottleReadIOPSDevice)+len(b.ThrottleWriteIOPSDevice) > 0
	t, err := p.target("linux.resources.blockIO", asked, "io", "blkio")
	if t == nil {
		return err
	}
	if w := value(b.Weight); w != 0 && (w < 10 || w > 1000) {
		return errdefs.New(errdefs.Invalid, "linux.resources.blockIO.weight is %d: the range is 10 to 1000", w)
	}
	t.ioWeights(b)
	for _, l := range []struct {
		field, v1, v2 string
		devices       []specs.LinuxThrottleDevice
	}{
		{"throttleReadBpsDevice", "read_bps", "rbps", b.ThrottleReadBpsDevice},
		{"throttleWriteBpsDevice", "write_bps", "wbps", b.ThrottleWriteBpsDevice},
		{"throttleReadIOPSDevice", "read_iops", "riops", b.ThrottleReadIOPSDevice},
		{"throttleWriteIOPSDevice", "write_iops", "wiops", b.ThrottleWriteIOPSDevice},
	} {
		for _, d := range l.devices {
			device := itoa(d.Major) + ":" + itoa(d.Minor) + " "
			if t.dir.V2 {
				t.write("io.max", device+l.v2+"="+itoa(d.Rate), l.field)
			} else {
				t.write("blkio.throttle."+l.v1+"_device", device+itoa(d.Rate), l.field)
			}
		}
	}
	return nil
}

// ioWeights plans the shares of bandwidth, which the scheduler BFQ hands out
// where the kernel has it, and otherwise CFQ (v1, before 5.0) or iocost (v2).
func (t *target) ioWeights(b specs.LinuxBlockIO) {
	or := func(s, other Step) {
		s.Else = &other
		t.p.add(s)
	}
	bfq, old, oldDevice := "blkio.bfq.weight", "blkio.weight", "blkio.weight_device"
	if t.dir.V2 {
		bfq = "io.bfq.weight"
	}
	if w := value(b.Weight); w != 0 {
		if t.dir.V2 {
			// From 10..1000 to 1..10000, by a straight line.
			or(t.step(bfq, itoa(w), "weight"), t.step("io.weight", itoa(1+(uint64(w)-10)*9999/990), "weight"))
		} else {
			or(t.step(bfq, itoa(w), "weight"), t.step(old, itoa(w), "weight"))
		}
	}
	if w := value(b.LeafWeight); w != 0 && !t.dir.V2 {
		t.write("blkio.leaf_weight", itoa(w), "leafWeight")
	}
	for _, d := range b.WeightDevice {
		device := itoa(d.Major) + ":" + itoa(d.Minor) + " "
		if w := value(d.Weight); w != 0 {
			if t.dir.V2 {
				t.write(bfq, device+itoa(w), "weightDevice", unix.ENOENT)
			} else {
				or(t.step("blkio.bfq.weight_device", device+itoa(w), "weightDevice"), t.step(oldDevice, device+itoa(w), "weightDevice"))
			}
		}
		if w := value(d.LeafWeight); w != 0 && !t.dir.V2 {
			t.write("blkio.leaf_weight_device", device+itoa(w), "weightDevice")
		}
	}
}

func (p *planner) hugepages(r *specs.LinuxResources) error {
	t, err := p.target("linux.resources.hugepageLimits", len(r.HugepageLimits) > 0, "hugetlb")
	if t == nil {
		return err
	}
	suffix := ".limit_in_bytes"
	if t.dir.V2 {
		suffix = ".max"
	}
	for _, h := range r.HugepageLimits {
		if h.Pagesize == "" || strings.ContainsAny(h.Pagesize, "/. ") {
			return errdefs.New(errdefs.Invalid, "linux.resources.hugepageLimits: page size %q is not like 2MB", h.Pagesize)
		}
		t.write("hugetlb."+h.Pagesize+suffix, itoa(h.Limit), "")
		// Since 5.7 reservations count as well, which fail early, not by SIGBUS.
		t.write("hugetlb."+h.Pagesize+".rsvd"+suffix, itoa(h.Limit), "", unix.ENOENT)
	}
	return nil
}

func (p *planner) network(r *specs.LinuxResources) error {
	n := value(r.Network)
	t, err := p.target("linux.resources.network.classID", value(n.ClassID) != 0, "net_cls")
	if err != nil {
		return err
	}
	if t != nil {
		t.write("net_cls.classid", itoa(*n.ClassID), "")
	}
	t, err = p.target("linux.resources.network.priorities", len(n.Priorities) > 0, "net_prio")
	if err != nil {
		return err
	}
	for _, i := range n.Priorities {
		if i.Name == "" || strings.ContainsAny(i.Name, " \t\n/") {
			return errdefs.New(errdefs.Invalid, "linux.resources.network.priorities: %q is no name of an interface", i.Name)
		}
		t.write("net_prio.ifpriomap", i.Name+" "+itoa(i.Priority), "")
	}
	return nil
}

func (p *planner) rdma(r *specs.LinuxResources) error {
	t, err := p.target("linux.resources.rdma", len(r.Rdma) > 0, "rdma")
	if t == nil {
		return err
	}
	for _, device := range sortedKeys(r.Rdma) {
		line := device
		if n := r.Rdma[device].HcaHandles; n != nil {
			line += " hca_handle=" + itoa(*n)
		}
		if n := r.Rdma[device].HcaObjects; n != nil {
			line += " hca_object=" + itoa(*n)
		}
		t.write("rdma.max", line, "")
	}
	return nil
}

// unified plans writes to files of v2 by their names, after everything else,
// which they override.
func (p *planner) unified(r *specs.LinuxResources) error {
	if len(r.Unified) == 0 {
		return nil
	}
	i := slices.IndexFunc(p.group.Dirs, func(d Dir) bool { return d.V2 })
	if i < 0 {
		return errdefs.New(errdefs.NotImplemented, "linux.resources.unified: this machine has no cgroup v2")
	}
	t := &target{p: p, dir: p.group.Dirs[i], field: "linux.resources.unified"}
	for _, file := range sortedKeys(r.Unified) {
		controller, _, named := strings.Cut(file, ".")
		switch {
		case strings.ContainsAny(file, "/\x00") || !named:
			return errdefs.New(errdefs.Invalid, "linux.resources.unified: %q is not the name of a cgroup file", file)
		case !p.layout.Unified() && controller != "cgroup" && !slices.Contains(t.dir.Controllers, controller):
			return errdefs.Hint(errdefs.New(errdefs.Invalid, "invalid configuration: linux.resources.unified: %s: this machine has the controller %s, if at all, in cgroup v1", file, controller),
				"use the field of linux.resources for it")
		}
		for line := range strings.Lines(r.Unified[file]) {
			t.write(file, strings.TrimSuffix(line, "\n"), file)
		}
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
