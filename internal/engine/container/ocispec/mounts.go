package ocispec

import (
	"slices"
	"strconv"
	"strings"

	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/engine/container/request"
)

// mounts puts the mounts together: the default ones as the modes have them,
// then the engine's files, then the request's, of which one with the same
// target takes the place of an earlier one.
func mounts(s *specs.Spec, in Input) {
	var out []specs.Mount
	for _, m := range s.Mounts {
		if m, ok := defaultMount(m, in); ok {
			out = append(out, m)
		}
	}
	for _, f := range []struct{ source, target string }{
		{in.Resolv, "/etc/resolv.conf"}, {in.Hostname, "/etc/hostname"}, {in.Hosts, "/etc/hosts"},
	} {
		if f.source != "" {
			out = append(out, specs.Mount{Destination: f.target, Type: "bind", Source: f.source, Options: []string{"rbind", "rprivate"}})
		}
	}
	if in.Init != "" {
		out = append(out, specs.Mount{Destination: initPath, Type: "bind", Source: in.Init, Options: []string{"bind", "ro", "rprivate"}})
	}
	for _, m := range in.Mounts {
		out = slices.DeleteFunc(out, func(o specs.Mount) bool { return o.Destination == m.Target })
		switch m.Type {
		case mount.TypeBind, mount.TypeVolume, mount.TypeImage:
			out = append(out, bind(s, in, m))
		case mount.TypeTmpfs:
			out = append(out, specs.Mount{Destination: m.Target, Type: "tmpfs", Source: "tmpfs", Options: slices.Concat(m.Tmpfs, readOnly(m), []string{"rprivate"})})
		default: // request.Mounts makes no others
		}
	}
	s.Mounts = out
}

func readOnly(m request.Mount) []string {
	if m.ReadOnly && !slices.Contains(m.Tmpfs, "ro") {
		return []string{"ro"}
	}
	return nil
}

// defaultMount adapts one of the default mounts, or drops it.
func defaultMount(m specs.Mount, in Input) (specs.Mount, bool) {
	h := in.Host
	m.Options = slices.Clone(m.Options)
	switch m.Destination {
	case "/dev/shm":
		switch {
		case h.IpcMode.IsNone():
			return m, false
		case h.IpcMode.IsHost():
			return specs.Mount{Destination: m.Destination, Type: "bind", Source: "/dev/shm", Options: []string{"rbind", "rprivate"}}, true
		}
		m.Options = slices.DeleteFunc(m.Options, func(o string) bool { return strings.HasPrefix(o, "size=") })
		m.Options = append(m.Options, "size="+strconv.FormatInt(h.ShmSize, 10))
	case "/dev/mqueue":
		if h.IpcMode.IsHost() {
			return specs.Mount{Destination: m.Destination, Type: "bind", Source: "/dev/mqueue", Options: []string{"rbind", "rprivate"}}, true
		}
	case "/sys", "/sys/fs/cgroup":
		if h.Privileged || m.Destination == "/sys/fs/cgroup" && writableCgroups(h) {
			m.Options = slices.DeleteFunc(m.Options, func(o string) bool { return o == "ro" })
			m.Options = append(m.Options, "rw")
		}
	}
	return m, true
}

func writableCgroups(h *api.HostConfig) bool {
	sec, err := request.ParseSecurity(h)
	return err == nil && sec.WritableCgroups
}

// bind derives a bind mount. In a user namespace its ids are mapped like the
// container's: what root in the container writes belongs to root on the host's
// side of the mount, and the other way round, as without a user namespace.
func bind(s *specs.Spec, in Input, m request.Mount) specs.Mount {
	o := []string{"rbind"}
	if m.NonRecursive {
		o[0] = "bind"
	}
	switch {
	case m.ReadOnly && m.RecursiveReadOnly && !m.NonRecursive:
		o = append(o, "ro", "rro")
	case m.ReadOnly:
		o = append(o, "ro")
	default:
		o = append(o, "rw")
	}
	if m.Propagation == "" {
		m.Propagation = mount.PropagationRPrivate
	}
	o = append(o, string(m.Propagation))
	out := specs.Mount{Destination: m.Target, Type: "bind", Source: m.Source}
	if how := in.Machine.Idmap[m.Source]; how != "" && in.IDBase != 0 {
		o = append(o, how)
		ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: in.IDBase, Size: in.IDSize}}
		out.UIDMappings, out.GIDMappings = ids, slices.Clone(ids)
	}
	out.Options = o
	switch {
	case m.Shared():
		s.Linux.RootfsPropagation = "shared"
	case (m.Propagation == mount.PropagationRSlave || m.Propagation == mount.PropagationSlave) && s.Linux.RootfsPropagation == "":
		// The root must not be private, or nothing would be received.
		s.Linux.RootfsPropagation = "rslave"
	}
	return out
}
