package network

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"lade/internal/engine/network/definition"
	"lade/internal/engine/network/host"
	"lade/internal/engine/network/record"
	"lade/internal/errdefs"
	"lade/internal/network/bridge"
)

// idOf returns the id of one of the networks that are always there.
func idOf(name string) string {
	sum := sha256.Sum256([]byte("network " + name))
	return hex.EncodeToString(sum[:])
}

// load reads the definitions.
func (s *Service) load() error {
	for name, driver := range map[string]string{Default: definition.Bridge, "host": definition.Host, "none": definition.Null} {
		d := definition.Network{ID: idOf(name), Name: name, Driver: driver, IPv4: true, IPv6: driver == definition.Bridge && host.HaveIPv6()}
		s.nets[d.ID] = &network{def: d, ports: map[string]*port{}}
	}
	return s.store.Definitions(func(d definition.Network) error {
		n := &network{def: d, ports: map[string]*port{}}
		pools, err := poolsOf(&n.def)
		if err != nil {
			return errdefs.With(errdefs.DataLoss, fmt.Errorf("read network %s: %w", d.Name, err))
		}
		if n.pools = pools; d.Name == Default {
			n.def.IPv6 = host.HaveIPv6()
		}
		s.nets[d.ID] = n
		return nil
	})
}

// putPlace records a place with its ports. s.mu is held.
func (s *Service) putPlace(p *place) error { return s.store.PutPlace(p.rec, recordsOf(p.ports)) }

// deletePorts strikes ports off, and the places of containers that have none left.
// s.mu is held.
func (s *Service) deletePorts(ports []*port) error {
	return s.store.DeletePorts(recordsOf(ports), func(id string) bool { return s.places[id] == nil })
}

func recordsOf(ports []*port) (out []record.Port) {
	for _, o := range ports {
		out = append(out, o.rec)
	}
	return out
}

func linksOf(ports []*port) (out []bridge.Port) {
	for _, o := range ports {
		out = append(out, o.rec.Port)
	}
	return out
}
