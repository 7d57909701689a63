package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"strconv"
	"strings"
)

// Detail is everything that a group's hierarchies count.
type Detail struct {
	Stats
	// PerCPU is nanoseconds on each processor; v1 alone knows.
	PerCPU []uint64
	// The pressure on each resource; v2 alone knows, and not every kernel.
	CPUPressure, MemoryPressure, IOPressure *Pressure
	CPUSet                                  CPUSet
	// Total is memory, Sum memory and swap, as on v1; the kernel's own memory
	// and its buffers of TCP are told apart by v1 alone.
	Total, Sum, Kernel, KernelTCP Counter
	// Cache is memory that holds parts of files.
	Cache uint64
	// Transfers are the bytes and the number of transfers, by operation.
	Bytes, Transfers []Transfer
	// HugePages are counted by size: "2MB".
	HugePages map[string]Counter
}

// Counter is the use of something that can be limited.
type Counter struct{ Limit, Usage, Max, Failures uint64 }

// Transfer is traffic with one device.
type Transfer struct {
	Major, Minor uint64
	Op           string
	Value        uint64
}

// CPUSet is where the processes may run.
type CPUSet struct {
	CPUs, Mems []uint16
	// Flags are the numbers of v1 by file: "cpu_exclusive".
	Flags map[string]int64
}

// Pressure is how long processes were held up: some of them, or all.
type Pressure struct{ Some, Full Stall }

// Stall is the share of time, in percent, over 10, 60 and 300 seconds, and the
// microseconds since the cgroup began.
type Stall struct {
	Avg10, Avg60, Avg300 float64
	Total                uint64
}

// Detail reads all that is counted of the group.
func (g Group) Detail() (Detail, error) {
	var d Detail
	var err error
	if d.Stats, err = g.Stats(); err != nil {
		return d, err
	}
	for _, read := range []func(*Detail) error{g.perCPU, g.cpusetDetail, g.memoryDetail, g.ioDetail, g.hugePages, g.pressures} {
		if err := read(&d); err != nil {
			return d, fmt.Errorf("read cgroup statistics: %w", err)
		}
	}
	return d, nil
}

func (g Group) perCPU(d *Detail) error {
	c, ok := g.controller("cpuacct")
	if !ok {
		return nil
	}
	b, err := readFile(c.Path + "/cpuacct.usage_percpu")
	for f := range strings.FieldsSeq(string(b)) {
		n, err := strconv.ParseUint(f, 10, 64)
		if err != nil {
			return err
		}
		d.PerCPU = append(d.PerCPU, n)
	}
	return gone(err)
}

// cpusetFlags are the files of a v1 cpuset that hold a number.
func cpusetFlags() []string {
	return []string{
		"cpu_exclusive", "mem_hardwall", "mem_exclusive", "memory_migrate", "memory_spread_page", "memory_spread_slab",
		"memory_pressure", "sched_load_balance", "sched_relax_domain_level",
	}
}

func (g Group) cpusetDetail(d *Detail) error {
	c, ok := g.controller("cpuset")
	if !ok {
		return nil
	}
	suffix := ""
	if c.V2 {
		suffix = ".effective"
	}
	for file, to := range map[string]*[]uint16{"cpus": &d.CPUSet.CPUs, "mems": &d.CPUSet.Mems} {
		b, err := readFile(c.Path + "/cpuset." + file + suffix)
		if err != nil {
			return gone(err)
		}
		if *to, err = parseList(strings.TrimSpace(string(b))); err != nil {
			return err
		}
	}
	if c.V2 {
		return nil
	}
	d.CPUSet.Flags = map[string]int64{}
	for _, f := range cpusetFlags() {
		b, err := readFile(c.Path + "/cpuset." + f)
		if err != nil {
			continue
		}
		if n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil {
			d.CPUSet.Flags[f] = n
		}
	}
	return nil
}

// parseList reads a list such as "0-3,7".
func parseList(text string) ([]uint16, error) {
	var out []uint16
	for part := range strings.SplitSeq(text, ",") {
		if part == "" {
			continue
		}
		low, high, isRange := strings.Cut(part, "-")
		if !isRange {
			high = low
		}
		from, err := strconv.ParseUint(low, 10, 16)
		to, err2 := strconv.ParseUint(high, 10, 16)
		if err != nil || err2 != nil || from > to {
			return nil, fmt.Errorf("%q is not a list of numbers", text)
		}
		for n := from; n <= to; n++ {
			out = append(out, uint16(n))
		}
	}
	return out, nil
}

