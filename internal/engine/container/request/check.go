package request

import (
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/docker/go-units"
	api "github.com/moby/moby/api/types/container"

	"lade/internal/engine/container/logdriver"
	"lade/internal/errdefs"
	"lade/internal/image/account"
)

// Host is what the checks must know of the machine.
type Host struct {
	CPUs     int      // how many may be used
	Runtimes []string // the names of the known OCI runtimes, the default first
	// CheckSize returns why no writable layer can be bounded to size bytes.
	CheckSize func(size int64) error
}

// Check refuses a merged configuration that can never become a container. It
// returns warnings for what is accepted but has no effect.
func Check(c *api.Config, h *api.HostConfig, host Host) (warnings []string, err error) {
	for _, step := range []func(*api.Config, *api.HostConfig) error{
		checkConfig, checkModes, checkSecurity, checkDNS, checkUlimits, checkDevices,
		func(_ *api.Config, h *api.HostConfig) error { return checkRuntime(h, host) },
		func(_ *api.Config, h *api.HostConfig) error { return checkResources(&h.Resources, host.CPUs) },
		checkUnsupported,
		func(_ *api.Config, h *api.HostConfig) error {
			size, err := StorageSize(h)
			if err == nil && size > 0 && host.CheckSize != nil {
				err = host.CheckSize(size)
			}
			return err
		},
	} {
		if err := step(c, h); err != nil {
			return nil, err
		}
	}
	return warn(c, h), nil
}

func warn(_ *api.Config, h *api.HostConfig) []string {
	w := []string{}
	if len(h.PortBindings) > 0 && h.NetworkMode.IsHost() {
		w = append(w, "Published ports are discarded when using host network mode")
	}
	if h.Memory > 0 && h.OomKillDisable != nil && *h.OomKillDisable {
		w = append(w, "OOM killer is disabled for the container: it hangs when its memory is used up")
	}
	return w
}

func checkConfig(c *api.Config, h *api.HostConfig) error {
	if _, err := account.ParseUser(c.User); err != nil {
		return err
	}
	if err := CheckEnv(c.Env); err != nil {
		return err
	}
	for _, a := range Command(c) {
		if strings.ContainsRune(a, 0) {
			return errdefs.New(errdefs.Invalid, "invalid command: an argument holds a NUL byte")
		}
	}
	if c.WorkingDir != "" && (!path.IsAbs(c.WorkingDir) || strings.ContainsRune(c.WorkingDir, 0)) {
		return errdefs.New(errdefs.Invalid, "The working directory '%s' is invalid. It needs to be an absolute path", c.WorkingDir)
	}
	if err := checkHostname(c.Hostname, c.Domainname); err != nil {
		return err
	}
	if c.StopSignal != "" {
		if _, err := ParseSignal(c.StopSignal); err != nil {
			return err
		}
	}
	for v := range c.Volumes {
		if err := checkTarget(v); err != nil {
			return err
		}
	}
	if c.StopTimeout != nil && *c.StopTimeout < -1 {
		return errdefs.New(errdefs.Invalid, "invalid stop timeout %d: it is a number of seconds, or -1 for no limit", *c.StopTimeout)
	}
	if err := api.ValidateRestartPolicy(h.RestartPolicy); err != nil {
		return errdefs.With(errdefs.Invalid, err)
	}
	if h.AutoRemove && !h.RestartPolicy.IsNone() {
		return errdefs.New(errdefs.Invalid, "can't create 'AutoRemove' container with restart policy")
	}
	for _, v := range h.VolumesFrom {
		if _, _, err := ParseVolumesFrom(v); err != nil {
			return err
		}
	}
	for _, g := range h.GroupAdd {
		if _, err := account.ParseGroup(g); err != nil {
			return err
		}
	}
	return nil
}

// checkHostname admits what the kernel and /etc/hosts can hold; above all no
// line of its own.
func checkHostname(host, domain string) error {
	for _, s := range []string{host, domain} {
		if len(s) > 64 {
			return errdefs.New(errdefs.Invalid, "invalid hostname format: %s is longer than 64 characters", s)
		}
		for i := range len(s) {
			c := s[i]
			alnum := c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
			if !alnum && (i == 0 || c != '-' && c != '.') {
				return errdefs.New(errdefs.Invalid, "invalid hostname format: %q", s)
			}
		}
	}
	return nil
}

