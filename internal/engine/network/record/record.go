// Package record keeps what a killed engine's successor must know of networks:
// their definitions, which last, and what is made of them on the host, which ends
// with the boot, as what it tells of does.
package record

import (
	"net/netip"

	"lade/internal/engine/network/definition"
	"lade/internal/engine/network/host"
	"lade/internal/errdefs"
	"lade/internal/metadata"
	"lade/internal/network/bridge"
)

// Network is a network that is up.
type Network struct {
	ID string `json:"id"`
	bridge.Network
}

// Port is a container's endpoint. It is recorded before the link is made and
// struck off after it is gone.
type Port struct {
	Container  string   `json:"container"`
	Network    string   `json:"network"` // id
	Endpoint   string   `json:"endpoint"`
	Aliases    []string `json:"aliases,omitempty"`
	GwPriority int      `json:"gwPriority,omitempty"`
	bridge.Port
}

func (p Port) key() string { return p.Container + "/" + p.Endpoint }

// Place is what a container has besides its endpoints.
type Place struct {
	Container string      `json:"container"`
	Name      string      `json:"name"`
	Published []Published `json:"published,omitempty"`
}

// Published is a port of the host that leads to one of a container.
type Published struct {
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

func networks() metadata.Collection[Network] {
	return metadata.Collection[Network]{Name: "network", Noun: "network"}
}

func endpoints() metadata.Collection[Port] {
	return metadata.Collection[Port]{Name: "endpoint", Noun: "endpoint"}
}

func tables() metadata.Collection[host.Table] {
	return metadata.Collection[host.Table]{Name: "rules", Noun: "table of rules"}
}

func places() metadata.Collection[Place] {
	return metadata.Collection[Place]{Name: "place", Noun: "place in networks"}
}

// Store is where records are.
type Store struct {
	Boot    *metadata.DB // those that end with the boot
	Durable *metadata.DB // those that do not
}

// Definitions calls fn with each definition.
func (s Store) Definitions(fn func(definition.Network) error) error {
	return s.Durable.View(func(tx *metadata.Tx) error {
		return definitions().Each(tx, func(_ string, d definition.Network) error { return fn(d) })
	})
}

// PutDefinition records a definition.
func (s Store) PutDefinition(d definition.Network) error {
	return s.Durable.Update(func(tx *metadata.Tx) error { return definitions().Put(tx, d.ID, d) })
}

// DeleteDefinition strikes a definition off.
func (s Store) DeleteDefinition(id string) error {
	return s.Durable.Update(func(tx *metadata.Tx) error { return definitions().Delete(tx, id) })
}

// Left is what the records of a boot tell of.
type Left struct {
	Networks []Network
	Ports    []Port
	Places   map[string]Place // by container
	Table    host.Table
}

// Left reads all records of this boot.
func (s Store) Left() (l Left, err error) {
	l.Places = map[string]Place{}
	err = s.Boot.View(func(tx *metadata.Tx) error {
		err := networks().Each(tx, func(_ string, r Network) error { l.Networks = append(l.Networks, r); return nil })
		if err == nil {
			err = endpoints().Each(tx, func(_ string, r Port) error { l.Ports = append(l.Ports, r); return nil })
		}
		if err == nil {
			err = places().Each(tx, func(id string, r Place) error { l.Places[id] = r; return nil })
		}
		if err != nil {
			return err
		}
		if l.Table, err = tables().Get(tx, "table"); errdefs.Is(err, errdefs.NotFound) {
			err = nil
		}
		return err
	})
	return l, err
}

// PutTable records the table of rules.
func (s Store) PutTable(t host.Table) error {
	return s.Boot.Update(func(tx *metadata.Tx) error { return tables().Put(tx, "table", t) })
}

// PutNetwork records a network that is to be up.
func (s Store) PutNetwork(r Network) error {
	return s.Boot.Update(func(tx *metadata.Tx) error { return networks().Put(tx, r.ID, r) })
}

// DeleteNetwork strikes a network off that is no longer up.
func (s Store) DeleteNetwork(r Network) error {
	return s.Boot.Update(func(tx *metadata.Tx) error { return networks().Delete(tx, r.ID) })
}

// PutPlace records a container's place with its ports.
func (s Store) PutPlace(p Place, ports []Port) error {
	return s.Boot.Update(func(tx *metadata.Tx) error {
		for _, o := range ports {
			if err := endpoints().Put(tx, o.key(), o); err != nil {
				return err
			}
		}
		return places().Put(tx, p.Container, p)
	})
}

// DeletePlace strikes a container's place off.
func (s Store) DeletePlace(container string) error {
	return s.Boot.Update(func(tx *metadata.Tx) error { return places().Delete(tx, container) })
}

// DeletePorts strikes ports off, and the places of containers that are gone.
func (s Store) DeletePorts(ports []Port, gone func(container string) bool) error {
	return s.Boot.Update(func(tx *metadata.Tx) error {
		for _, p := range ports {
			if err := endpoints().Delete(tx, p.key()); err != nil {
				return err
			}
			if gone(p.Container) {
				if err := places().Delete(tx, p.Container); err != nil {
					return err
				}
			}
		}
		return nil
	})
}