func (g Group) memoryDetail(d *Detail) error {
	c, ok := g.controller("memory")
	if !ok {
		return nil
	}
	if c.V2 {
		d.Cache = d.Memory.Detail["file"]
		d.Total = Counter{Limit: d.Memory.Limit, Usage: d.Memory.Usage, Max: d.Memory.Peak}
		limit, err := readNumber(c.Path + "/memory.swap.max")
		d.Sum = Counter{Limit: limit, Usage: d.Memory.Usage + d.Memory.Swap}
		if limit != NoLimit && d.Memory.Limit != NoLimit {
			d.Sum.Limit += d.Memory.Limit
		}
		return err
	}
	d.Cache = d.Memory.Detail["cache"]
	return errors.Join(
		readCounter(c.Path+"/memory.", "", &d.Total), readCounter(c.Path+"/memory.memsw.", "", &d.Sum),
		readCounter(c.Path+"/memory.kmem.", "", &d.Kernel), readCounter(c.Path+"/memory.kmem.tcp.", "", &d.KernelTCP),
	)
}

// readCounter reads the four files that v1 has for anything that is limited.
func readCounter(prefix, infix string, to *Counter) error {
	var errs []error
	for file, n := range map[string]*uint64{
		"limit_in_bytes": &to.Limit, "usage_in_bytes": &to.Usage, "max_usage_in_bytes": &to.Max, "failcnt": &to.Failures,
	} {
		v, err := readNumber(prefix + infix + file)
		*n = v
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (g Group) ioDetail(d *Detail) error {
	c, ok := g.controller("io", "blkio")
	if !ok {
		return nil
	}
	if c.V2 {
		for _, s := range d.IO {
			d.Bytes = append(d.Bytes, Transfer{s.Major, s.Minor, "Read", s.ReadBytes}, Transfer{s.Major, s.Minor, "Write", s.WriteBytes})
			d.Transfers = append(d.Transfers, Transfer{s.Major, s.Minor, "Read", s.ReadNumber}, Transfer{s.Major, s.Minor, "Write", s.WriteNumber})
		}
		return nil
	}
	for file, to := range map[string]*[]Transfer{"io_service_bytes_recursive": &d.Bytes, "io_serviced_recursive": &d.Transfers} {
		b, err := readFile(c.Path + "/blkio.throttle." + file)
		if err != nil {
			return gone(err)
		}
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line)
			if len(f) != 3 {
				continue // the total
			}
			t := Transfer{Op: f[1]}
			t.Major, t.Minor = parseDevice(f[0])
			if t.Value, err = strconv.ParseUint(f[2], 10, 64); err == nil {
				*to = append(*to, t)
			}
		}
	}
	return nil
}

func (g Group) hugePages(d *Detail) error {
	c, ok := g.controller("hugetlb")
	if !ok {
		return nil
	}
	entries, err := os.ReadDir(c.Path)
	if err != nil {
		return gone(err)
	}
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), "hugetlb.")
		size, file, _ := strings.Cut(rest, ".")
		if !ok || file != "limit_in_bytes" && file != "max" {
			continue
		}
		var n Counter
		if c.V2 {
			n.Usage, err = readNumber(c.Path + "/hugetlb." + size + ".current")
			if events, err := readMap(c.Path + "/hugetlb." + size + ".events"); err == nil {
				n.Failures = events["max"]
			}
		} else {
			err = readCounter(c.Path+"/hugetlb.", size+".", &n)
		}
		if err != nil {
			return gone(err)
		}
		if d.HugePages == nil {
			d.HugePages = map[string]Counter{}
		}
		d.HugePages[size] = n
	}
	return nil
}

func (g Group) pressures(d *Detail) error {
	dir := g.Unified()
	if dir == "" {
		return nil
	}
	for file, to := range map[string]**Pressure{"cpu": &d.CPUPressure, "memory": &d.MemoryPressure, "io": &d.IOPressure} {
		b, err := readFile(dir + "/" + file + ".pressure")
		if err != nil {
			continue // a kernel without it, or one where it is off
		}
		if p, err := parsePressure(string(b)); err == nil {
			*to = p
		}
	}
	return nil
}

// parsePressure reads lines such as "some avg10=0.00 avg60=1.25 avg300=0.30 total=17".
func parsePressure(text string) (*Pressure, error) {
	p := &Pressure{}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 5 {
			return nil, fs.ErrInvalid
		}
		s := &p.Some
		if f[0] == "full" {
			s = &p.Full
		}
		for _, pair := range f[1:] {
			key, value, _ := strings.Cut(pair, "=")
			n, err := strconv.ParseFloat(value, 64)
			if err != nil || math.IsNaN(n) {
				return nil, fs.ErrInvalid
			}
			switch key {
			case "avg10":
				s.Avg10 = n
			case "avg60":
				s.Avg60 = n
			case "avg300":
				s.Avg300 = n
			case "total":
				s.Total, err = strconv.ParseUint(value, 10, 64)
				if err != nil {
					return nil, fs.ErrInvalid
				}
			}
		}
	}
	return p, nil
}
