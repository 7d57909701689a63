package request

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	api "github.com/moby/moby/api/types/container"

	"lade/internal/errdefs"
)

const minMemory = 6 << 20 // below it, the runtime itself cannot start

func checkResources(r *api.Resources, cpus int) error {
	bad := func(format string, a ...any) error { return errdefs.New(errdefs.Invalid, format, a...) }
	switch {
	case r.Memory < 0:
		return bad("invalid memory limit %d", r.Memory)
	case r.Memory > 0 && r.Memory < minMemory:
		return bad("Minimum memory limit allowed is 6MB")
	case r.MemorySwap < -1:
		return bad("invalid memory+swap limit %d", r.MemorySwap)
	case r.Memory > 0 && r.MemorySwap > 0 && r.MemorySwap < r.Memory:
		return bad("Minimum memoryswap limit should be larger than memory limit, see usage")
	case r.Memory == 0 && r.MemorySwap > 0:
		return bad("You should always set the Memory limit when using Memoryswap limit, see usage")
	case r.MemorySwappiness != nil && (*r.MemorySwappiness < -1 || *r.MemorySwappiness > 100):
		return bad("Invalid value: %v, valid memory swappiness range is 0-100", *r.MemorySwappiness)
	case r.MemoryReservation < 0 || r.MemoryReservation > 0 && r.MemoryReservation < minMemory:
		return bad("Minimum memory reservation allowed is 6MB")
	case r.Memory > 0 && r.MemoryReservation > r.Memory:
		return bad("Minimum memory limit can not be less than memory reservation limit, see usage")
	case r.NanoCPUs > 0 && r.CPUPeriod != 0:
		return bad("Conflicting options: Nano CPUs and CPU Period cannot both be set")
	case r.NanoCPUs > 0 && r.CPUQuota != 0:
		return bad("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
	case r.NanoCPUs < 0 || r.NanoCPUs > int64(cpus)*1e9:
		return bad("Range of CPUs is from 0.01 to %d.00, as there are only %d CPUs available", cpus, cpus)
	case r.NanoCPUs > 0 && r.NanoCPUs < 1e7:
		return bad("Range of CPUs is from 0.01 to %d.00, as there are only %d CPUs available", cpus, cpus)
	case r.CPUPeriod != 0 && (r.CPUPeriod < 1000 || r.CPUPeriod > 1000000):
		return bad("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
	case r.CPUQuota > 0 && r.CPUQuota < 1000:
		return bad("CPU cfs quota can not be less than 1ms (i.e. 1000)")
	case r.CPUShares < 0:
		return bad("CPU shares can not be negative")
	case r.BlkioWeight > 0 && (r.BlkioWeight < 10 || r.BlkioWeight > 1000):
		return bad("Range of blkio weight is from 10 to 1000")
	case r.PidsLimit != nil && *r.PidsLimit < -1:
		return bad("invalid PIDs limit %d", *r.PidsLimit)
	}
	return checkCpuset(r, cpus)
}

func checkCpuset(r *api.Resources, cpus int) error {
	for what, s := range map[string]string{"cpus": r.CpusetCpus, "mems": r.CpusetMems} {
		top, err := lastOfRange(s)
		if err != nil {
			return errdefs.New(errdefs.Invalid, "Invalid value %s for cpuset %s", s, what)
		}
		if what == "cpus" && top >= cpus {
			return errdefs.New(errdefs.Invalid, "Requested CPUs are not available - requested %s, available: 0-%d", s, cpus-1)
		}
	}
	return nil
}

// lastOfRange checks a list such as "0-2,7" and returns its highest number.
func lastOfRange(s string) (int, error) {
	top := -1
	if s == "" {
		return top, nil
	}
	for f := range strings.SplitSeq(s, ",") {
		a, b, dash := strings.Cut(f, "-")
		lo, err := strconv.ParseUint(a, 10, 16)
		hi := lo
		if err == nil && dash {
			hi, err = strconv.ParseUint(b, 10, 16)
		}
		if err != nil || hi < lo {
			return 0, fmt.Errorf("bad range %q", f)
		}
		top = max(top, int(hi))
	}
	return top, nil
}

// Ulimit names, without the RLIMIT_ prefix and in lower case.
func ulimitNames() []string {
	return []string{
		"as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile",
		"nproc", "rss", "rtprio", "rttime", "sigpending", "stack",
	}
}

func checkUlimits(_ *api.Config, h *api.HostConfig) error {
	if h.OomScoreAdj < -1000 || h.OomScoreAdj > 1000 {
		return errdefs.New(errdefs.Invalid, "Invalid value %d, range for oom score adj is [-1000, 1000]", h.OomScoreAdj)
	}
	if h.ShmSize < 0 {
		return errdefs.New(errdefs.Invalid, "SHM size can not be less than 0")
	}
	seen := map[string]bool{}
	for _, u := range h.Ulimits {
		switch {
		case u == nil || !slices.Contains(ulimitNames(), u.Name):
			name := ""
			if u != nil {
				name = u.Name
			}
			return errdefs.New(errdefs.Invalid, "invalid ulimit type: %s", name)
		case seen[u.Name]:
			return errdefs.New(errdefs.Invalid, "ulimit %s is given twice", u.Name)
		case u.Soft < -1 || u.Hard < -1:
			return errdefs.New(errdefs.Invalid, "invalid ulimit %s: %d:%d", u.Name, u.Soft, u.Hard)
		case uint64(u.Soft) > uint64(u.Hard): // -1 is "unlimited", the highest
			return errdefs.New(errdefs.Invalid, "ulimit soft limit must be less than or equal to hard limit: %d > %d", u.Soft, u.Hard)
		}
		seen[u.Name] = true
	}
	return nil
}
