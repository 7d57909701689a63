package container

import (
	"context"

	api "github.com/moby/moby/api/types/container"
	"github.com/opencontainers/go-digest"

	"lade/internal/engine/container/idrange"
	"lade/internal/engine/container/record"
	"lade/internal/linux/mount"
)

// Committable is what of a container makes an image.
type Committable struct {
	ID      string
	Image   digest.Digest
	Config  *api.Config
	IDs     []mount.IDMap // the container's user namespace; nil without
	Running bool          // and not paused
	// Mountpoints are files that the runtime makes, to mount over.
	Mountpoints []string
}

// Committable finds a container.
func (s *Service) Committable(_ context.Context, ref string) (Committable, error) {
	c, err := s.lookup(ref)
	if err != nil {
		return Committable{}, err
	}
	def, st := c.view()
	out := Committable{
		ID: def.ID, Image: def.Image.ID, Config: def.Config, Running: st.Status == api.StateRunning,
		Mountpoints: mountpoints(def),
	}
	if def.IDBase != 0 {
		out.IDs = []mount.IDMap{{Host: def.IDBase, Size: idrange.Size}}
	}
	return out, nil
}

// mountpoints are the files over which something is mounted in a container.
func mountpoints(def record.Definition) []string {
	list := []string{"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"}
	for _, m := range def.Mounts {
		list = append(list, m.Target)
	}
	return list
}
