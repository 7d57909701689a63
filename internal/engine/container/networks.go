package container

import (
	"context"
	"fmt"

	"github.com/moby/moby/api/types/network"

	"lade/internal/engine/container/place"
	"lade/internal/engine/container/record"
	"lade/internal/errdefs"
)

// ConnectNetwork puts a container in one more network: now, if it runs, and at
// each start.
func (s *Service) ConnectNetwork(ctx context.Context, ref, to string, e *network.EndpointSettings) error {
	return s.changeNetworks(ctx, ref, to, func(d *record.Definition, pid int, name string) error {
		if err := place.Enter(s.cfg.Networks, d, name, e); err != nil || pid == 0 {
			return err
		}
		return s.cfg.Networks.Connect(ctx, *d, name, pid)
	})
}

// DisconnectNetwork takes a container out of a network.
func (s *Service) DisconnectNetwork(ctx context.Context, ref, from string) error {
	return s.changeNetworks(ctx, ref, from, func(d *record.Definition, pid int, name string) error {
		if err := place.Leave(d, name); err != nil || pid == 0 {
			return err
		}
		return s.cfg.Networks.Disconnect(ctx, d.ID, name)
	})
}

// changeNetworks runs change on a copy of a container's definition, which then
// counts. pid is 0 for a container that does not run.
func (s *Service) changeNetworks(ctx context.Context, ref, networkRef string, change func(*record.Definition, int, string) error) error {
	if s.cfg.Networks == nil {
		return errdefs.New(errdefs.NotImplemented, "the engine has no networks: it lacks the rights to make them")
	}
	c, err := s.acquire(ctx, ref)
	if err != nil {
		return err
	}
	defer c.op.unlock()
	name, err := s.cfg.Networks.Resolve(networkRef)
	if err != nil {
		return err
	}
	before, st := c.view()
	d := before
	if err := place.Changeable(&d, name); err != nil {
		return err
	}
	if err := change(&d, st.PID, name); err != nil {
		return err
	}
	if err := s.putDefinition(c, d); err != nil || st.PID == 0 {
		return err
	}
	if err := s.launcher.NameServers(before, d); err != nil {
		return err
	}
	return s.launcher.NameAddresses(d, place.Addresses(s.cfg.Networks, d.ID))
}

// putDefinition records a definition that has changed.
func (s *Service) putDefinition(c *container, d record.Definition) error {
	if err := s.records.PutDefinition(d); err != nil {
		return fmt.Errorf("change container %s: %w", d.Name, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.def = d
	return nil
}
