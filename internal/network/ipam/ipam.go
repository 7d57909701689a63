// Package ipam picks subnets for networks, and gives out the addresses in
// them.
//
// A Pool is one subnet, IPv4 or IPv6. Its addresses are given out in a circle, so
// that one that was given back rests before it is used again; one that somebody
// asks for is taken. A Pool lives in memory; who has which address is recorded by
// its user, who takes the addresses in use when it starts again.
package ipam

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"sync"

	"lade/internal/errdefs"
)

// Config says what a pool gives out.
type Config struct {
	Subnet netip.Prefix
	// Range is the part of the subnet that Get gives out; none means all of it.
	// Take takes others, too.
	Range netip.Prefix
	// Gateway is the host's address; none means the first one.
	Gateway netip.Addr
	// NoGateway leaves the host without an address.
	NoGateway bool
	// Reserved are others' addresses.
	Reserved []netip.Addr
}

// Pool gives out the addresses of one subnet. Its methods may be called
// concurrently.
type Pool struct {
	subnet      netip.Prefix
	gateway     netip.Addr
	first, last netip.Addr // of what Get gives out
	size        uint64     // how many that are, at most 1<<63

	mu   sync.Mutex
	used map[netip.Addr]bool // true: never given back; guarded by mu
	free uint64              // between first and last; guarded by mu
	next netip.Addr          // where the search begins; guarded by mu
}

// NewPool returns a pool.
func NewPool(c Config) (*Pool, error) {
	s := c.Subnet
	if !s.IsValid() || s != s.Masked() {
		return nil, errdefs.New(errdefs.Invalid, "invalid subnet %s: it should be %s", s, s.Masked())
	}
	if s.Addr().Is4() && (s.Bits() < 8 || s.Bits() > 30) || s.Addr().Is6() && (s.Bits() < 16 || s.Bits() > 126) {
		return nil, errdefs.New(errdefs.Invalid, "invalid subnet %s: want one of /8 to /30 for IPv4, of /16 to /126 for IPv6", s)
	}
	p := &Pool{subnet: s, used: map[netip.Addr]bool{}}
	span := s
	if c.Range.IsValid() {
		span = c.Range.Masked()
		if span.Addr().Is4() != s.Addr().Is4() || span.Bits() < s.Bits() || !s.Contains(span.Addr()) {
			return nil, errdefs.New(errdefs.Invalid, "no matching subnet for range %s: it is not in %s", c.Range, s)
		}
	}
	p.first, p.last = span.Addr(), last(span)
	p.size = count(span)
	p.free, p.next = p.size, p.first
	p.take(s.Addr(), true) // the network's own; routers' in IPv6
	if s.Addr().Is4() {
		p.take(last(s), true) // everybody's
	}
	if !c.NoGateway {
		p.gateway = c.Gateway
		if !p.gateway.IsValid() {
			p.gateway = s.Addr().Next()
		}
		if !s.Contains(p.gateway) || !p.take(p.gateway, true) {
			return nil, errdefs.New(errdefs.Invalid, "no matching subnet for gateway %s: it is no address for a host in %s", p.gateway, s)
		}
	}
	for _, a := range c.Reserved {
		if !s.Contains(a) || !p.take(a, true) {
			return nil, errdefs.New(errdefs.Invalid, "no matching subnet for aux-address %s: it is no free address in %s", a, s)
		}
	}
	return p, nil
}

// last returns the last address of a network.
func last(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

func count(p netip.Prefix) uint64 { return 1 << min(p.Addr().BitLen()-p.Bits(), 63) }

// Subnet returns the pool's subnet.
func (p *Pool) Subnet() netip.Prefix { return p.subnet }

// Gateway returns the address that is the host's; it is not valid where the host
// has none.
func (p *Pool) Gateway() netip.Addr { return p.gateway }

// Get gives out an address. When there is none left the error is Exhausted.
func (p *Pool) Get() (netip.Addr, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.free == 0 {
		err := errdefs.New(errdefs.Exhausted, "no available IPv4 addresses on this network's address pools: all of %s to %s are in use", p.first, p.last)
		if p.subnet.Addr().Is6() {
			err = errdefs.New(errdefs.Exhausted, "no available IPv6 addresses on this network's address pools: all of %s to %s are in use", p.first, p.last)
		}
		return netip.Addr{}, errdefs.Hint(err, "remove containers that use the network")
	}
	for {
		a := p.next
		if p.next = a.Next(); a == p.last || !p.next.IsValid() {
			p.next = p.first
		}
		if p.take(a, false) {
			return a, nil
		}
	}
}

// take marks an address. It reports false if it was taken.
func (p *Pool) take(a netip.Addr, forever bool) bool {
	if _, taken := p.used[a]; taken {
		return false
	}
	p.used[a] = forever
	if a.Compare(p.first) >= 0 && a.Compare(p.last) <= 0 {
		p.free--
	}
	return true
}

// Take takes an address that is in use already, or that somebody asked for. It
// reports false if it is not one of the pool's, or is taken.
func (p *Pool) Take(a netip.Addr) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.subnet.Contains(a) && p.take(a, false)
}

