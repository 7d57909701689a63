package request

import (
	"strconv"
	"strings"

	"lade/internal/errdefs"
)

// DeviceRule is a parsed --device-cgroup-rule.
type DeviceRule struct {
	Type         string // a, b or c
	Major, Minor *int64 // nil: any
	Access       string
}

// ParseDeviceRule reads "c 42:* rmw".
func ParseDeviceRule(s string) (DeviceRule, error) {
	bad := errdefs.New(errdefs.Invalid, "invalid device cgroup rule format: '%s'", s)
	f := strings.Fields(s)
	if len(f) != 3 || len(f[0]) != 1 || !strings.Contains("abc", f[0]) || f[2] == "" || !devicePermissions(f[2]) {
		return DeviceRule{}, bad
	}
	r := DeviceRule{Type: f[0], Access: f[2]}
	major, minor, ok := strings.Cut(f[1], ":")
	if !ok {
		return DeviceRule{}, bad
	}
	for _, n := range []struct {
		text string
		to   **int64
	}{{major, &r.Major}, {minor, &r.Minor}} {
		if n.text == "*" {
			continue
		}
		v, err := strconv.ParseUint(n.text, 10, 31)
		if err != nil {
			return DeviceRule{}, bad
		}
		i := int64(v)
		*n.to = &i
	}
	return r, nil
}
