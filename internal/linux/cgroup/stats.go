package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strconv"
	"strings"
	"time"
)

// NoLimit is a limit that is not set.
const NoLimit = math.MaxUint64

// Stats is what a group has used. What its hierarchies do not count is 0.
type Stats struct {
	CPU    CPUStats    `json:"cpu"`
	Memory MemoryStats `json:"memory"`
	Pids   PidsStats   `json:"pids"`
	IO     []IOStats   `json:"io,omitempty"`
}

// CPUStats is time on the processors.
type CPUStats struct {
	Usage, User, System time.Duration
	// Periods have passed under a quota; Throttled of them ended early, for
	// ThrottledTime altogether.
	Periods, Throttled uint64
	ThrottledTime      time.Duration
}

// MemoryStats is memory, in bytes.
type MemoryStats struct {
	Usage, Peak, Limit uint64
	// Swap does not count memory, on v1 either.
	Swap uint64
	// Detail is memory.stat.
	Detail map[string]uint64
	// OOMKills counts processes that the kernel ended for want of memory.
	OOMKills uint64
}

// PidsStats is processes and threads.
type PidsStats struct{ Current, Limit uint64 }

// IOStats is the traffic with one block device.
type IOStats struct {
	Major, Minor            uint64
	ReadBytes, WriteBytes   uint64
	ReadNumber, WriteNumber uint64
}

// Stats reads what the group has used so far.
func (g Group) Stats() (Stats, error) {
	var s Stats
	err := errors.Join(g.cpuStats(&s.CPU), g.memoryStats(&s.Memory), g.pidsStats(&s.Pids), g.ioStats(&s))
	if err != nil {
		return Stats{}, fmt.Errorf("read cgroup statistics: %w", err)
	}
	return s, nil
}

// OOMKills returns how many processes of the group the kernel has ended for
// want of memory: a container that was killed is told from one that exited so.
func (g Group) OOMKills() (uint64, error) {
	d, ok := g.controller("memory")
	if !ok {
		return 0, nil
	}
	file := "/memory.oom_control"
	if d.V2 {
		file = "/memory.events"
	}
	m, err := readMap(d.Path + file)
	if err != nil {
		return 0, fmt.Errorf("count out-of-memory kills: %w", err)
	}
	return m["oom_kill"], nil
}

// PeakMemory returns the most memory, in bytes, that the group ever had; 0
// where the kernel does not say (v2 before 5.19).
func (g Group) PeakMemory() (uint64, error) {
	d, ok := g.controller("memory")
	if !ok {
		return 0, nil
	}
	file := "/memory.max_usage_in_bytes"
	if d.V2 {
		file = "/memory.peak"
	}
	n, err := readNumber(d.Path + file)
	if err != nil {
		return 0, fmt.Errorf("read peak memory: %w", err)
	}
	return n, nil
}

func (g Group) cpuStats(s *CPUStats) error {
	const tick = 10 * time.Millisecond // cpuacct.stat counts in USER_HZ, 100 everywhere
	if d, ok := g.controller("cpu"); ok {
		m, err := readMap(d.Path + "/cpu.stat")
		if err != nil {
			return err
		}
		s.Periods, s.Throttled = m["nr_periods"], m["nr_throttled"]
		if d.V2 {
			s.ThrottledTime = time.Duration(m["throttled_usec"]) * time.Microsecond
		} else {
			s.ThrottledTime = time.Duration(m["throttled_time"])
		}
	}
	if d, ok := g.controller("cpuacct"); ok {
		n, err := readNumber(d.Path + "/cpuacct.usage")
		if err != nil {
			return err
		}
		m, err := readMap(d.Path + "/cpuacct.stat")
		if err != nil {
			return err
		}
		s.Usage, s.User, s.System = time.Duration(n), time.Duration(m["user"])*tick, time.Duration(m["system"])*tick
		return nil
	}
	// v2 counts processor time with or without the controller.
	if dir := g.Unified(); dir != "" {
		m, err := readMap(dir + "/cpu.stat")
		if err != nil {
			return gone(err)
		}
		for key, to := range map[string]*time.Duration{"usage_usec": &s.Usage, "user_usec": &s.User, "system_usec": &s.System} {
			*to = time.Duration(m[key]) * time.Microsecond
		}
	}
	return nil
}

