package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/linux/cgroup"
	"lade/internal/linux/sdbus"
)

// planUnit plans cgroups that systemd makes.
func planUnit(l cgroup.Layout, path, id string, r *specs.LinuxResources, annotations map[string]string) (cgroup.Plan, error) {
	s := cgroup.Systemd{User: os.Geteuid() != 0, Annotations: annotations}
	c, err := sdbus.Dial(s.User)
	if err != nil {
		return cgroup.Plan{}, err
	}
	defer c.Close()
	if s.Version, err = systemdVersion(c); err != nil {
		return cgroup.Plan{}, err
	}
	if s.User {
		if s.Root, err = c.Property("ControlGroup"); err != nil {
			return cgroup.Plan{}, err
		}
	}
	return l.PlanUnit(path, id, r, s)
}

// systemdVersion returns the number at the beginning of systemd's version,
// which distributions add to: "252.38-1~deb12u1", "v249".
func systemdVersion(c *sdbus.Conn) (int, error) {
	text, err := c.Property("Version")
	if err != nil {
		return 0, err
	}
	number := strings.TrimLeft(text, "v")
	if i := strings.IndexFunc(number, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
		number = number[:i]
	}
	n, err := strconv.Atoi(number)
	if err != nil {
		return 0, fmt.Errorf("read systemd's version %q: %w", text, err)
	}
	return n, nil
}

// removeCgroup removes a container's cgroups, and the unit that they are.
func removeCgroup(ctx context.Context, g cgroup.Group) error {
	var err error
	if g.Unit != "" {
		var c *sdbus.Conn
		if c, err = sdbus.Dial(g.User); err == nil {
			err = c.Stop(g.Unit)
			c.Close()
		}
	}
	return errors.Join(err, g.Remove(ctx))
}

// updateUnit tells systemd of new limits, which it would undo otherwise.
func updateUnit(l cgroup.Layout, g cgroup.Group, r *specs.LinuxResources) error {
	if g.Unit == "" {
		return nil
	}
	c, err := sdbus.Dial(g.User)
	if err != nil {
		return err
	}
	defer c.Close()
	version, err := systemdVersion(c)
	if err != nil {
		return err
	}
	properties, err := l.UnitProperties(r, version)
	if err != nil || len(properties) == 0 {
		return err
	}
	return c.Set(g.Unit, properties)
}