func checkModes(c *api.Config, h *api.HostConfig) error {
	switch {
	case !h.IpcMode.Valid():
		return errdefs.New(errdefs.Invalid, "invalid IPC mode: %s", h.IpcMode)
	case !h.PidMode.Valid():
		return errdefs.New(errdefs.Invalid, "invalid PID mode: %s", h.PidMode)
	case !h.UTSMode.Valid():
		return errdefs.New(errdefs.Invalid, "invalid UTS mode: %s", h.UTSMode)
	case h.UsernsMode != "private" && !h.UsernsMode.Valid():
		return errdefs.New(errdefs.Invalid, "invalid USER mode: %s", h.UsernsMode)
	case !h.CgroupnsMode.Valid():
		return errdefs.New(errdefs.Invalid, "invalid cgroup namespace mode: %s", h.CgroupnsMode)
	case !h.Isolation.IsValid():
		return errdefs.New(errdefs.Invalid, "invalid isolation '%s' on linux", h.Isolation)
	case h.UTSMode.IsHost() && c.Hostname != "":
		return errdefs.New(errdefs.Invalid, "conflicting options: hostname and the UTS mode")
	}
	if h.NetworkMode.IsContainer() {
		switch {
		case h.NetworkMode.ConnectedContainer() == "":
			return errdefs.New(errdefs.Invalid, "invalid network mode: container mode needs a name or ID")
		case c.Hostname != "":
			return errdefs.New(errdefs.Invalid, "conflicting options: hostname and the network mode")
		case len(h.PortBindings) > 0 || h.PublishAllPorts:
			return errdefs.New(errdefs.Invalid, "conflicting options: port publishing and the container type network mode")
		case len(h.DNS) > 0:
			return errdefs.New(errdefs.Invalid, "conflicting options: dns and the network mode")
		case len(h.ExtraHosts) > 0:
			return errdefs.New(errdefs.Invalid, "conflicting options: custom host-to-IP mapping and the network mode")
		}
	}
	return nil
}

func checkDNS(_ *api.Config, h *api.HostConfig) error {
	for _, a := range h.DNS {
		if !a.IsValid() {
			return errdefs.New(errdefs.Invalid, "invalid DNS address")
		}
	}
	for _, s := range slices.Concat(h.DNSSearch, h.DNSOptions) {
		if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
			return errdefs.New(errdefs.Invalid, "invalid DNS search domain or option %q", s)
		}
	}
	_, err := ExtraHosts(h.ExtraHosts, netip.Addr{})
	return err
}

// HostEntry is one line of /etc/hosts.
type HostEntry struct {
	Addr netip.Addr
	Name string
}

// ExtraHosts reads --add-host entries ("name:address" or "name=address").
// gateway stands for the address "host-gateway"; where it is not valid, such
// an entry is left out.
func ExtraHosts(list []string, gateway netip.Addr) ([]HostEntry, error) {
	var out []HostEntry
	for _, s := range list {
		name, addr, ok := strings.Cut(s, ":")
		if n, a, eq := strings.Cut(s, "="); eq && len(n) < len(name) {
			name, addr, ok = n, a, true
		}
		if !ok || name == "" || checkHostname("", strings.TrimSuffix(name, ".")) != nil {
			return nil, errdefs.New(errdefs.Invalid, "bad format for add-host: %q", s)
		}
		if addr == "host-gateway" {
			if gateway.IsValid() {
				out = append(out, HostEntry{gateway, name})
			}
			continue
		}
		a, err := netip.ParseAddr(strings.Trim(addr, "[]"))
		if err != nil || a.Zone() != "" {
			return nil, errdefs.New(errdefs.Invalid, "invalid IP address in add-host: %q", addr)
		}
		out = append(out, HostEntry{a, name})
	}
	return out, nil
}

func checkRuntime(h *api.HostConfig, host Host) error {
	if h.Runtime != "" && !slices.Contains(host.Runtimes, h.Runtime) {
		return errdefs.New(errdefs.Invalid, "unknown or invalid runtime name: %s", h.Runtime)
	}
	if p := h.CgroupParent; p != "" && (strings.Contains(p, "..") || strings.ContainsAny(p, "\n\x00")) {
		return errdefs.New(errdefs.Invalid, "invalid cgroup parent %q", p)
	}
	return logdriver.Check(h.LogConfig)
}

// StorageSize returns what --storage-opt bounds the writable layer to, in
// bytes; 0 means not at all.
func StorageSize(h *api.HostConfig) (int64, error) {
	var size int64
	for key, v := range h.StorageOpt {
		if !strings.EqualFold(key, "size") {
			return 0, errdefs.New(errdefs.Invalid, "--storage-opt %s=%s: unknown option %q; there is size", key, v, key)
		}
		n, err := units.RAMInBytes(v)
		if err != nil || n < 0 {
			return 0, errdefs.New(errdefs.Invalid, "--storage-opt size=%s: not a size, such as 512m or 10G", v)
		}
		size = n
	}
	return size, nil
}

// checkUnsupported refuses what Lade cannot do yet, rather than to start a
// container that lacks what its owner asked for.
func checkUnsupported(_ *api.Config, h *api.HostConfig) error {
	for what, asked := range map[string]bool{
		"--link":        len(h.Links) > 0,
		"--cgroup-rule": h.Cgroup != "",
	} {
		if asked {
			return errdefs.New(errdefs.NotImplemented, "%s is not there yet", what)
		}
	}
	return nil
}

// CheckDonor refuses to share the IPC namespace of a container that keeps it for
// itself.
func CheckDonor(name string, m api.IpcMode) error {
	if !m.IsPrivate() && !m.IsNone() {
		return nil
	}
	err := errdefs.New(errdefs.Invalid, "can't join IPC of container %s: non-shareable IPC (hint: use IpcMode:shareable for the donor container)", name)
	return errdefs.Hint(err, "make it with --ipc=shareable")
}
