package serve

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// cgroup is where the kernel counts a container's memory. The zero value is
// a container of which that is not known.
type cgroup struct {
	dir  string
	pure bool // version 2
}

// cgroupOf returns the memory cgroup of a process, unless it is our own.
func cgroupOf(pid int) cgroup {
	theirs, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		return cgroup{}
	}
	ours, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return cgroup{}
	}
	c := memoryCgroup(theirs)
	if c == memoryCgroup(ours) {
		return cgroup{}
	}
	return c
}

// memoryCgroup reads /proc/PID/cgroup. Where a version 1 hierarchy has the
// memory controller, version 2 does not.
func memoryCgroup(b []byte) cgroup {
	var c cgroup
	for line := range bytes.Lines(b) {
		f := strings.SplitN(strings.TrimSuffix(string(line), "\n"), ":", 3)
		if len(f) != 3 {
			continue
		}
		if slices.Contains(strings.Split(f[1], ","), "memory") {
			return cgroup{dir: filepath.Join("/sys/fs/cgroup/memory", f[2])}
		}
		if f[0] == "0" {
			c = cgroup{dir: filepath.Join("/sys/fs/cgroup", f[2]), pure: true}
		}
	}
	return c
}

// oomKilled reports whether the kernel killed a process for want of memory.
func (c cgroup) oomKilled() bool {
	file := "memory.oom_control"
	if c.pure {
		file = "memory.events"
	}
	for line := range bytes.Lines(c.read(file)) {
		if f := strings.Fields(string(line)); len(f) == 2 && f[0] == "oom_kill" {
			return f[1] != "0"
		}
	}
	return false
}

// peakMemory returns the most bytes that were in use at once, or 0.
func (c cgroup) peakMemory() int64 {
	file := "memory.max_usage_in_bytes"
	if c.pure {
		file = "memory.peak"
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(c.read(file))), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func (c cgroup) read(file string) []byte {
	if c.dir == "" {
		return nil
	}
	b, _ := os.ReadFile(filepath.Join(c.dir, file)) // absent: not known
	return b
}
