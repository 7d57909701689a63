// Package spec holds what a container's configuration says when nobody says
// otherwise: Docker's defaults, which images are made for, and the sample
// configuration that an OCI runtime hands out.
//
// Everything here is pure. Values that are returned are the caller's own to
// change.
package spec

import (
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/errdefs"
	"lade/internal/linux/capability"
)

// Path is the value of PATH in a container whose image sets none.
const Path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Default returns Docker's default configuration: what a container gets
// before its image and the request have had their say. The cgroup namespace,
// which Docker adds on cgroup v2 alone, is always part of it: it costs nothing
// and hides the host's tree (CVE-2022-0492).
func Default() *specs.Spec {
	return &specs.Spec{
		Version: specs.Version,
		Root:    &specs.Root{Path: "rootfs"},
		Process: &specs.Process{
			Cwd:          "/",
			Env:          []string{"PATH=" + Path},
			Capabilities: &specs.LinuxCapabilities{Bounding: Capabilities(), Permitted: Capabilities(), Effective: Capabilities()},
		},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
			{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"ro", "nosuid", "noexec", "nodev"}},
			{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
		},
		Linux: &specs.Linux{
			MaskedPaths:   MaskedPaths(),
			ReadonlyPaths: ReadonlyPaths(),
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.MountNamespace},
				{Type: specs.NetworkNamespace},
				{Type: specs.UTSNamespace},
				{Type: specs.PIDNamespace},
				{Type: specs.IPCNamespace},
				{Type: specs.CgroupNamespace},
			},
			// The devices that every container has are the runtime's matter.
			Resources: &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}},
		},
	}
}

// Sample returns the configuration that `lade-runtime spec` writes: the same
// as runc's, with few capabilities and a read-only root. For rootless it runs
// as the calling user, uid and gid, in a user namespace with one id.
func Sample() *specs.Spec {
	s := Default()
	s.Root.Readonly = true
	s.Hostname = "lade"
	few := func() []string { return []string{"CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"} }
	s.Process = &specs.Process{
		Terminal:        true,
		Args:            []string{"sh"},
		Env:             []string{"PATH=" + Path, "TERM=xterm"},
		Cwd:             "/",
		NoNewPrivileges: true,
		Capabilities:    &specs.LinuxCapabilities{Bounding: few(), Permitted: few(), Effective: few()},
		Rlimits:         []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Hard: 1024, Soft: 1024}},
	}
	return s
}

// Rootless changes a sample so that the user uid, gid can run it without any
// privilege: in a user namespace with that one user, with the host's network,
// and without what takes more than one id or a cgroup.
func Rootless(s *specs.Spec, uid, gid uint32) {
	var namespaces []specs.LinuxNamespace
	for _, n := range s.Linux.Namespaces {
		if n.Type != specs.NetworkNamespace && n.Type != specs.UserNamespace {
			namespaces = append(namespaces, n)
		}
	}
	s.Linux.Namespaces = append(namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	s.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: uid, Size: 1}}
	s.Linux.GIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: gid, Size: 1}}
	s.Linux.Resources = nil
	for i := range s.Mounts {
		m := &s.Mounts[i]
		if m.Destination == "/sys" {
			// sysfs belongs to the network namespace, which is the host's.
			*m = specs.Mount{Destination: "/sys", Type: "none", Source: "/sys", Options: []string{"rbind", "nosuid", "noexec", "nodev", "ro"}}
			continue
		}
		var options []string
		for _, o := range m.Options {
			if !strings.HasPrefix(o, "uid=") && !strings.HasPrefix(o, "gid=") {
				options = append(options, o)
			}
		}
		m.Options = options
	}
}

// MaskedPaths returns the paths that a container does not see, because they
// tell of the host or change it. Per-processor files that do the same
// (thermal_throttle, GHSA-6fw5-f8r9-fgfm) depend on the machine and are added
// where that is known.
func MaskedPaths() []string {
	return []string{
		"/proc/acpi",
		"/proc/asound",
		"/proc/interrupts", // keystrokes by their timing, GHSA-6fw5-f8r9-fgfm
		"/proc/kcore",
		"/proc/keys",
		"/proc/latency_stats",
		"/proc/sched_debug",
		"/proc/scsi",
		"/proc/timer_list",
		"/proc/timer_stats",
		"/sys/devices/virtual/powercap", // secrets by power draw, CVE-2020-8694
		"/sys/firmware",
	}
}

// ReadonlyPaths returns the paths that a container sees and cannot write,
// since they are the host's.
func ReadonlyPaths() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}

// Capabilities returns the fourteen that a container's root has by default.
func Capabilities() []string {
	return []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID",
		"CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SYS_CHROOT", "CAP_MKNOD", "CAP_AUDIT_WRITE", "CAP_SETFCAP",
	}
}

// AddDrop returns base with the capabilities in add and without those in drop,
// by number. Names may lack "CAP_" and be in any case. "ALL" in add stands for
// every capability; "ALL" in drop takes base away, and leaves add. A name in
// both is dropped only when add has "ALL". Unknown names are an error of class
// Invalid.
func AddDrop(base, add, drop []string) ([]string, error) {
	start, _, err := parse(base)
	if err != nil {
		return nil, err
	}
	added, addAll, err := parse(add)
	if err != nil {
		return nil, errdefs.New(errdefs.Invalid, "invalid CapAdd: %w", err)
	}
	dropped, dropAll, err := parse(drop)
	if err != nil {
		return nil, errdefs.New(errdefs.Invalid, "invalid CapDrop: %w", err)
	}
	switch {
	case addAll && dropAll:
		return added.Names(), nil
	case addAll:
		return (capability.Known &^ dropped).Names(), nil
	case dropAll:
		return added.Names(), nil
	}
	return (start&^dropped | added).Names(), nil
}

// parse returns the named capabilities, and whether "ALL" is among the names.
func parse(names []string) (set capability.Set, all bool, err error) {
	for _, name := range names {
		if strings.EqualFold(name, "ALL") {
			all = true
			continue
		}
		n, err := capability.Parse(name)
		if err != nil {
			return 0, false, errdefs.New(errdefs.Invalid, "unknown capability: %q", "CAP_"+strings.TrimPrefix(strings.ToUpper(name), "CAP_"))
		}
		set = set.With(n)
	}
	return set, all, nil
}