func (g Group) memoryStats(s *MemoryStats) error {
	d, ok := g.controller("memory")
	if !ok {
		return nil
	}
	usage, limit, swap := "/memory.usage_in_bytes", "/memory.limit_in_bytes", "/memory.memsw.usage_in_bytes"
	if d.V2 {
		usage, limit, swap = "/memory.current", "/memory.max", "/memory.swap.current"
	}
	var err error
	note := func(n uint64, e error) uint64 {
		err = errors.Join(err, e)
		return n
	}
	s.Usage, s.Limit, s.Swap = note(readNumber(d.Path+usage)), note(readNumber(d.Path+limit)), note(readNumber(d.Path+swap))
	if !d.V2 {
		s.Swap -= min(s.Swap, s.Usage)
		// v1 says "no limit" with the highest number of whole pages.
		if s.Limit > math.MaxInt64-1<<20 {
			s.Limit = NoLimit
		}
	}
	s.Peak, s.OOMKills = note(g.PeakMemory()), note(g.OOMKills())
	m, e := readMap(d.Path + "/memory.stat")
	s.Detail = m
	return errors.Join(err, e)
}

func (g Group) pidsStats(s *PidsStats) error {
	d, ok := g.controller("pids")
	if !ok {
		return nil
	}
	var errs [2]error
	s.Current, errs[0] = readNumber(d.Path + "/pids.current")
	s.Limit, errs[1] = readNumber(d.Path + "/pids.max")
	return errors.Join(errs[:]...)
}

func (g Group) ioStats(s *Stats) error {
	d, ok := g.controller("io", "blkio")
	if !ok {
		return nil
	}
	if d.V2 {
		b, err := readFile(d.Path + "/io.stat")
		s.IO = parseIOStat(string(b))
		return gone(err)
	}
	bytes, err := readFile(d.Path + "/blkio.throttle.io_service_bytes_recursive")
	if err != nil {
		return gone(err)
	}
	count, err := readFile(d.Path + "/blkio.throttle.io_serviced_recursive")
	s.IO = parseBlkio(string(bytes), string(count))
	return gone(err)
}

// parseIOStat reads v2's io.stat: "8:0 rbytes=1 wbytes=2 rios=3 wios=4 …".
func parseIOStat(text string) []IOStats {
	var out []IOStats
	for line := range strings.Lines(text) {
		var s IOStats
		for i, f := range strings.Fields(line) {
			if i == 0 {
				s.Major, s.Minor = parseDevice(f)
				continue
			}
			key, value, _ := strings.Cut(f, "=")
			n, _ := strconv.ParseUint(value, 10, 64)
			switch key {
			case "rbytes":
				s.ReadBytes = n
			case "wbytes":
				s.WriteBytes = n
			case "rios":
				s.ReadNumber = n
			case "wios":
				s.WriteNumber = n
			}
		}
		if s != (IOStats{Major: s.Major, Minor: s.Minor}) {
			out = append(out, s)
		}
	}
	return out
}

// parseBlkio reads v1's two files of lines such as "8:0 Read 4096".
func parseBlkio(bytes, count string) []IOStats {
	var out []IOStats
	at := map[string]int{}
	scan := func(text string, add func(s *IOStats, op string, n uint64)) {
		for line := range strings.Lines(text) {
			f := strings.Fields(line)
			if len(f) != 3 {
				continue // the total
			}
			i, ok := at[f[0]]
			if !ok {
				i = len(out)
				at[f[0]] = i
				out = append(out, IOStats{})
				out[i].Major, out[i].Minor = parseDevice(f[0])
			}
			n, _ := strconv.ParseUint(f[2], 10, 64)
			add(&out[i], f[1], n)
		}
	}
	scan(bytes, func(s *IOStats, op string, n uint64) {
		switch op {
		case "Read":
			s.ReadBytes = n
		case "Write":
			s.WriteBytes = n
		}
	})
	scan(count, func(s *IOStats, op string, n uint64) {
		switch op {
		case "Read":
			s.ReadNumber = n
		case "Write":
			s.WriteNumber = n
		}
	})
	return out
}

func parseDevice(s string) (major, minor uint64) {
	a, b, _ := strings.Cut(s, ":")
	major, _ = strconv.ParseUint(a, 10, 64)
	minor, _ = strconv.ParseUint(b, 10, 64)
	return major, minor
}

// readNumber reads a file that holds one number, or "max". A file that is not
// there reads as 0: not every kernel counts everything.
func readNumber(path string) (uint64, error) {
	b, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	text := strings.TrimSpace(string(b))
	if text == "max" {
		return NoLimit, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", path, err)
	}
	return n, nil
}

// readMap reads a file of lines such as "key 1".
func readMap(path string) (map[string]uint64, error) {
	b, err := readFile(path)
	if err != nil {
		return nil, err
	}
	m := map[string]uint64{}
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if n, err := strconv.ParseUint(value, 10, 64); err == nil {
			m[key] = n
		}
	}
	return m, nil
}
