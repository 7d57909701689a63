package request

import (
	"strconv"
	"strings"
	"syscall"
	"time"

	api "github.com/moby/moby/api/types/container"

	"lade/internal/errdefs"
)

// signalNames returns Linux' signals by number, as on all architectures that
// Lade runs on.
func signalNames() []string {
	return []string{
		"", "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
		"STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
	}
}

const (
	rtMin = 34 // as glibc counts: it keeps 32 and 33 for itself
	rtMax = 64
)

// ParseSignal reads a signal's number or name, with or without SIG.
func ParseSignal(s string) (int, error) {
	bad := errdefs.New(errdefs.Invalid, "invalid signal: %s", s)
	if n, err := strconv.Atoi(s); err == nil {
		if n < 1 || n > rtMax || s[0] == '+' {
			return 0, bad
		}
		return n, nil
	}
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	for n, known := range signalNames() {
		if n > 0 && known == name {
			return n, nil
		}
	}
	switch name {
	case "IOT":
		return 6, nil
	case "CLD":
		return 17, nil
	case "POLL":
		return 29, nil
	}
	for _, rt := range []struct {
		name string
		base int
		sign int
	}{{"RTMIN", rtMin, 1}, {"RTMAX", rtMax, -1}} {
		rest, ok := strings.CutPrefix(name, rt.name)
		if !ok {
			continue
		}
		if rest == "" {
			return rt.base, nil
		}
		n, err := strconv.Atoi(rest)
		if err != nil || n == 0 || (n > 0) != (rt.sign > 0) || rt.base+n < rtMin || rt.base+n > rtMax {
			return 0, bad
		}
		return rt.base + n, nil
	}
	return 0, bad
}

// SignalName returns a signal's name, such as SIGTERM.
func SignalName(n int) string {
	if names := signalNames(); n > 0 && n < len(names) {
		return "SIG" + names[n]
	}
	return "signal " + strconv.Itoa(n)
}

// defaultStopTimeout is how long a container may take to end by itself.
const defaultStopTimeout = 10 * time.Second

// StopParams returns the signal that asks a container to end, and how long it
// may take then; negative means forever. What a request leaves open is the
// container's own.
func StopParams(cfg *api.Config, signal string, seconds *int) (sig int, timeout time.Duration, err error) {
	sig, timeout = int(syscall.SIGTERM), defaultStopTimeout
	if signal == "" {
		signal = cfg.StopSignal
	}
	if signal != "" {
		if sig, err = ParseSignal(signal); err != nil {
			return 0, 0, err
		}
	}
	if seconds == nil {
		seconds = cfg.StopTimeout
	}
	if seconds != nil {
		timeout = time.Duration(*seconds) * time.Second
	}
	return sig, timeout, nil
}
