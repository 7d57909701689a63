package launch

import (
	"errors"
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"

	api "github.com/moby/moby/api/types/container"

	"lade/internal/engine/container/hostfacts"
	"lade/internal/engine/container/idrange"
	"lade/internal/engine/container/ocispec"
	"lade/internal/engine/container/record"
	"lade/internal/engine/container/request"
	"lade/internal/errdefs"
	"lade/internal/image/account"
	"lade/internal/linux/mount"
)

// foreignVersion is what runtimes other than Lade's are told: many refuse a
// version that is newer than themselves, though they know all that is used.
const foreignVersion = "1.0.2"

// ociConfig gathers what a container's configuration depends on, and derives it.
func (l *Launcher) ociConfig(def record.Definition, who account.Identity) (*specs.Spec, error) {
	in := ocispec.Input{
		ID: def.ID, Config: def.Config, Host: def.Host, Mounts: l.sources(def), Who: who,
		IDBase: def.IDBase, IDSize: idrange.Size, Init: "",
	}
	if i := def.Host.Init; i != nil && *i {
		in.Init = l.cfg.Init
	}
	var err error
	if in.Join, err = l.joinedNamespaces(def); err != nil {
		return nil, err
	}
	owner := def.ID
	if ref := def.Host.NetworkMode.ConnectedContainer(); ref != "" {
		owner = ref // who shares a network shares its names
	}
	in.Hosts, in.Hostname, in.Resolv = l.cfg.Hosts(owner), l.cfg.Hostname(owner), l.cfg.Resolv(owner)
	if in.Machine, err = l.machine(def); err != nil {
		return nil, err
	}
	config, err := ocispec.Build(in)
	if err != nil {
		return nil, err
	}
	if l.Foreign(def.Host.Runtime) {
		config.Version = foreignVersion
	}
	if err := l.addDevices(config, def.Host); err != nil {
		return nil, err
	}
	return config, l.ownNodes(config, def)
}

// addDevices gives a container the devices that its request names, as they are
// described now.
func (l *Launcher) addDevices(config *specs.Spec, h *api.HostConfig) error {
	if len(h.DeviceRequests) == 0 {
		return nil
	}
	known := l.cfg.CDI.Load()
	names, err := known.Requested(h.DeviceRequests)
	if err != nil {
		return err
	}
	return known.Apply(config, names)
}

// CheckDevices refuses a request for devices that nobody has described.
func (l *Launcher) CheckDevices(h *api.HostConfig) error {
	if len(h.DeviceRequests) == 0 {
		return nil
	}
	known := l.cfg.CDI.Load()
	names, err := known.Requested(h.DeviceRequests)
	if err != nil {
		return err
	}
	return known.Check(names)
}

// joinedNamespaces returns the paths of the namespaces of other containers that
// this one shares; they must run.
func (l *Launcher) joinedNamespaces(def record.Definition) (map[specs.LinuxNamespaceType]string, error) {
	out := map[specs.LinuxNamespaceType]string{}
	add := func(ref string, kinds map[specs.LinuxNamespaceType]string) error {
		if ref == "" {
			return nil
		}
		other, st, err := l.others(ref)
		if err != nil {
			return err
		}
		if st.Status != api.StateRunning {
			return errdefs.New(errdefs.Conflict, "cannot join namespaces of a non running container: %s", other.Name)
		}
		for kind, file := range kinds {
			out[kind] = fmt.Sprintf("/proc/%d/ns/%s", st.PID, file)
		}
		if def.IDBase != 0 {
			out[specs.UserNamespace] = fmt.Sprintf("/proc/%d/ns/user", st.PID)
		}
		return nil
	}
	h := def.Host
	return out, errors.Join(
		add(h.NetworkMode.ConnectedContainer(), map[specs.LinuxNamespaceType]string{specs.NetworkNamespace: "net"}),
		add(h.PidMode.Container(), map[specs.LinuxNamespaceType]string{specs.PIDNamespace: "pid"}),
		add(h.IpcMode.Container(), map[specs.LinuxNamespaceType]string{specs.IPCNamespace: "ipc"}),
	)
}

// machine gathers what the configuration must know of the host.
func (l *Launcher) machine(def record.Definition) (ocispec.Machine, error) {
	m := ocispec.Machine{HardLimits: l.cfg.Host.HardLimits, Swap: l.cfg.Host.Swap}
	if def.IDBase != 0 {
		m.Idmap = map[string]string{}
		places := l.sources(def)
		for i, mt := range def.Mounts {
			if mt.Source != "" {
				m.Idmap[places[i].Source] = l.idmappable(mt)
			}
		}
	}
	var err error
	if m.Devices, err = hostfacts.Devices(def.Host); err != nil {
		return m, err
	}
	m.BlockDevices, err = hostfacts.BlockDevices(def.Host)
	return m, err
}

// idmappable says how the source of a bind mount can be mapped.
func (l *Launcher) idmappable(m request.Mount) string {
	try := []string{"ridmap", "idmap"}
	if m.NonRecursive {
		try = try[1:]
	}
	var err error
	for _, how := range try {
		if err = mount.CanIDMap(m.Source, how == "ridmap"); err == nil {
			return how
		}
	}
	l.log.Warn("the file system cannot map ids: files of the host's root show as nobody's", "source", m.Source, "err", err)
	return ""
}
