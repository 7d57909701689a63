package container

import (
	"cmp"
	"fmt"

	api "github.com/moby/moby/api/types/container"

	"lade/internal/engine/container/record"
	"lade/internal/engine/container/request"
	"lade/internal/engine/container/userns"
	"lade/internal/errdefs"
)

// whyNoUserNS says why a container can have no user namespace of its own, or "".
// Runtimes that are not Lade's open the root as the container's root, who may
// not enter the engine's directories.
func (s *Service) whyNoUserNS(h *api.HostConfig) string {
	switch why := userns.WhyNone(h); {
	case why != "":
		return why
	case s.launcher.Foreign(h.Runtime):
		return "--runtime=" + h.Runtime
	case !s.cfg.Host.UserNamespaces:
		return "this kernel or user cannot"
	}
	return ""
}

// chooseUserNS decides on the user namespace of a new container. Where it
// joins another container's namespace, it must be that container's.
func (s *Service) chooseUserNS(d *record.Definition) error {
	var owner *record.Definition
	for _, ref := range userns.Joined(d.Host) {
		c, err := s.lookup(ref)
		if err != nil {
			return err
		}
		other, _ := c.view()
		if owner != nil && (owner.IDBase != other.IDBase) {
			return errdefs.Hint(errdefs.New(errdefs.Conflict, "containers %s and %s have different user namespaces", owner.Name, other.Name), "join the namespaces of one container only, or create both with --userns=host")
		}
		owner = &other
	}
	if why := cmp.Or(s.whyNoUserNS(d.Host), sharedMount(d.Mounts)); why != "" {
		if owner != nil && owner.IDBase != 0 {
			return errdefs.New(errdefs.Conflict, "container %s has its own user namespace, which %s does not go with", owner.Name, why)
		}
		d.NoUserNS = why
		return nil
	}
	if owner != nil {
		d.IDBase, d.NoUserNS, d.UserNSOf = owner.IDBase, owner.NoUserNS, owner.ID
		if d.IDBase == 0 {
			d.NoUserNS = fmt.Sprintf("container %s has none", owner.Name)
			d.UserNSOf = ""
		}
		s.ids.Share(d.IDBase)
		return nil
	}
	base, err := s.ids.Allocate(d.ID)
	d.IDBase = base
	return err
}

// sharedMount returns a mount that rules a user namespace out: what is mounted
// in one never reaches the host.
func sharedMount(mounts []request.Mount) string {
	for _, m := range mounts {
		if m.Shared() {
			return fmt.Sprintf("propagation %s of the mount at %s", m.Propagation, m.Target)
		}
	}
	return ""
}
