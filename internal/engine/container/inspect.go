package container

import (
	"context"
	"path/filepath"
	"time"

	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/storage"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/engine/container/logdriver"
	"lade/internal/engine/container/place"
	"lade/internal/engine/container/request"
	"lade/internal/engine/container/shown"
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
		State:           shown.State(st),
		Image:           d.Image.ID.String(),
		ResolvConfPath:  s.cfg.Resolv(d.ID),
		HostnamePath:    s.cfg.Hostname(d.ID),
		HostsPath:       s.cfg.Hosts(d.ID),
		LogPath:         s.cfg.LogDir(d.ID),
		Name:            "/" + d.Name,
		RestartCount:    st.Restarts,
		Driver:          "lade",
		Platform:        "linux",
		HostConfig:      shown.Host(d.Host),
		Storage:         &storage.Storage{RootFS: &storage.RootFSStorage{Snapshot: &storage.RootFSStorageSnapshot{Name: "lade"}}},
		Mounts:          shown.Mounts(d.Mounts),
		Config:          d.Config,
		NetworkSettings: place.Settings(s.cfg.Networks, d, st),
	}
	if d.Host.LogConfig.Type == forward.JSONFile {
		r.LogPath = logdriver.JSONFile(filepath.Dir(r.LogPath), d.ID)
	}
	if d.Image.Manifest != "" {
		r.ImageManifestDescriptor = &ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: d.Image.Manifest}
	}
	if size {
		rw := shown.Written(s.cfg.Data(d.ID))
		r.SizeRw, r.SizeRootFs = &rw, &rw
	}
	return r, nil
}
