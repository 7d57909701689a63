package container

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/cgroup"
)

// mapIDs runs newuidmap or newgidmap for the child: they are set-user-id, and
// map what /etc/subuid and /etc/subgid grant.
func mapIDs(ctx context.Context, name string, mapping []string, pid int) error {
	path, err := osexec.LookPath(name)
	if err != nil {
		return errdefs.Hint(errdefs.New(errdefs.Unavailable, "map more than one id for a user who is not root: %w", err), "install the package uidmap")
	}
	cmd := osexec.CommandContext(ctx, path, append([]string{strconv.Itoa(pid)}, mapping...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, bytes.TrimSpace(out))
	}
	return nil
}

// rootlessCgroups returns the plan for cgroups of a runtime that may not be
// allowed to make any: then the container has none, unless its configuration
// counts on them. A filter for devices is left out in any case: a user
// namespace lets nobody make them.
func rootlessCgroups(p cgroup.Plan, path string, r *specs.LinuxResources) (cgroup.Plan, error) {
	p.Steps = slices.DeleteFunc(p.Steps, func(s cgroup.Step) bool {
		return s.Op == cgroup.Filter || filepath.Base(s.Path) == "devices.deny" || filepath.Base(s.Path) == "devices.allow"
	})
	denied := ""
	for _, d := range p.Group.Dirs {
		dir := d.Path
		for {
			err := unix.Access(dir, unix.W_OK)
			if errors.Is(err, unix.ENOENT) && dir != "/" {
				dir = filepath.Dir(dir)
				continue
			}
			if err != nil {
				denied = dir
			}
			break
		}
	}
	switch {
	case denied == "":
		return p, nil
	case path != "":
		return p, errdefs.Hint(errdefs.New(errdefs.Denied, "linux.cgroupsPath: %s is not writable, and this container is rootless", denied), "leave cgroupsPath out, or have the cgroup delegated")
	case limited(r):
		return p, errdefs.Hint(errdefs.New(errdefs.Denied, "linux.resources: rootless needs no limits when no permission is granted for cgroups: %s is not writable", denied), "leave the limits out, or have the cgroup delegated")
	}
	return cgroup.Plan{}, nil
}

// limited reports whether anything but devices is limited.
func limited(r *specs.LinuxResources) bool {
	if r == nil {
		return false
	}
	rest := *r
	rest.Devices = nil
	return rest.Memory != nil || rest.CPU != nil || rest.Pids != nil || rest.BlockIO != nil || len(rest.HugepageLimits) > 0 ||
		rest.Network != nil || len(rest.Rdma) > 0 || len(rest.Unified) > 0
}

// withoutCgroups reads --rootless: guess is what is meant where it says nothing.
func withoutCgroups(rootless string, guess bool) bool {
	switch rootless {
	case "true", "false":
		return rootless == "true"
	}
	return guess
}

// isRootless reports whether this runtime is not root.
func isRootless() bool { return os.Geteuid() != 0 }
