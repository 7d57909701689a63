// Package nft puts tables of packet filter rules into the kernel (nftables).
//
// A Table is a plain value: sets of keys, and chains of rules that are made of
// the kernel's expressions. Conn.Replace puts it in place of the one of that
// name in one transaction: no packet ever meets half of a table. Other tables
// are not touched, and no program is run.
//
// It knows the expressions that Lade's networks need and no more.
package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"lade/internal/linux/netlink"
)

// Table is a table of family inet: for IPv4 and IPv6.
type Table struct {
	Name   string
	Sets   []Set
	Chains []Chain
}

// Set is a set of keys of one type, which rules look up.
type Set struct {
	Name     string
	Type     KeyType
	Elements []Element
}

// KeyType is the type of a set's keys.
type KeyType uint8

// The types of keys.
const (
	Interface  KeyType = iota // a name
	Interfaces                // two names: the one in, the one out
	Networks                  // ranges of IPv4 addresses
)

// shape returns the type's number for nft, which prints keys by it, the bytes
// of a key, and the flags of a set of it.
func (k KeyType) shape() (id, size, flags uint32) {
	const address, name = 7, 41 // of nft's; the kernel keeps them without a look
	switch k {
	case Interfaces:
		return name<<6 | name, 2 * unix.IFNAMSIZ, 0
	case Networks:
		return address, 4, unix.NFT_SET_INTERVAL
	case Interface:
	}
	return name, unix.IFNAMSIZ, 0
}

// Element is a key in a set, or one end of a range.
type Element struct {
	key []byte
	end bool
}

// InterfaceElement returns the name of an interface as a key.
func InterfaceElement(name string) Element { return Element{key: ifname(name)} }

// InterfacesElement returns the names of two interfaces as a key.
func InterfacesElement(in, out string) Element {
	return Element{key: append(ifname(in), ifname(out)...)}
}

// NetworkElements returns an IPv4 network as the two ends of a range.
func NetworkElements(p netip.Prefix) []Element {
	first := p.Masked().Addr().As4()
	next := binary.BigEndian.Uint32(first[:]) + 1<<(32-p.Bits())
	return []Element{{key: first[:]}, {key: binary.BigEndian.AppendUint32(nil, next), end: true}}
}

// Chain is a list of rules at a hook of the kernel.
type Chain struct {
	Name     string
	Type     string // "filter" or "nat"
	Hook     Hook
	Priority int32
	Rules    []Rule
}

// Hook is a place that packets come by.
type Hook uint32

// The hooks.
const (
	Forward     Hook = unix.NF_INET_FORWARD
	Postrouting Hook = unix.NF_INET_POST_ROUTING
)

// Rule is what is done with the packets that all its expressions match.
type Rule struct {
	Comment string // at most 127 bytes
	Exprs   []Expr
}

// Expr is an expression of the kernel's. The functions below return what the
// words say, one expression or several; slices.Concat makes a rule of them.
type Expr struct {
	name string
	data func(w *netlink.Writer)
}

// The registers that expressions share. Each holds 16 bytes.
const (
	first  = unix.NFT_REG_1
	second = unix.NFT_REG_2
)

// InName loads the name of the interface that a packet came in by.
func InName() []Expr { return []Expr{meta(unix.NFT_META_IIFNAME, first)} }

// OutName loads the name of the interface that a packet leaves by.
func OutName() []Expr { return []Expr{meta(unix.NFT_META_OIFNAME, first)} }

// OutNameToo loads it behind what is loaded, for a key of Interfaces.
func OutNameToo() []Expr { return []Expr{meta(unix.NFT_META_OIFNAME, second)} }

func meta(key, to uint32) Expr {
	return Expr{"meta", func(w *netlink.Writer) {
		w.Big32(unix.NFTA_META_KEY, key)
		w.Big32(unix.NFTA_META_DREG, to)
	}}
}

// IPv4 lets only IPv4 packets pass.
func IPv4() []Expr {
	return []Expr{meta(unix.NFT_META_NFPROTO, first), compare(unix.NFT_CMP_EQ, []byte{unix.NFPROTO_IPV4})}
}

// NamedOtherThan lets only packets pass for which the interface whose name is
// loaded has a name that does not begin with prefix.
func NamedOtherThan(prefix string) []Expr {
	return []Expr{compare(unix.NFT_CMP_NEQ, []byte(prefix))}
}

func compare(op uint32, value []byte) Expr {
	return Expr{"cmp", func(w *netlink.Writer) {
		w.Big32(unix.NFTA_CMP_SREG, first)
		w.Big32(unix.NFTA_CMP_OP, op)
		w.Nest(unix.NFTA_CMP_DATA, func() { w.Put(unix.NFTA_DATA_VALUE, value) })
	}}
}

