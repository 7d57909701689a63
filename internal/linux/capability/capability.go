// Package capability names the capabilities of Linux, and reads which of them
// the kernel knows and this process may hand on.
//
// A [Set] is the 64-bit mask that the kernel's own interfaces use. Reading is
// all that is done here: who drops and raises capabilities does so between
// clone and exec, in the runtime's start program.
package capability

import (
	"bytes"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"strconv"
	"strings"

	"lade/internal/errdefs"
)

// names holds the capabilities by number, as in linux/capability.h.
var names = [...]string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID",
	"CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE",
	"CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK",
	"CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE",
	"CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
	"CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE",
	"CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG",
	"CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF",
	"CAP_CHECKPOINT_RESTORE",
}

// Count is the number of capabilities that this package knows.
const Count = uint(len(names))

// Set is a set of capabilities: bit n stands for capability n.
type Set uint64

// Known holds every capability that this package has a name for.
const Known = Set(1)<<Count - 1

// Parse returns the number of the capability called name. Case does not
// matter, and "CAP_" may be left out. The error is of class Invalid.
func Parse(name string) (uint, error) {
	full := strings.ToUpper(name)
	if !strings.HasPrefix(full, "CAP_") {
		full = "CAP_" + full
	}
	for n, s := range names {
		if s == full {
			return uint(n), nil
		}
	}
	return 0, errdefs.New(errdefs.Invalid, "capability %q is not known", name)
}

// ParseSet returns the set of the named capabilities. Names that it does not
// know are all in the error; the set then holds the others, for a caller that,
// as the runtime specification asks, warns and goes on.
func ParseSet(names []string) (Set, error) {
	var s Set
	var errs []error
	for _, name := range names {
		n, err := Parse(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		s = s.With(n)
	}
	return s, errors.Join(errs...)
}

// Name returns the name of capability n, with "CAP_"; a number that has none
// comes out as the kernel's tools print it, as the bare number.
func Name(n uint) string {
	if n < Count {
		return names[n]
	}
	return strconv.FormatUint(uint64(n), 10)
}

// With returns s with capability n.
func (s Set) With(n uint) Set { return s | 1<<n }

// Without returns s without capability n.
func (s Set) Without(n uint) Set { return s &^ (1 << n) }

// Has reports whether capability n is in s.
func (s Set) Has(n uint) bool { return s>>n&1 != 0 }

// Names returns the names of the set's capabilities, by number.
func (s Set) Names() []string {
	out := make([]string, 0, bits.OnesCount64(uint64(s)))
	for rest := uint64(s); rest != 0; rest &= rest - 1 {
		out = append(out, Name(uint(bits.TrailingZeros64(rest))))
	}
	return out
}

// String returns the names separated by commas.
func (s Set) String() string { return strings.Join(s.Names(), ",") }

// Last returns the highest capability that the running kernel knows. It may be
// higher than Count.
func Last() (uint, error) {
	b, err := os.ReadFile("/proc/sys/kernel/cap_last_cap")
	if err != nil {
		return 0, fmt.Errorf("read the last capability: %w", err)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 6)
	if err != nil {
		return 0, fmt.Errorf("read the last capability: %w", err)
	}
	return uint(n), nil
}

// Supported returns every capability that the running kernel knows.
func Supported() (Set, error) {
	last, err := Last()
	if err != nil {
		return 0, err
	}
	return Set(2)<<last - 1, nil
}

// Held is what this process holds.
type Held struct {
	Effective, Permitted, Inheritable, Bounding, Ambient Set
	// NoNewPrivs is set when execve can grant nothing more.
	NoNewPrivs bool
}

// Current returns what this thread holds, in one read of /proc.
func Current() (Held, error) {
	b, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		return Held{}, fmt.Errorf("read own capabilities: %w", err)
	}
	h, err := parseStatus(b)
	if err != nil {
		return Held{}, fmt.Errorf("read own capabilities: %w", err)
	}
	return h, nil
}

// parseStatus reads the Cap lines of a /proc/PID/status.
func parseStatus(b []byte) (Held, error) {
	var h Held
	fields := map[string]*Set{
		"CapEff": &h.Effective, "CapPrm": &h.Permitted, "CapInh": &h.Inheritable,
		"CapBnd": &h.Bounding, "CapAmb": &h.Ambient,
	}
	found := 0
	for line := range bytes.Lines(b) {
		key, value, ok := strings.Cut(string(line), ":")
		if !ok {
			continue
		}
		value = strings.TrimSpace(value)
		if key == "NoNewPrivs" {
			h.NoNewPrivs = value == "1"
		}
		set := fields[key]
		if set == nil {
			continue
		}
		n, err := strconv.ParseUint(value, 16, 64)
		if err != nil {
			return Held{}, fmt.Errorf("%s: %w", key, err)
		}
		*set = Set(n)
		found++
	}
	if found != len(fields) {
		return Held{}, fmt.Errorf("%d of %d sets are there", found, len(fields))
	}
	return h, nil
}
