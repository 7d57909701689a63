// Package hostfacts looks at the machine for what containers' configurations
// depend on: limits, facilities of the kernel, device nodes.
package hostfacts

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"lade/internal/linux/capability"
)

// Host is what the engine must know of the machine.
type Host struct {
	CPUs           int
	Hostname       string
	UserNamespaces bool // containers can have one of their own
	// HardLimits are the highest rlimits the engine may set, by name; nil
	// where it may set any.
	HardLimits map[string]uint64
	Swap       bool // the kernel counts swap by container
}

// Detect looks at the machine.
func Detect() (Host, error) {
	h := Host{CPUs: runtime.NumCPU()}
	var err error
	if h.Hostname, err = os.Hostname(); err != nil {
		return h, err
	}
	held, err := capability.Current()
	if err != nil {
		return h, err
	}
	n, err := capability.Parse("CAP_SYS_RESOURCE")
	if err != nil {
		return h, err
	}
	if !held.Effective.Has(n) {
		h.HardLimits = hardLimits()
	}
	h.UserNamespaces = os.Geteuid() == 0 && maxUserNamespaces() > 0
	for _, p := range []string{"/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes", "/sys/fs/cgroup/init.scope/memory.swap.max"} {
		if _, err := os.Stat(p); !errors.Is(err, fs.ErrNotExist) {
			h.Swap = true
		}
	}
	return h, nil
}

func maxUserNamespaces() int {
	raw, err := os.ReadFile("/proc/sys/user/max_user_namespaces")
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(strings.TrimSpace(string(raw)))
	return n
}

// hardLimits reads the engine's own. The numbers are the kernel's, the same on
// every architecture that Lade runs on.
func hardLimits() map[string]uint64 {
	names := []string{
		"CPU", "FSIZE", "DATA", "STACK", "CORE", "RSS", "NPROC", "NOFILE", "MEMLOCK", "AS",
		"LOCKS", "SIGPENDING", "MSGQUEUE", "NICE", "RTPRIO", "RTTIME",
	}
	out := map[string]uint64{}
	for i, name := range names {
		var r syscall.Rlimit
		if err := syscall.Getrlimit(i, &r); err == nil {
			out["RLIMIT_"+name] = r.Max
		}
	}
	return out
}
