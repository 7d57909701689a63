package activity

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	api "github.com/moby/moby/api/types/container"

	"lade/internal/errdefs"
	"lade/internal/linux/cgroup"
)

// period is how often a stream tells.
const period = time.Second

// StatsOptions says how often a container's use is told.
type StatsOptions struct {
	Stream  bool // until the client leaves
	OneShot bool // at once, with nothing to compare with
}

// Stats tells what a container uses. Of one that does not run it tells nothing
// but that it is there.
func (s *Service) Stats(ctx context.Context, ref string, o StatsOptions, tell func(api.StatsResponse) error) error {
	last, err := s.sample(ctx, ref)
	if err != nil {
		return err
	}
	if o.OneShot && !o.Stream {
		return tell(last)
	}
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		if o.Stream {
			if err := tell(last); err != nil {
				return err
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		now, err := s.sample(ctx, last.ID)
		if o.Stream && errdefs.Is(err, errdefs.NotFound) {
			return nil // it was removed
		}
		if err != nil {
			return err
		}
		now.PreRead, now.PreCPUStats = last.Read, last.CPUStats
		if last = now; !o.Stream {
			return tell(now)
		}
	}
}

// sample reads once what a container uses.
func (s *Service) sample(ctx context.Context, ref string) (api.StatsResponse, error) {
	t, err := s.containers.Find(ctx, ref)
	if err != nil {
		return api.StatsResponse{}, err
	}
	r := api.StatsResponse{ID: t.ID, Name: "/" + t.Name, OSType: "linux"}
	g, err := s.group(t)
	if err == nil {
		err = fill(&r, g, t.PID)
	}
	if errdefs.Is(err, errdefs.Conflict) || errors.Is(err, fs.ErrNotExist) { // it does not run, or ended meanwhile
		return api.StatsResponse{ID: r.ID, Name: r.Name, OSType: r.OSType}, nil
	}
	return r, err
}

func fill(r *api.StatsResponse, g cgroup.Group, pid int) error {
	used, err := g.Stats()
	if err != nil {
		return err
	}
	r.Read = time.Now()
	if r.CPUStats.SystemUsage, err = systemTime(); err != nil {
		return err
	}
	r.CPUStats.OnlineCPUs = uint32(runtime.NumCPU())
	r.CPUStats.CPUUsage = api.CPUUsage{TotalUsage: uint64(used.CPU.Usage), UsageInUsermode: uint64(used.CPU.User), UsageInKernelmode: uint64(used.CPU.System)}
	r.CPUStats.ThrottlingData = api.ThrottlingData{Periods: used.CPU.Periods, ThrottledPeriods: used.CPU.Throttled, ThrottledTime: uint64(used.CPU.ThrottledTime)}
	r.MemoryStats = api.MemoryStats{Usage: used.Memory.Usage, MaxUsage: used.Memory.Peak, Limit: used.Memory.Limit, Stats: used.Memory.Detail, Failcnt: used.Memory.OOMKills}
	if total, err := totalMemory(); err == nil && (r.MemoryStats.Limit == 0 || r.MemoryStats.Limit > total) {
		r.MemoryStats.Limit = total
	}
	r.PidsStats = api.PidsStats{Current: used.Pids.Current, Limit: used.Pids.Limit}
	for _, d := range used.IO {
		entry := func(op string, n uint64) api.BlkioStatEntry {
			return api.BlkioStatEntry{Major: d.Major, Minor: d.Minor, Op: op, Value: n}
		}
		b := &r.BlkioStats
		b.IoServiceBytesRecursive = append(b.IoServiceBytesRecursive, entry("read", d.ReadBytes), entry("write", d.WriteBytes))
		b.IoServicedRecursive = append(b.IoServicedRecursive, entry("read", d.ReadNumber), entry("write", d.WriteNumber))
	}
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/dev", pid))
	if err != nil {
		return err
	}
	r.Networks = parseDevices(raw)
	return nil
}

// systemTime returns the time that all processors have spent, in nanoseconds.
func systemTime() (uint64, error) {
	raw, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(raw), "\n")
	f := strings.Fields(line)
	var ticks uint64
	for _, n := range f[min(1, len(f)):min(8, len(f))] { // what guests took is in user's
		v, err := strconv.ParseUint(n, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read /proc/stat: %w", err)
		}
		ticks += v
	}
	const tick = uint64(10 * time.Millisecond)
	return ticks * tick, nil
}

// totalMemory returns the machine's memory in bytes.
func totalMemory() (uint64, error) {
	raw, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	var kb uint64
	_, err = fmt.Sscanf(string(raw), "MemTotal: %d kB", &kb)
	return kb << 10, err
}

// parseDevices reads /proc/net/dev, of which the loopback is left out.
func parseDevices(raw []byte) map[string]api.NetworkStats {
	out := map[string]api.NetworkStats{}
	lines := bufio.NewScanner(bytes.NewReader(raw))
	for lines.Scan() {
		name, rest, ok := strings.Cut(lines.Text(), ":")
		name = strings.TrimSpace(name)
		f := strings.Fields(rest)
		if !ok || name == "lo" || len(f) < 16 {
			continue
		}
		n := func(i int) uint64 {
			v, _ := strconv.ParseUint(f[i], 10, 64) // the kernel writes nothing else
			return v
		}
		out[name] = api.NetworkStats{
			RxBytes: n(0), RxPackets: n(1), RxErrors: n(2), RxDropped: n(3),
			TxBytes: n(8), TxPackets: n(9), TxErrors: n(10), TxDropped: n(11),
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}
