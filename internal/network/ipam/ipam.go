// Package ipam picks subnets for networks, and gives out the addresses in
// them.
//
// A Pool is one subnet: its first address is the gateway's, its last the
// broadcast's, and the rest are given out in a circle, so that an address that
// was given back rests before it is used again. A Pool lives in memory; who
// has which address is recorded by its user, who takes the addresses in use
// when it starts again.
package ipam

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"sync"

	"lade/internal/errdefs"
)

// Pool gives out the addresses of one IPv4 subnet. Its methods may be called
// concurrently.
type Pool struct {
	subnet netip.Prefix
	first  uint32 // the network's own address
	size   uint32 // addresses in the subnet

	mu   sync.Mutex
	used []uint64 // one bit for each address; guarded by mu
	free int      // guarded by mu
	next uint32   // where the search begins; guarded by mu
}

// NewPool returns a pool of a subnet of 4 to 65536 addresses.
func NewPool(subnet netip.Prefix) (*Pool, error) {
	if !subnet.IsValid() || !subnet.Addr().Is4() || subnet.Bits() < 16 || subnet.Bits() > 30 {
		return nil, errdefs.New(errdefs.Invalid, "subnet %s: want an IPv4 network of 4 to 65536 addresses (/30 to /16)", subnet)
	}
	subnet = subnet.Masked()
	p := &Pool{subnet: subnet, first: number(subnet.Addr()), size: 1 << (32 - subnet.Bits())}
	p.used = make([]uint64, (p.size+63)/64)
	p.free = int(p.size)
	for _, i := range []uint32{0, 1, p.size - 1} { // network, gateway, broadcast
		p.mark(i)
	}
	p.next = 2
	return p, nil
}

// Subnet returns the pool's subnet.
func (p *Pool) Subnet() netip.Prefix { return p.subnet }

// Gateway returns the address that is the host's.
func (p *Pool) Gateway() netip.Addr { return p.address(1) }

// Get gives out an address. When there is none left the error is Exhausted.
func (p *Pool) Get() (netip.Addr, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.free == 0 {
		err := errdefs.New(errdefs.Exhausted, "no address is free in %s", p.subnet)
		return netip.Addr{}, errdefs.Hint(err, "remove containers that use the network")
	}
	i := p.search()
	p.mark(i)
	p.next = i + 1
	return p.address(i), nil
}

// search returns the first free address from next on, and from the beginning
// after the end.
func (p *Pool) search() uint32 {
	words := uint32(len(p.used))
	word := p.next / 64 % words
	// Of the first word only what is not before next, at first.
	taken := p.used[word] | (1<<(p.next%64) - 1)
	if p.next >= p.size {
		word, taken = 0, p.used[0]
	}
	for range words + 1 {
		if i := word*64 + uint32(bits.TrailingZeros64(^taken)); taken != ^uint64(0) && i < p.size {
			return i
		}
		word = (word + 1) % words
		taken = p.used[word]
	}
	return 0 // not reached while free > 0
}

// Take takes an address that is in use already. It reports false if it is
// not one of the pool's, or was taken before.
func (p *Pool) Take(a netip.Addr) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	i, ok := p.index(a)
	if !ok || p.has(i) {
		return false
	}
	p.mark(i)
	return true
}

// Put gives an address back. One that was not given out is no error.
func (p *Pool) Put(a netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i, ok := p.index(a); ok && i >= 2 && i < p.size-1 && p.has(i) {
		p.used[i/64] &^= 1 << (i % 64)
		p.free++
	}
}

func (p *Pool) index(a netip.Addr) (uint32, bool) {
	if !p.subnet.Contains(a) {
		return 0, false
	}
	return number(a) - p.first, true
}

func (p *Pool) has(i uint32) bool { return p.used[i/64]&(1<<(i%64)) != 0 }

func (p *Pool) mark(i uint32) {
	p.used[i/64] |= 1 << (i % 64)
	p.free--
}

func (p *Pool) address(i uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], p.first+i)
	return netip.AddrFrom4(b)
}

func number(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
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
		first := number(r.Base.Masked().Addr())
		for i := range uint32(1) << (r.Bits - r.Base.Bits()) {
			var b [4]byte
			binary.BigEndian.PutUint32(b[:], first+i*step)
			slice := netip.PrefixFrom(netip.AddrFrom4(b), r.Bits)
			if !overlaps(slice, inUse) {
				return slice, nil
			}
		}
	}
	err := errdefs.New(errdefs.Exhausted, "choose a subnet: the host's routes reach into all that Lade would take")
	return netip.Prefix{}, errdefs.Hint(err, "run with --network host or none, or take a route away (ip route)")
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