// IPv4Source loads the address that an IPv4 packet is from.
func IPv4Source() []Expr {
	return []Expr{{"payload", func(w *netlink.Writer) {
		w.Big32(unix.NFTA_PAYLOAD_DREG, first)
		w.Big32(unix.NFTA_PAYLOAD_BASE, unix.NFT_PAYLOAD_NETWORK_HEADER)
		w.Big32(unix.NFTA_PAYLOAD_OFFSET, 12)
		w.Big32(unix.NFTA_PAYLOAD_LEN, 4)
	}}}
}

// In lets only packets pass for which a set holds what is loaded.
func In(set string) []Expr { return lookup(set, 0) }

// NotIn lets only packets pass for which a set does not hold what is loaded.
func NotIn(set string) []Expr { return lookup(set, unix.NFT_LOOKUP_F_INV) }

func lookup(set string, flags uint32) []Expr {
	return []Expr{{"lookup", func(w *netlink.Writer) {
		w.String(unix.NFTA_LOOKUP_SET, set)
		w.Big32(unix.NFTA_LOOKUP_SREG, first)
		w.Big32(unix.NFTA_LOOKUP_FLAGS, flags)
	}}}
}

// Established lets only packets pass that belong to a connection that was let
// pass before, or that are errors about one.
func Established() []Expr {
	const established, related = 1 << 1, 1 << 2 // NF_CT_STATE_BIT
	mask := binary.NativeEndian.AppendUint32(nil, established|related)
	zero := make([]byte, 4)
	return []Expr{
		{"ct", func(w *netlink.Writer) {
			w.Big32(unix.NFTA_CT_KEY, unix.NFT_CT_STATE)
			w.Big32(unix.NFTA_CT_DREG, first)
		}},
		{"bitwise", func(w *netlink.Writer) {
			w.Big32(unix.NFTA_BITWISE_SREG, first)
			w.Big32(unix.NFTA_BITWISE_DREG, first)
			w.Big32(unix.NFTA_BITWISE_LEN, 4)
			w.Nest(unix.NFTA_BITWISE_MASK, func() { w.Put(unix.NFTA_DATA_VALUE, mask) })
			w.Nest(unix.NFTA_BITWISE_XOR, func() { w.Put(unix.NFTA_DATA_VALUE, zero) })
		}},
		compare(unix.NFT_CMP_NEQ, zero),
	}
}

// The verdicts.
const drop, accept = 0, 1

// Accept lets a packet pass this table. Others have their say all the same.
func Accept() []Expr { return verdict(accept) }

// Drop drops a packet.
func Drop() []Expr { return verdict(drop) }

func verdict(code uint32) []Expr {
	return []Expr{{"immediate", func(w *netlink.Writer) {
		w.Big32(unix.NFTA_IMMEDIATE_DREG, unix.NFT_REG_VERDICT)
		w.Nest(unix.NFTA_IMMEDIATE_DATA, func() {
			w.Nest(unix.NFTA_DATA_VERDICT, func() { w.Big32(unix.NFTA_VERDICT_CODE, code) })
		})
	}}}
}

// Masquerade gives a packet, and all of its connection, the address of the
// interface that it leaves by.
func Masquerade() []Expr { return []Expr{{"masq", func(*netlink.Writer) {}}} }

// Conn is a socket in one network namespace.
type Conn struct {
	nl *netlink.Conn
}

// Dial opens a socket in the network namespace of the calling thread.
func Dial() (*Conn, error) {
	nl, err := netlink.Dial(unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, err
	}
	return &Conn{nl}, nil
}

// Close closes the socket.
func (c *Conn) Close() error { return c.nl.Close() }

// Replace puts t in place of the table of its name, if there is one.
func (c *Conn) Replace(t Table) error {
	// Making what is there already is no error; removing what is not there
	// would be.
	ms := []netlink.Message{tableMessage(unix.NFT_MSG_NEWTABLE, t.Name), tableMessage(unix.NFT_MSG_DELTABLE, t.Name), tableMessage(unix.NFT_MSG_NEWTABLE, t.Name)}
	for i, s := range t.Sets {
		ms = append(ms, setMessage(t.Name, s, uint32(i+1)))
		if len(s.Elements) > 0 {
			ms = append(ms, elementsMessage(t.Name, s))
		}
	}
	for _, ch := range t.Chains {
		ms = append(ms, chainMessage(t.Name, ch))
		for _, r := range ch.Rules {
			ms = append(ms, ruleMessage(t.Name, ch.Name, r))
		}
	}
	if err := c.transaction(ms); err != nil {
		return fmt.Errorf("replace table %s: %w", t.Name, err)
	}
	return nil
}

// Delete removes a table. One that is not there is no error.
func (c *Conn) Delete(table string) error {
	err := c.transaction([]netlink.Message{tableMessage(unix.NFT_MSG_DELTABLE, table)})
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	return nil
}

