package command

import (
	"time"

	"lade/internal/linux/cgroup"
)

// event is one line of the command events, in the form of runc's, which
// programs parse.
type event struct {
	Type string `json:"type"`
	ID   string `json:"id"`
	Data any    `json:"data,omitempty"`
}

type stats struct {
	CPU     cpuStats             `json:"cpu"`
	CPUSet  cpusetStats          `json:"cpuset"`
	Memory  memoryStats          `json:"memory"`
	Pids    pidsStats            `json:"pids"`
	Blkio   blkioStats           `json:"blkio"`
	Hugetlb map[string]hugeStats `json:"hugetlb"`
	RDT     struct{}             `json:"intel_rdt"`
	// Links are none: who manages the network counts them.
	Links []struct{} `json:"network_interfaces"`
}

type cpuStats struct {
	Usage      cpuUsage   `json:"usage,omitzero"`
	Throttling throttling `json:"throttling,omitzero"`
	PSI        *psi       `json:"psi,omitempty"`
}

type cpuUsage struct {
	Total  time.Duration `json:"total,omitempty"`
	PerCPU []uint64      `json:"percpu,omitempty"`
	Kernel time.Duration `json:"kernel"`
	User   time.Duration `json:"user"`
}

type throttling struct {
	Periods   uint64        `json:"periods,omitempty"`
	Throttled uint64        `json:"throttledPeriods,omitempty"`
	Time      time.Duration `json:"throttledTime,omitempty"`
}

type cpusetStats struct {
	CPUs                  []uint16 `json:"cpus,omitempty"`
	CPUExclusive          int64    `json:"cpu_exclusive"`
	Mems                  []uint16 `json:"mems,omitempty"`
	MemHardwall           int64    `json:"mem_hardwall"`
	MemExclusive          int64    `json:"mem_exclusive"`
	MemoryMigrate         int64    `json:"memory_migrate"`
	MemorySpreadPage      int64    `json:"memory_spread_page"`
	MemorySpreadSlab      int64    `json:"memory_spread_slab"`
	MemoryPressure        int64    `json:"memory_pressure"`
	SchedLoadBalance      int64    `json:"sched_load_balance"`
	SchedRelaxDomainLevel int64    `json:"sched_relax_domain_level"`
}

type memoryStats struct {
	Cache     uint64            `json:"cache,omitempty"`
	Usage     memoryCounter     `json:"usage,omitzero"`
	Swap      memoryCounter     `json:"swap,omitzero"`
	Kernel    memoryCounter     `json:"kernel,omitzero"`
	KernelTCP memoryCounter     `json:"kernelTCP,omitzero"`
	Raw       map[string]uint64 `json:"raw,omitempty"`
	PSI       *psi              `json:"psi,omitempty"`
}

type memoryCounter struct {
	Limit    uint64 `json:"limit"`
	Usage    uint64 `json:"usage,omitempty"`
	Max      uint64 `json:"max,omitempty"`
	Failures uint64 `json:"failcnt"`
}

type hugeStats struct {
	Usage    uint64 `json:"usage,omitempty"`
	Max      uint64 `json:"max,omitempty"`
	Failures uint64 `json:"failcnt"`
}

type pidsStats struct {
	Current uint64 `json:"current,omitempty"`
	Limit   uint64 `json:"limit,omitempty"`
}

type blkioStats struct {
	Bytes     []blkioEntry `json:"ioServiceBytesRecursive,omitempty"`
	Transfers []blkioEntry `json:"ioServicedRecursive,omitempty"`
	PSI       *psi         `json:"psi,omitempty"`
}

type blkioEntry struct {
	Major uint64 `json:"major,omitempty"`
	Minor uint64 `json:"minor,omitempty"`
	Op    string `json:"op,omitempty"`
	Value uint64 `json:"value,omitempty"`
}

type psi struct {
	Some stall `json:"some"`
	Full stall `json:"full"`
}

type stall struct {
	Avg10  float64 `json:"avg10"`
	Avg60  float64 `json:"avg60"`
	Avg300 float64 `json:"avg300"`
	Total  uint64  `json:"total"`
}

// statsOf puts what a group has used into the form of an event.
func statsOf(d cgroup.Detail) stats {
	s := stats{
		CPU: cpuStats{
			Usage:      cpuUsage{d.CPU.Usage, d.PerCPU, d.CPU.System, d.CPU.User},
			Throttling: throttling{d.CPU.Periods, d.CPU.Throttled, d.CPU.ThrottledTime},
			PSI:        psiOf(d.CPUPressure),
		},
		CPUSet: cpusetOf(d.CPUSet),
		Memory: memoryStats{
			Cache: d.Cache, Raw: d.Memory.Detail, PSI: psiOf(d.MemoryPressure),
			Usage: memoryCounter(d.Total), Swap: memoryCounter(d.Sum), Kernel: memoryCounter(d.Kernel), KernelTCP: memoryCounter(d.KernelTCP),
		},
		Pids:    pidsStats{Current: d.Pids.Current},
		Blkio:   blkioStats{blkioOf(d.Bytes), blkioOf(d.Transfers), psiOf(d.IOPressure)},
		Hugetlb: make(map[string]hugeStats, len(d.HugePages)),
	}
	if d.Pids.Limit != cgroup.NoLimit {
		s.Pids.Limit = d.Pids.Limit // 0 is none
	}
	for size, c := range d.HugePages {
		s.Hugetlb[size] = hugeStats{c.Usage, c.Max, c.Failures}
	}
	return s
}

func cpusetOf(c cgroup.CPUSet) cpusetStats {
	f := c.Flags
	return cpusetStats{
		CPUs: c.CPUs, Mems: c.Mems,
		CPUExclusive: f["cpu_exclusive"], MemHardwall: f["mem_hardwall"], MemExclusive: f["mem_exclusive"],
		MemoryMigrate: f["memory_migrate"], MemorySpreadPage: f["memory_spread_page"], MemorySpreadSlab: f["memory_spread_slab"],
		MemoryPressure: f["memory_pressure"], SchedLoadBalance: f["sched_load_balance"], SchedRelaxDomainLevel: f["sched_relax_domain_level"],
	}
}

func blkioOf(list []cgroup.Transfer) []blkioEntry {
	var out []blkioEntry
	for _, t := range list {
		out = append(out, blkioEntry(t))
	}
	return out
}

func psiOf(p *cgroup.Pressure) *psi {
	if p == nil {
		return nil
	}
	return &psi{Some: stall(p.Some), Full: stall(p.Full)}
}
