package container

import (
	"errors"
	"fmt"
	"path/filepath"

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
func (s *Service) ociConfig(def record.Definition, who account.Identity) (*specs.Spec, error) {
	in := ocispec.Input{
		ID: def.ID, Config: def.Config, Host: def.Host, Mounts: def.Mounts, Who: who,
		IDBase: def.IDBase, IDSize: idrange.Size, Init: "",
	}
	if i := def.Host.Init; i != nil && *i {
		in.Init = s.cfg.Init
	}
	var err error
	if in.Join, err = s.joinedNamespaces(def); err != nil {
		return nil, err
	}
	owner := def.ID
	if ref := def.Host.NetworkMode.ConnectedContainer(); ref != "" {
		owner = ref // who shares a network shares its names
	}
	dir := s.dataDir(owner)
	in.Hosts, in.Hostname, in.Resolv = filepath.Join(dir, hostsFile), filepath.Join(dir, hostnameFile), filepath.Join(dir, resolvFile)
	if in.Machine, err = s.machine(def); err != nil {
		return nil, err
	}
	config, err := ocispec.Build(in)
	if err == nil && s.foreign(def.Host.Runtime) {
		config.Version = foreignVersion
	}
	return config, err
}

// joinedNamespaces returns the paths of the namespaces of other containers that
// this one shares; they must run.
func (s *Service) joinedNamespaces(def record.Definition) (map[specs.LinuxNamespaceType]string, error) {
	out := map[specs.LinuxNamespaceType]string{}
	add := func(ref string, kinds map[specs.LinuxNamespaceType]string) error {
		if ref == "" {
			return nil
		}
		c, err := s.lookup(ref)
		if err != nil {
			return err
		}
		other, st := c.view()
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
func (s *Service) machine(def record.Definition) (ocispec.Machine, error) {
	m := ocispec.Machine{HardLimits: s.cfg.Host.HardLimits, Swap: s.cfg.Host.Swap}
	if def.IDBase != 0 {
		m.Idmap = map[string]string{}
		for _, mt := range def.Mounts {
			if mt.Source != "" {
				m.Idmap[mt.Source] = s.idmappable(mt)
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
func (s *Service) idmappable(m request.Mount) string {
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
	s.log.Warn("the file system cannot map ids: files of the host's root show as nobody's", "source", m.Source, "err", err)
	return ""
}
