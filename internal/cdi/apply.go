package cdi

import (
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/errdefs"
)

// Check reports which of the names are of no device.
func (d *Devices) Check(names []string) error {
	_, err := d.find(names)
	return err
}

// Apply changes a container's configuration so that it has the devices. What is
// said for all devices of a file comes once, before those of its own.
func (d *Devices) Apply(s *specs.Spec, names []string) error {
	found, err := d.find(names)
	if err != nil {
		return err
	}
	var done []*file
	for _, e := range found {
		if !slices.Contains(done, e.file) {
			done = append(done, e.file)
			if err := e.file.Edits.apply(s); err != nil {
				return err
			}
		}
		if err := e.device.Edits.apply(s); err != nil {
			return err
		}
	}
	return nil
}

func (e *edits) apply(s *specs.Spec) error {
	for _, v := range e.Env {
		setEnv(s, v)
	}
	for _, n := range e.Nodes {
		if err := n.apply(s); err != nil {
			return err
		}
	}
	for _, n := range e.NetDevices {
		if s.Linux.NetDevices == nil {
			s.Linux.NetDevices = map[string]specs.LinuxNetDevice{}
		}
		s.Linux.NetDevices[n.Host] = specs.LinuxNetDevice{Name: n.Name}
	}
	for _, m := range e.Mounts {
		m.apply(s)
	}
	for _, h := range e.Hooks {
		h.apply(s)
	}
	if r := e.Rdt; r != nil {
		s.Linux.IntelRdt = &specs.LinuxIntelRdt{
			ClosID: r.ClosID, L3CacheSchema: r.L3Schema, MemBwSchema: r.MemSchema, Schemata: r.Schemata,
			EnableMonitoring: r.Monitoring || r.CMT || r.MBM,
		}
	}
	for _, g := range e.Groups {
		if g != 0 && !slices.Contains(s.Process.User.AdditionalGids, g) {
			s.Process.User.AdditionalGids = append(s.Process.User.AdditionalGids, g)
		}
	}
	return nil
}

func setEnv(s *specs.Spec, v string) {
	name, _, _ := strings.Cut(v, "=")
	same := func(have string) bool { return strings.HasPrefix(have, name+"=") }
	if i := slices.IndexFunc(s.Process.Env, same); i >= 0 {
		s.Process.Env[i] = v
		return
	}
	s.Process.Env = append(s.Process.Env, v)
}

// apply adds a device node, with what is not said of it as the host has it. Its
// owner is the container's user, who is to use it.
func (n node) apply(s *specs.Spec) error {
	dev := specs.LinuxDevice{Path: path.Clean(n.Path), Type: n.Type, Major: n.Major, Minor: n.Minor, FileMode: n.FileMode, UID: n.UID, GID: n.GID}
	if dev.Type == "u" {
		dev.Type = "c" // another word for it
	}
	if dev.Type == "" || dev.Type != "p" && dev.Major == 0 && dev.Minor == 0 {
		if err := n.fill(&dev); err != nil {
			return err
		}
	}
	if u := s.Process.User; dev.UID == nil && u.UID > 0 {
		dev.UID = &u.UID
	}
	if u := s.Process.User; dev.GID == nil && u.GID > 0 {
		dev.GID = &u.GID
	}
	s.Linux.Devices = slices.DeleteFunc(s.Linux.Devices, func(o specs.LinuxDevice) bool { return o.Path == dev.Path })
	s.Linux.Devices = append(s.Linux.Devices, dev)
	if dev.Type == "p" {
		return nil
	}
	access := n.Permissions
	if access == "" {
		access = "rwm"
	}
	if s.Linux.Resources == nil {
		s.Linux.Resources = &specs.LinuxResources{}
	}
	s.Linux.Resources.Devices = append(s.Linux.Resources.Devices, specs.LinuxDeviceCgroup{
		Allow: true, Type: dev.Type, Major: &dev.Major, Minor: &dev.Minor, Access: access,
	})
	return nil
}

// fill looks at the host's node.
func (n node) fill(dev *specs.LinuxDevice) error {
	from := n.HostPath
	if from == "" {
		from = n.Path
	}
	st, err := os.Stat(from)
	if err != nil {
		return errdefs.New(errdefs.Invalid, "CDI device node %s: %w", n.Path, err)
	}
	kind := ""
	switch m := st.Mode(); {
	case m&fs.ModeCharDevice != 0:
		kind = "c"
	case m&fs.ModeDevice != 0:
		kind = "b"
	case m&fs.ModeNamedPipe != 0:
		kind = "p"
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if kind == "" || !ok || dev.Type != "" && dev.Type != kind {
		return errdefs.New(errdefs.Invalid, "CDI device node %s: %s is not a device of type %q", n.Path, from, dev.Type)
	}
	dev.Type = kind
	if kind != "p" {
		// The kernel's dev_t as glibc's gnu_dev_major splits it.
		dev.Major = int64(sys.Rdev>>8&0xfff | sys.Rdev>>32&0xfffff000)
		dev.Minor = int64(sys.Rdev&0xff | sys.Rdev>>12&0xffffff00)
	}
	if dev.FileMode == nil {
		mode := st.Mode().Perm()
		dev.FileMode = &mode
	}
	return nil
}

// apply adds a mount, behind those that it may lie in.
func (m mount) apply(s *specs.Spec) {
	out := specs.Mount{Destination: path.Clean(m.ContainerPath), Type: m.Type, Source: m.HostPath, Options: slices.Clone(m.Options)}
	if out.Type == "" {
		out.Type = "bind"
	}
	bound := func(o string) bool { return o == "bind" || o == "rbind" }
	if out.Type == "bind" && !slices.ContainsFunc(out.Options, bound) {
		out.Options = append(out.Options, "rbind")
	}
	s.Mounts = slices.DeleteFunc(s.Mounts, func(o specs.Mount) bool { return o.Destination == out.Destination })
	s.Mounts = append(s.Mounts, out)
}

// hookKinds are the moments at which a hook may run.
func hookKinds() []string {
	return []string{"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"}
}

func (h hook) apply(s *specs.Spec) {
	if s.Hooks == nil {
		s.Hooks = &specs.Hooks{}
	}
	to := map[string]*[]specs.Hook{
		"prestart":        &s.Hooks.Prestart, //nolint:staticcheck // vendors still write it
		"createRuntime":   &s.Hooks.CreateRuntime,
		"createContainer": &s.Hooks.CreateContainer,
		"startContainer":  &s.Hooks.StartContainer,
		"poststart":       &s.Hooks.Poststart,
		"poststop":        &s.Hooks.Poststop,
	}[h.Kind]
	*to = append(*to, specs.Hook{Path: h.Path, Args: slices.Clone(h.Args), Env: slices.Clone(h.Env), Timeout: h.Timeout})
}