// transaction carries out messages: all of them or none.
func (c *Conn) transaction(ms []netlink.Message) error {
	batch := make([]netlink.Message, 0, len(ms)+2)
	batch = append(batch, bracket(unix.NFNL_MSG_BATCH_BEGIN))
	for _, m := range ms {
		m.Flags |= unix.NLM_F_ACK
		batch = append(batch, m)
	}
	return c.nl.Do(append(batch, bracket(unix.NFNL_MSG_BATCH_END))...)
}

func bracket(kind uint16) netlink.Message {
	return netlink.Message{Type: kind, Data: []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, unix.NFNL_SUBSYS_NFTABLES}, What: "transaction"}
}

func tableMessage(kind uint16, name string) netlink.Message {
	var flags uint16
	what := "remove table"
	if kind == unix.NFT_MSG_NEWTABLE {
		flags, what = unix.NLM_F_CREATE, "add table"
	}
	return message(kind, flags, what+" "+name, func(w *netlink.Writer) { w.String(unix.NFTA_TABLE_NAME, name) })
}

func setMessage(table string, s Set, number uint32) netlink.Message {
	return message(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE, "add set "+s.Name, func(w *netlink.Writer) {
		w.String(unix.NFTA_SET_TABLE, table)
		w.String(unix.NFTA_SET_NAME, s.Name)
		id, size, flags := s.Type.shape()
		w.Big32(unix.NFTA_SET_FLAGS, flags)
		w.Big32(unix.NFTA_SET_KEY_TYPE, id)
		w.Big32(unix.NFTA_SET_KEY_LEN, size)
		w.Big32(unix.NFTA_SET_ID, number)
		if s.Type == Interface {
			// nft prints a name the wrong way round unless told that it is in
			// the machine's order: type 0, length, 1 for that order.
			w.Put(unix.NFTA_SET_USERDATA, binary.NativeEndian.AppendUint32([]byte{0, 4}, 1))
		}
	})
}

func elementsMessage(table string, s Set) netlink.Message {
	return message(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, "add elements to set "+s.Name, func(w *netlink.Writer) {
		w.String(unix.NFTA_SET_ELEM_LIST_TABLE, table)
		w.String(unix.NFTA_SET_ELEM_LIST_SET, s.Name)
		w.Nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func() {
			for _, e := range s.Elements {
				w.Nest(unix.NFTA_LIST_ELEM, func() {
					if e.end {
						w.Big32(unix.NFTA_SET_ELEM_FLAGS, unix.NFT_SET_ELEM_INTERVAL_END)
					}
					w.Nest(unix.NFTA_SET_ELEM_KEY, func() { w.Put(unix.NFTA_DATA_VALUE, e.key) })
				})
			}
		})
	})
}

func chainMessage(table string, ch Chain) netlink.Message {
	return message(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, "add chain "+ch.Name, func(w *netlink.Writer) {
		w.String(unix.NFTA_CHAIN_TABLE, table)
		w.String(unix.NFTA_CHAIN_NAME, ch.Name)
		w.Nest(unix.NFTA_CHAIN_HOOK, func() {
			w.Big32(unix.NFTA_HOOK_HOOKNUM, uint32(ch.Hook))
			w.Big32(unix.NFTA_HOOK_PRIORITY, uint32(ch.Priority))
		})
		w.Big32(unix.NFTA_CHAIN_POLICY, accept)
		w.String(unix.NFTA_CHAIN_TYPE, ch.Type)
	})
}

func ruleMessage(table, chain string, r Rule) netlink.Message {
	return message(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, "add rule to chain "+chain, func(w *netlink.Writer) {
		w.String(unix.NFTA_RULE_TABLE, table)
		w.String(unix.NFTA_RULE_CHAIN, chain)
		w.Nest(unix.NFTA_RULE_EXPRESSIONS, func() {
			for _, e := range r.Exprs {
				w.Nest(unix.NFTA_LIST_ELEM, func() {
					w.String(unix.NFTA_EXPR_NAME, e.name)
					w.Nest(unix.NFTA_EXPR_DATA, func() { e.data(w) })
				})
			}
		})
		if r.Comment != "" {
			// nft's own form: type 0, length, text with a zero.
			data := append([]byte{0, byte(len(r.Comment) + 1)}, r.Comment...)
			w.Put(unix.NFTA_RULE_USERDATA, append(data, 0))
		}
	})
}

func message(kind, flags uint16, what string, fn func(*netlink.Writer)) netlink.Message {
	var w netlink.Writer
	w.Raw(unix.NFPROTO_INET, unix.NFNETLINK_V0, 0, 0)
	fn(&w)
	return netlink.Message{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | kind, Flags: flags, Data: w.Bytes(), What: what}
}

func ifname(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b[:unix.IFNAMSIZ-1], name)
	return b
}
