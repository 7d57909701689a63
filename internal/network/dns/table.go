package dns

import (
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
	"sync"
)

// Host is a container's place in a network, as others in it see it.
type Host struct {
	// Name of the container; reverse lookups return it, followed by the network's.
	Name string
	// Aliases are further names, in this network only: those that were asked for,
	// and the container's short id. Several hosts may share one.
	Aliases []string
	Addrs   []netip.Addr
}

// Table holds the names of all networks. The zero Table is empty and ready. Its
// methods may be called concurrently.
type Table struct {
	mu       sync.RWMutex
	networks map[string]*zone // by name; guarded by mu
}

// zone is the names of one network.
type zone struct {
	hosts map[string]Host       // by key
	names map[string][]string   // keys of the hosts that have a name, oldest first
	addrs map[netip.Addr]string // name by address
}

// Put adds a host to a network, or changes it. key tells it from others there,
// such as the container's id.
func (t *Table) Put(network, key string, h Host) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.remove(network, key)
	z := t.networks[network]
	if z == nil {
		z = &zone{hosts: map[string]Host{}, names: map[string][]string{}, addrs: map[netip.Addr]string{}}
		if t.networks == nil {
			t.networks = map[string]*zone{}
		}
		t.networks[network] = z
	}
	h = Host{Name: h.Name, Aliases: slices.Clone(h.Aliases), Addrs: slices.Clone(h.Addrs)}
	z.hosts[key] = h
	for _, n := range h.names() {
		z.names[n] = append(z.names[n], key)
	}
	for _, a := range h.Addrs {
		z.addrs[a.Unmap()] = h.Name
	}
}

// Remove takes a host out of a network.
func (t *Table) Remove(network, key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.remove(network, key)
}

func (t *Table) remove(network, key string) {
	z := t.networks[network]
	if z == nil {
		return
	}
	h, ok := z.hosts[key]
	if !ok {
		return
	}
	delete(z.hosts, key)
	for _, n := range h.names() {
		rest := slices.DeleteFunc(slices.Clone(z.names[n]), func(k string) bool { return k == key })
		if z.names[n] = rest; len(rest) == 0 {
			delete(z.names, n)
		}
	}
	for _, a := range h.Addrs {
		delete(z.addrs, a.Unmap())
	}
	if len(z.hosts) == 0 {
		delete(t.networks, network)
	}
}

// names returns all names of a host, in lower case, each once.
func (h *Host) names() []string {
	var out []string
	for _, n := range append([]string{h.Name}, h.Aliases...) {
		if n = strings.ToLower(strings.TrimSuffix(n, ".")); n != "" && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

// Scope is what one container sees.
type Scope struct {
	// Networks that it is in, the first asked first.
	Networks []string
	// Links are names that only this container uses for others: the name of a
	// host by alias.
	Links map[string]string
}

// View is the names that one container sees. Make one with Table.View.
type View struct {
	table *Table
	scope func() Scope
}

// View returns the names of the networks that scope says, each time they are
// asked for.
func (t *Table) View(scope func() Scope) *View { return &View{table: t, scope: scope} }

// Addresses returns the addresses of a name in the first network that has it.
// A name may be followed by that of a network: then it is looked up in that
// network, if the container is in it.
func (v *View) Addresses(name string) ([]netip.Addr, bool) {
	s := v.scope()
	for alias, target := range s.Links {
		if strings.EqualFold(alias, name) {
			name = strings.ToLower(target)
			break
		}
	}
	v.table.mu.RLock()
	defer v.table.mu.RUnlock()
	for _, n := range s.Networks {
		z := v.table.networks[n]
		if z == nil {
			continue
		}
		if addrs, ok := z.lookup(name); ok {
			return addrs, true
		}
		if short, ok := strings.CutSuffix(name, "."+strings.ToLower(n)); ok {
			if addrs, ok := z.lookup(short); ok {
				return addrs, true
			}
		}
	}
	return nil, false
}

func (z *zone) lookup(name string) (addrs []netip.Addr, ok bool) {
	keys, ok := z.names[name]
	for _, k := range keys {
		addrs = append(addrs, z.hosts[k].Addrs...)
	}
	return addrs, ok
}

// Name returns the name of an address, followed by its network's.
func (v *View) Name(addr netip.Addr) (string, bool) {
	networks := v.scope().Networks
	v.table.mu.RLock()
	defer v.table.mu.RUnlock()
	for _, n := range networks {
		if z := v.table.networks[n]; z != nil {
			if name, ok := z.addrs[addr.Unmap()]; ok {
				return name + "." + n, true
			}
		}
	}
	return "", false
}

// ShortID returns the alias that every container has: the first twelve digits
// of its id, or nothing if id is none.
func ShortID(id string) string {
	if len(id) < 12 {
		return ""
	}
	if _, err := hex.DecodeString(id[:12]); err != nil {
		return ""
	}
	return id[:12]
}
