package command

import (
	"context"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go/features"

	"lade/internal/linux/capability"
	"lade/internal/linux/seccomp"
	"lade/internal/runtime/plan/scheduling"
	"lade/internal/version"
)

func (a *app) features(_ context.Context, args []string) error {
	if _, err := (flagSet{}).parse(args, true); err != nil {
		return err
	}
	yes := true
	var caps []string
	if set, err := capability.Supported(); err == nil {
		caps = set.Names()
	}
	return a.json(features.Features{
		OCIVersionMin: "1.0.0", OCIVersionMax: "1.3.0",
		Hooks:        []string{"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"},
		MountOptions: mountOptions(),
		Linux: &features.Linux{
			Namespaces:   []string{"cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"},
			Capabilities: caps,
			Cgroup:       &features.Cgroup{V1: &yes, V2: &yes, Systemd: &yes, SystemdUser: &yes, Rdma: &yes},
			Apparmor:     &features.Apparmor{Enabled: &yes},
			Selinux:      &features.Selinux{Enabled: &yes},
			Seccomp: &features.Seccomp{
				Enabled: &yes, Actions: words(seccomp.Actions()), Operators: words(seccomp.Operators()), Archs: words(seccomp.Architectures()),
				KnownFlags: words(seccomp.Flags()), SupportedFlags: words(seccomp.Flags()),
			},
			IntelRdt:     &features.IntelRdt{Enabled: &yes, Schemata: &yes, Monitoring: &yes},
			MemoryPolicy: &features.MemoryPolicy{Modes: words(scheduling.MemoryModes()), Flags: words(scheduling.MemoryFlags())},
			NetDevices:   &features.NetDevices{Enabled: &yes},
			MountExtensions: &features.MountExtensions{
				IDMap: &features.IDMap{Enabled: &yes},
			},
		},
		Annotations: map[string]string{"dev.lade.runtime.version": version.Version},
	})
}

// words returns names as plain strings, in order.
func words[S ~string](names []S) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = string(n)
	}
	slices.Sort(out)
	return out
}

func mountOptions() []string {
	return []string{
		"async", "atime", "bind", "defaults", "dev", "diratime", "dirsync", "exec", "idmap", "iversion", "lazytime", "loud", "mand",
		"noatime", "nodev", "nodiratime", "noexec", "noiversion", "nolazytime", "nomand", "norelatime", "nostrictatime", "nosuid", "nosymfollow",
		"private", "ratime", "rbind", "rdev", "rdiratime", "rexec", "relatime", "ridmap", "rnoatime", "rnodev", "rnodiratime", "rnoexec",
		"rnorelatime", "rnostrictatime", "rnosuid", "rnosymfollow", "ro", "rprivate", "rrelatime", "rro", "rrw", "rshared", "rslave", "rstrictatime",
		"rsuid", "rsymfollow", "runbindable", "rw", "shared", "silent", "slave", "strictatime", "suid", "symfollow", "sync", "tmpcopyup", "unbindable",
	}
}
