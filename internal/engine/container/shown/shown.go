// Package shown turns what is recorded of a container into what Docker shows of it.
package shown

import (
	"io/fs"
	"net/netip"
	"path/filepath"
	"syscall"
	"time"

	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"

	"lade/internal/engine/container/record"
	"lade/internal/engine/container/request"
)

// State shows how a container is.
func State(st record.State) *api.State {
	return &api.State{
		Status: st.Status, Running: st.Up(), Restarting: st.Status == api.StateRestarting, Paused: st.Status == api.StatePaused, OOMKilled: st.OOMKilled,
		Dead: st.Status == api.StateDead, Pid: st.PID, ExitCode: st.ExitCode, Error: st.Error,
		Health: st.Health, StartedAt: formatTime(st.StartedAt), FinishedAt: formatTime(st.FinishedAt),
	}
}

func formatTime(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// Host shows empty lists as Docker does, not as null.
func Host(h *api.HostConfig) *api.HostConfig {
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

// Mounts shows what is mounted.
func Mounts(mounts []request.Mount) []api.MountPoint {
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
		if m.Type == mount.TypeImage {
			p.Name, p.Source = m.Image, m.Image
		}
		out = append(out, p)
	}
	return out
}

// Written returns how many bytes on disk the writable layer of a container
// takes, whose directory is dir: files, or a file system in a file.
func Written(dir string) int64 {
	return usage(filepath.Join(dir, "upper")) + usage(filepath.Join(dir, "upper.img"))
}

// usage returns how many bytes the files below path take on disk.
func usage(path string) int64 {
	var total int64
	_ = filepath.WalkDir(path, func(_ string, e fs.DirEntry, err error) error {
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
