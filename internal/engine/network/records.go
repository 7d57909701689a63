package network

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"

	"lade/internal/engine/network/definition"
	"lade/internal/errdefs"
	"lade/internal/metadata"
	"lade/internal/network/bridge"
)

// netRecord is the record of a network that is up.
type netRecord struct {
	ID string `json:"id"`
	bridge.Network
}

// portRecord is the record of a container's endpoint. It is written before the
// link is made and struck off after it is gone.
type portRecord struct {
	Container  string   `json:"container"`
	Network    string   `json:"network"` // id
	Endpoint   string   `json:"endpoint"`
	Aliases    []string `json:"aliases,omitempty"`
	GwPriority int      `json:"gwPriority,omitempty"`
	bridge.Port
}

// placeRecord is the record of what a container has besides its endpoints.
type placeRecord struct {
	Container string      `json:"container"`
	Name      string      `json:"name"`
	Published []published `json:"published,omitempty"`
}

// published is a port of the host that leads to one of a container.
type published struct {
	Protocol  uint8          `json:"protocol"`
	Host      netip.AddrPort `json:"host"`
	Container uint16         `json:"container"`
	// To is where packets go; it is not valid while the container is in no network
	// that they could come by.
	To netip.AddrPort `json:"to,omitzero"`
}

func definitions() metadata.Collection[definition.Network] {
	return metadata.Collection[definition.Network]{Name: "networks", Noun: "network"}
}

func networks() metadata.Collection[netRecord] {
	return metadata.Collection[netRecord]{Name: "network", Noun: "network"}
}

func endpoints() metadata.Collection[portRecord] {
	return metadata.Collection[portRecord]{Name: "endpoint", Noun: "endpoint"}
}

func tables() metadata.Collection[table] {
	return metadata.Collection[table]{Name: "rules", Noun: "table of rules"}
}

func (s *Service) putTable(t table) error {
	return s.o.Records.Update(func(tx *metadata.Tx) error { return tables().Put(tx, "table", t) })
}

func places() metadata.Collection[placeRecord] {
	return metadata.Collection[placeRecord]{Name: "place", Noun: "place in networks"}
}

// idOf returns the id of one of the networks that are always there.
func idOf(name string) string {
	sum := sha256.Sum256([]byte("network " + name))
	return hex.EncodeToString(sum[:])
}

// load reads the definitions.
func (s *Service) load() error {
	for name, driver := range map[string]string{Default: definition.Bridge, "host": definition.Host, "none": definition.Null} {
		d := definition.Network{ID: idOf(name), Name: name, Driver: driver, IPv4: true, IPv6: driver == definition.Bridge && haveIPv6()}
		s.nets[d.ID] = &network{def: d, ports: map[string]*port{}}
	}
	return s.o.Durable.View(func(tx *metadata.Tx) error {
		return definitions().Each(tx, func(_ string, d definition.Network) error {
			n := &network{def: d, ports: map[string]*port{}}
			pools, err := poolsOf(&n.def)
			if err != nil {
				return errdefs.With(errdefs.DataLoss, fmt.Errorf("read network %s: %w", d.Name, err))
			}
			if n.pools = pools; d.Name == Default {
				n.def.IPv6 = haveIPv6()
			}
			s.nets[d.ID] = n
			return nil
		})
	})
}

func haveIPv6() bool {
	_, err := forwarding(6)
	return err == nil
}

func (s *Service) putDefinition(d definition.Network) error {
	return s.o.Durable.Update(func(tx *metadata.Tx) error { return definitions().Put(tx, d.ID, d) })
}

func (s *Service) deleteDefinition(id string) error {
	return s.o.Durable.Update(func(tx *metadata.Tx) error { return definitions().Delete(tx, id) })
}

func (s *Service) putNetwork(r netRecord) error {
	return s.o.Records.Update(func(tx *metadata.Tx) error { return networks().Put(tx, r.ID, r) })
}

func (s *Service) deleteNetwork(r netRecord) error {
	return s.o.Records.Update(func(tx *metadata.Tx) error { return networks().Delete(tx, r.ID) })
}

// putPlace records a place with its ports.
func (s *Service) putPlace(p *place) error {
	return s.o.Records.Update(func(tx *metadata.Tx) error {
		for _, o := range p.ports {
			if err := endpoints().Put(tx, o.rec.Container+"/"+o.rec.Endpoint, o.rec); err != nil {
				return err
			}
		}
		return places().Put(tx, p.rec.Container, p.rec)
	})
}

func (s *Service) deletePlace(p *place) error {
	return s.o.Records.Update(func(tx *metadata.Tx) error { return places().Delete(tx, p.rec.Container) })
}

// deletePorts strikes ports off, and the places of containers that have none left.
func (s *Service) deletePorts(ports []*port) error {
	return s.o.Records.Update(func(tx *metadata.Tx) error {
		for _, p := range ports {
			if err := endpoints().Delete(tx, p.rec.Container+"/"+p.rec.Endpoint); err != nil {
				return err
			}
			if s.places[p.rec.Container] == nil {
				if err := places().Delete(tx, p.rec.Container); err != nil {
					return err
				}
			}
		}
		return nil
	})
}
