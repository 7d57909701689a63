package layer

import (
	"hash/maphash"
	"slices"
)

// A layer may have a million entries, so they are kept in few large pieces
// without pointers: small, nothing for the garbage collector to walk, and
// nothing to copy when there are more.

const pageBits = 12

// pages is a list that grows without moving.
type pages[T any] struct {
	p [][]T
	n uint32
}

func (a *pages[T]) add(v T) uint32 {
	if a.n&(1<<pageBits-1) == 0 {
		a.p = append(a.p, make([]T, 1<<pageBits))
	}
	i := a.n
	a.n++
	*a.at(i) = v
	return i
}

func (a *pages[T]) at(i uint32) *T { return &a.p[i>>pageBits][i&(1<<pageBits-1)] }

// maxText is what 32 bits address.
const (
	textBits = 18
	maxText  = 1 << 31
)

// text holds many short strings, each within one piece.
type text struct {
	p [][]byte
}

func (t *text) add(s string) uint32 {
	last := len(t.p) - 1
	if last < 0 || len(t.p[last])+len(s) > 1<<textBits {
		t.p = append(t.p, make([]byte, 0, 1<<textBits))
		last++
	}
	at := uint32(last<<textBits | len(t.p[last]))
	t.p[last] = append(t.p[last], s...)
	return at
}

func (t *text) get(at uint32, n int) []byte {
	if n == 0 {
		return nil
	}
	return t.p[at>>textBits][at&(1<<textBits-1):][:n:n]
}

// dentry is a name in a directory.
type dentry struct {
	parent uint32
	inode  uint32 // none: removed
	name   uint32
	next   uint32 // in its chain of the index
	length uint8
}

const none = ^uint32(0)

// index finds dentries by directory and name. Its hash is seeded: names cannot
// be chosen so that they collide.
type index struct {
	seed    maphash.Seed
	buckets []uint32
	dents   pages[dentry]
	names   *text
}

func newIndex(names *text) *index {
	return &index{seed: maphash.MakeSeed(), buckets: slices.Repeat([]uint32{none}, 1024), names: names}
}

func (x *index) bucket(parent uint32, name []byte) *uint32 {
	h := maphash.Bytes(x.seed, name) ^ (uint64(parent)+1)*0x9e3779b97f4a7c15
	h ^= h >> 32
	return &x.buckets[h&uint64(len(x.buckets)-1)]
}

func (x *index) name(d *dentry) []byte { return x.names.get(d.name, int(d.length)) }

// find returns the dentry of that name, which may be a removed one, or none.
func (x *index) find(parent uint32, name string) uint32 {
	key := []byte(name)
	for i := *x.bucket(parent, key); i != none; {
		d := x.dents.at(i)
		if d.parent == parent && string(x.name(d)) == name {
			return i
		}
		i = d.next
	}
	return none
}

// insert adds a name that find does not find.
func (x *index) insert(parent uint32, name string, inode uint32) uint32 {
	if int(x.dents.n) >= len(x.buckets) {
		x.grow()
	}
	b := x.bucket(parent, []byte(name))
	*b = x.dents.add(dentry{parent: parent, inode: inode, name: x.names.add(name), next: *b, length: uint8(len(name))})
	return *b
}

func (x *index) grow() {
	x.buckets = slices.Repeat([]uint32{none}, 2*len(x.buckets))
	for i := range x.dents.n {
		d := x.dents.at(i)
		b := x.bucket(d.parent, x.name(d))
		d.next, *b = *b, i
	}
}
