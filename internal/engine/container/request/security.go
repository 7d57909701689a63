package request

import (
	"path"
	"slices"
	"strings"

	api "github.com/moby/moby/api/types/container"

	"lade/internal/errdefs"
)

// Security is what a request's security options ask for.
type Security struct {
	NoNewPrivileges bool
	Unconfined      bool   // no seccomp filter
	Seccomp         string // a profile as JSON; empty means the default
	AppArmor        string // a profile's name; empty means none was asked for
	Unmask          bool   // systempaths=unconfined
	WritableCgroups bool   // the container may make cgroups below its own
}

// ParseSecurity reads --security-opt. Labels are accepted and ignored: they
// mean nothing without SELinux, and Docker does the same there.
func ParseSecurity(h *api.HostConfig) (Security, error) {
	var s Security
	if h.Privileged {
		s.Unconfined, s.Unmask = true, true
	}
	for _, o := range h.SecurityOpt {
		if o == "no-new-privileges" {
			s.NoNewPrivileges = true
			continue
		}
		k, v, ok := strings.Cut(o, "=")
		if !ok { // the old form
			k, v, ok = strings.Cut(o, ":")
		}
		if !ok {
			return Security{}, errdefs.New(errdefs.Invalid, "invalid --security-opt 1: %q", o)
		}
		switch k {
		case "no-new-privileges":
			if v != "true" && v != "false" {
				return Security{}, errdefs.New(errdefs.Invalid, "invalid --security-opt 2: %q", o)
			}
			s.NoNewPrivileges = v == "true"
		case "seccomp":
			switch v {
			case "unconfined":
				s.Unconfined = true
			case "builtin", "default":
				s.Unconfined, s.Seccomp = false, ""
			default:
				s.Unconfined, s.Seccomp = false, v
			}
		case "apparmor":
			s.AppArmor = v
		case "label":
		case "systempaths":
			if v != "unconfined" {
				return Security{}, errdefs.New(errdefs.Invalid, "invalid --security-opt 2: %q", o)
			}
			s.Unmask = true
		case "writable-cgroups":
			if v != "true" && v != "false" {
				return Security{}, errdefs.New(errdefs.Invalid, "invalid --security-opt 2: %q", o)
			}
			s.WritableCgroups = v == "true"
		default:
			return Security{}, errdefs.New(errdefs.Invalid, "invalid --security-opt 2: %q", o)
		}
	}
	return s, nil
}

func checkSecurity(_ *api.Config, h *api.HostConfig) error {
	s, err := ParseSecurity(h)
	if err != nil {
		return err
	}
	if s.WritableCgroups && !h.Privileged && (h.CgroupnsMode.IsHost() || !h.UsernsMode.IsHost()) {
		// Of the host's hierarchy it would have all; in a user namespace of its
		// own, nothing, since the cgroup belongs to the host's root.
		err := errdefs.New(errdefs.Invalid, "writable-cgroups needs a cgroup namespace of the container's own, and the host's user namespace")
		return errdefs.Hint(err, "add --userns=host --cgroupns=private")
	}
	for _, p := range slices.Concat(h.MaskedPaths, h.ReadonlyPaths) {
		if !path.IsAbs(p) || strings.ContainsAny(p, "\x00\n") {
			return errdefs.New(errdefs.Invalid, "invalid masked or read-only path %q: it needs to be absolute", p)
		}
	}
	for k := range h.Annotations {
		if k == "" {
			return errdefs.New(errdefs.Invalid, "invalid Annotation: the empty string is not permitted as an annotation key")
		}
	}
	return checkSysctls(h)
}

// checkSysctls admits the settings that a namespace of the container's own
// holds, and refuses every other: it would change the host. Names are matched
// whole; nothing that a value holds can become a second setting
// (CVE-2022-0811).
func checkSysctls(h *api.HostConfig) error {
	for name, value := range h.Sysctls {
		if strings.ContainsAny(value, "\n\r\x00+") && !isNetSysctl(name) || strings.ContainsAny(value, "\n\r\x00") {
			return errdefs.New(errdefs.Invalid, "invalid value %q of sysctl %s", value, name)
		}
		switch {
		case isIPCSysctl(name):
			if h.IpcMode.IsHost() {
				return errdefs.New(errdefs.Invalid, "sysctl '%s' is not allowed as the container shares the host's IPC namespace", name)
			}
		case isNetSysctl(name):
			if h.NetworkMode.IsHost() {
				return errdefs.New(errdefs.Invalid, "sysctl '%s' is not allowed as the container shares the host's network namespace", name)
			}
		case name == "kernel.domainname":
			if h.UTSMode.IsHost() {
				return errdefs.New(errdefs.Invalid, "sysctl '%s' is not allowed as the container shares the host's UTS namespace", name)
			}
		default:
			return errdefs.Hint(errdefs.New(errdefs.Invalid, "sysctl '%s' is not allowed", name), "only settings of a container's own namespaces are: net.*, fs.mqueue.*, kernel.msg*, kernel.sem, kernel.shm*")
		}
	}
	return nil
}

func isIPCSysctl(name string) bool {
	switch name {
	case "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced":
		return true
	}
	return strings.HasPrefix(name, "fs.mqueue.") && isSysctlName(name)
}

func isNetSysctl(name string) bool {
	return (strings.HasPrefix(name, "net.") || strings.HasPrefix(name, "net/")) && isSysctlName(name)
}

// isSysctlName admits words joined by single dots. A slash, which separates
// the parts where an interface's name holds a dot, is admitted likewise.
func isSysctlName(name string) bool {
	for part := range strings.FieldsFuncSeq(name, func(r rune) bool { return r == '.' || r == '/' }) {
		if strings.Trim(part, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != "" {
			return false
		}
	}
	return !strings.Contains(name, "..") && !strings.Contains(name, "//") && !strings.Contains(name, "./") && !strings.Contains(name, "/.") && !strings.HasSuffix(name, ".")
}

func checkDevices(_ *api.Config, h *api.HostConfig) error {
	for _, d := range h.Devices {
		if err := checkSource(d.PathOnHost); err != nil {
			return err
		}
		if d.PathInContainer != "" {
			if err := checkTarget(d.PathInContainer); err != nil {
				return err
			}
		}
		if !devicePermissions(d.CgroupPermissions) {
			return errdefs.New(errdefs.Invalid, "invalid device mode %q of %s", d.CgroupPermissions, d.PathOnHost)
		}
	}
	for _, r := range h.DeviceCgroupRules {
		if _, err := ParseDeviceRule(r); err != nil {
			return err
		}
	}
	return nil
}

func devicePermissions(s string) bool {
	for i := range len(s) {
		if !strings.Contains("rwm", s[i:i+1]) || strings.Contains(s[:i], s[i:i+1]) {
			return false
		}
	}
	return true
}