// Put gives an address back. One that was not given out is no error.
func (p *Pool) Put(a netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	forever, taken := p.used[a]
	if !taken || forever {
		return
	}
	delete(p.used, a)
	if a.Compare(p.first) >= 0 && a.Compare(p.last) <= 0 {
		p.free++
	}
}

// Usage returns how many addresses are in use, and how many more Get can give out.
func (p *Pool) Usage() (used, free uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return uint64(len(p.used)), min(p.free, math.MaxInt64)
}

// Range is where subnets are cut from: those of Bits in Base.
type Range struct {
	Base netip.Prefix
	Bits int
}

// DefaultRanges returns where Lade looks for the subnet of a network that
// names none: slices of 1,024 addresses, which is as many as a bridge has
// ports. The ranges are apart from those that Docker (172.17 to 172.31,
// 192.168), Podman (10.88 and on) and Kubernetes' usual networks (10.96,
// 10.244, 10.42) take by default.
func DefaultRanges() []Range {
	return []Range{
		{netip.MustParsePrefix("10.76.0.0/16"), 22},
		{netip.MustParsePrefix("10.212.0.0/16"), 22},
		{netip.MustParsePrefix("172.30.0.0/16"), 22},
		{netip.MustParsePrefix("192.168.240.0/20"), 22},
	}
}

// Choose returns the first slice of the ranges that has no address in common
// with what is in use: the routes of the host, its resolvers.
func Choose(ranges []Range, inUse []netip.Prefix) (netip.Prefix, error) {
	for _, r := range ranges {
		step := uint32(1) << (32 - r.Bits)
		b := r.Base.Masked().Addr().As4()
		first := binary.BigEndian.Uint32(b[:])
		for i := range uint32(1) << (r.Bits - r.Base.Bits()) {
			var b [4]byte
			binary.BigEndian.PutUint32(b[:], first+i*step)
			slice := netip.PrefixFrom(netip.AddrFrom4(b), r.Bits)
			if !overlaps(slice, inUse) {
				return slice, nil
			}
		}
	}
	err := errdefs.New(errdefs.Exhausted, "all predefined address pools have been fully subnetted: networks and the host's routes reach into all of %s", texts(ranges))
	return netip.Prefix{}, errdefs.Hint(err, "name one with --subnet, remove networks (lade network prune), or give the engine other pools (laded --address-pool)")
}

func overlaps(p netip.Prefix, inUse []netip.Prefix) bool {
	for _, u := range inUse {
		// The default route leads everywhere and says nothing.
		if u.Bits() > 0 && p.Overlaps(u) {
			return true
		}
	}
	return false
}

func texts(ranges []Range) string {
	var words []string
	for _, r := range ranges {
		words = append(words, r.Base.String())
	}
	return strings.Join(words, ", ")
}

// ParseRange reads a range as a person writes it: base=10.0.0.0/8,size=24.
func ParseRange(s string) (Range, error) {
	var r Range
	for part := range strings.SplitSeq(s, ",") {
		key, value, _ := strings.Cut(part, "=")
		var err error
		switch key {
		case "base":
			r.Base, err = netip.ParsePrefix(value)
		case "size":
			r.Bits, err = strconv.Atoi(value)
		default:
			err = fmt.Errorf("unknown option %q", key)
		}
		if err != nil {
			return r, errdefs.Hint(errdefs.New(errdefs.Invalid, "invalid address pool %q: %w", s, err), "write base=10.0.0.0/8,size=24")
		}
	}
	if !r.Base.IsValid() || !r.Base.Addr().Is4() || r.Bits < r.Base.Bits() || r.Bits < 8 || r.Bits > 30 {
		return r, errdefs.Hint(errdefs.New(errdefs.Invalid, "invalid address pool %q: want an IPv4 network, and a size between its own and 30", s), "write base=10.0.0.0/8,size=24")
	}
	return r, nil
}

// ChooseULA returns a /64 of unique local addresses (RFC 4193) that has none in
// common with what is in use: always the same one for an engine and a name, where
// it is free.
func ChooseULA(engine, name string, inUse []netip.Prefix) netip.Prefix {
	site, net := sha256.Sum256([]byte(engine)), sha256.Sum256([]byte(name))
	for i := uint16(0); ; i++ {
		a := [16]byte{0: 0xfd}
		copy(a[1:6], site[:5])
		binary.BigEndian.PutUint16(a[6:], binary.BigEndian.Uint16(net[:])+i)
		p := netip.PrefixFrom(netip.AddrFrom16(a), 64)
		if !overlaps(p, inUse) || i == math.MaxUint16 {
			return p
		}
	}
}
