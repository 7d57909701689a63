package container

import (
	"context"
	"io/fs"
	"net/netip"
	"path/filepath"
	"syscall"
	"time"

	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/storage"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/engine/container/logdriver"
	"lade/internal/engine/container/record"
	"lade/internal/engine/container/request"
	"lade/internal/logs/forward"
)

// Inspect returns all that is known about a container.
func (s *Service) Inspect(_ context.Context, ref string, size bool) (api.InspectResponse, error) {
	c, err := s.lookup(ref)
	if err != nil {
		return api.InspectResponse{}, err
	}
	d, st := c.view()
	command := request.Command(d.Config)
	r := api.InspectResponse{
		ID:              d.ID,
		Created:         d.Created.Format(time.RFC3339Nano),
		Path:            command[0],
		Args:            append([]string{}, command[1:]...),
		State:           inspectState(st),
		Image:           d.Image.ID.String(),
		ResolvConfPath:  s.cfg.Resolv(d.ID),
		HostnamePath:    s.cfg.Hostname(d.ID),
		HostsPath:       s.cfg.Hosts(d.ID),
		LogPath:         s.cfg.LogDir(d.ID),
		Name:            "/" + d.Name,
		RestartCount:    st.Restarts,
		Driver:          "lade",
		Platform:        "linux",
		HostConfig:      inspectHost(d.Host),
		Storage:         &storage.Storage{RootFS: &storage.RootFSStorage{Snapshot: &storage.RootFSStorageSnapshot{Name: "lade"}}},
		Mounts:          mountPoints(d.Mounts),
		Config:          d.Config,
		NetworkSettings: networkSettings(d, st),
	}
	if d.Host.LogConfig.Type == forward.JSONFile {
		r.LogPath = logdriver.JSONFile(filepath.Dir(r.LogPath), d.ID)
	}
	if d.Image.Manifest != "" {
		r.ImageManifestDescriptor = &ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: d.Image.Manifest}
	}
	if size {
		rw := diskUsage(filepath.Join(s.cfg.Data(d.ID), "upper"))
		r.SizeRw, r.SizeRootFs = &rw, &rw
	}
	return r, nil
}

func inspectState(st record.State) *api.State {
	return &api.State{
		Status: st.Status, Running: st.Up(), Restarting: st.Status == api.StateRestarting, Paused: st.Status == api.StatePaused, OOMKilled: st.OOMKilled,
		Dead: st.Status == api.StateDead, Pid: st.PID, ExitCode: st.ExitCode, Error: st.Error,
		Health: st.Health, StartedAt: formatTime(st.StartedAt), FinishedAt: formatTime(st.FinishedAt),
	}
}

func formatTime(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// inspectHost shows empty lists as Docker does, not as null.
func inspectHost(h *api.HostConfig) *api.HostConfig {
	c := *h
	if c.PortBindings == nil {
		c.PortBindings = network.PortMap{}
	}
	if c.DNS == nil {
		c.DNS = []netip.Addr{}
	}
	if c.DNSOptions == nil {
		c.DNSOptions = []string{}
	}
	if c.DNSSearch == nil {
		c.DNSSearch = []string{}
	}
	return &c
}

func mountPoints(mounts []request.Mount) []api.MountPoint {
	out := []api.MountPoint{}
	for _, m := range mounts {
		if m.Type == mount.TypeTmpfs && m.Mode != "" {
			continue // Docker shows --tmpfs in HostConfig only
		}
		p := api.MountPoint{Type: m.Type, Source: m.Source, Destination: m.Target, Mode: m.Mode, RW: !m.ReadOnly, Propagation: m.Propagation}
		if m.Type == mount.TypeVolume {
			p.Name, p.Driver = m.Volume, "local"
			if p.Mode == "" && !m.Anonymous {
				p.Mode = "z" // as Docker shows it, SELinux or not
			}
		}
		out = append(out, p)
	}
	return out
}

func networkSettings(d record.Definition, st record.State) *api.NetworkSettings {
	n := &api.NetworkSettings{Ports: network.PortMap{}, Networks: endpoints(d, st)}
	if st.Alive() {
		n.SandboxID = d.ID
	}
	return n
}

// endpoints is the container's place in its network, as Docker shows it: also
// of one that does not run, and of those without a network of their own.
func endpoints(d record.Definition, st record.State) map[string]*network.EndpointSettings {
	if d.Host.NetworkMode.IsContainer() {
		return map[string]*network.EndpointSettings{}
	}
	name := d.Host.NetworkMode.NetworkName()
	e := &network.EndpointSettings{}
	if d.Networks != nil && d.Networks.EndpointsConfig[name] != nil {
		e = d.Networks.EndpointsConfig[name].Copy()
	}
	if p := st.Endpoint; p != nil {
		if prefix, err := netip.ParsePrefix(p.Address); err == nil {
			e.IPAddress, e.IPPrefixLen = prefix.Addr(), prefix.Bits()
		}
		e.Gateway, _ = netip.ParseAddr(p.Gateway)
		_ = e.MacAddress.UnmarshalText([]byte(p.MAC)) // shown where it is one
		e.EndpointID = d.ID
	}
	return map[string]*network.EndpointSettings{name: e}
}

// diskUsage returns how many bytes the files below dir take on disk.
func diskUsage(dir string) int64 {
	var total int64
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // it went while we looked
		}
		if info, err := e.Info(); err == nil {
			if st, ok := info.Sys().(*syscall.Stat_t); ok && info.Mode().IsRegular() {
				total += st.Blocks * 512
			}
		}
		return nil
	})
	return total
}
