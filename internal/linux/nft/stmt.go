package nft

import (
	"encoding/binary"
	"strings"

	"golang.org/x/sys/unix"

	"lade/internal/linux/netlink"
)

// Stmt is a part of a rule: a condition that a packet meets or not, or what
// becomes of it. It is made of the kernel's expressions.
type Stmt struct {
	text  string
	exprs []expr
}

// expr is an expression of the kernel's.
type expr struct {
	name string
	data func(w *netlink.Writer)
}

// register0 is the first of the kernel's 4-byte registers, in which keys are put
// together. verdictRegister is where a verdict goes.
const (
	register0       = unix.NFT_REG32_00
	verdictRegister = unix.NFT_REG_VERDICT
)

// Field is something in or about a packet that a rule can look at.
type Field struct {
	kind Type
	text string
	load func(register uint32) expr
}

// InName is the name of the interface that a packet came in by.
func InName() Field { return Field{IfName, "iifname", meta(unix.NFT_META_IIFNAME)} }

// OutName is the name of the interface that a packet leaves by.
func OutName() Field { return Field{IfName, "oifname", meta(unix.NFT_META_OIFNAME)} }

// L4Proto is the protocol above IP.
func L4Proto() Field { return Field{InetProto, "meta l4proto", meta(unix.NFT_META_L4PROTO)} }

// DestPort is the port that a packet is for.
func DestPort() Field {
	return Field{InetService, "th dport", payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2)}
}

// Source and Dest are the addresses of an IPv4 packet, Source6 and Dest6 those of an
// IPv6 packet. Rules with them need IPv4 or IPv6 in front.
func Source() Field  { return network("ip saddr", IPv4Addr, 12) }
func Dest() Field    { return network("ip daddr", IPv4Addr, 16) }  //nolint:revive // one comment says what the four are
func Source6() Field { return network("ip6 saddr", IPv6Addr, 8) }  //nolint:revive // see above
func Dest6() Field   { return network("ip6 daddr", IPv6Addr, 24) } //nolint:revive // see above

func network(text string, kind Type, offset uint32) Field {
	return Field{kind, text, payload(unix.NFT_PAYLOAD_NETWORK_HEADER, offset, uint32(kind.size()))}
}

// EtherSource is who a frame says that it is from.
func EtherSource() Field {
	return Field{EtherAddr, "ether saddr", payload(unix.NFT_PAYLOAD_LL_HEADER, 6, 6)}
}

// ARPSource is the IPv4 address, ARPSourceEther the link's, that an ARP packet
// says to belong together.
func ARPSource() Field      { return network("arp saddr ip", IPv4Addr, 14) }
func ARPSourceEther() Field { return network("arp saddr ether", EtherAddr, 8) } //nolint:revive // see above

// NDTarget is the address that an ICMPv6 neighbour message is about.
func NDTarget() Field {
	return Field{IPv6Addr, "@th,64,128", payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, 8, 16)}
}

func meta(key uint32) func(uint32) expr {
	return func(to uint32) expr {
		return expr{"meta", func(w *netlink.Writer) {
			w.Big32(unix.NFTA_META_KEY, key)
			w.Big32(unix.NFTA_META_DREG, to)
		}}
	}
}

func payload(base, offset, length uint32) func(uint32) expr {
	return func(to uint32) expr {
		return expr{"payload", func(w *netlink.Writer) {
			w.Big32(unix.NFTA_PAYLOAD_DREG, to)
			w.Big32(unix.NFTA_PAYLOAD_BASE, base)
			w.Big32(unix.NFTA_PAYLOAD_OFFSET, offset)
			w.Big32(unix.NFTA_PAYLOAD_LEN, length)
		}}
	}
}

// load puts fields side by side, as the key of a set is.
func load(fields []Field) (exprs []expr, text string) {
	at := uint32(register0)
	var words []string
	for _, f := range fields {
		exprs = append(exprs, f.load(at))
		at += uint32(padded(f.kind.size()) / 4)
		words = append(words, f.text)
	}
	return exprs, strings.Join(words, " . ")
}

// In lets only packets pass for which a set holds the fields.
func In(set string, fields ...Field) Stmt {
	exprs, text := load(fields)
	return Stmt{text + " @" + set, append(exprs, lookup(set, 0))}
}

// NotIn lets only packets pass for which a set does not hold the fields.
func NotIn(set string, fields ...Field) Stmt {
	exprs, text := load(fields)
	return Stmt{text + " != @" + set, append(exprs, lookup(set, unix.NFT_LOOKUP_F_INV))}
}

func lookup(set string, flags uint32) expr {
	return expr{"lookup", func(w *netlink.Writer) {
		w.String(unix.NFTA_LOOKUP_SET, set)
		w.Big32(unix.NFTA_LOOKUP_SREG, register0)
		if flags != 0 {
			w.Big32(unix.NFTA_LOOKUP_FLAGS, flags)
		}
	}}
}

// Is lets only packets pass whose field has a value.
func Is(f Field, p Part) Stmt {
	return Stmt{f.text + " " + p.text, []expr{f.load(register0), compare(unix.NFT_CMP_EQ, p.raw)}}
}

// IsNot lets only packets pass whose field has another value.
func IsNot(f Field, p Part) Stmt {
	return Stmt{f.text + " != " + p.text, []expr{f.load(register0), compare(unix.NFT_CMP_NEQ, p.raw)}}
}

// NotNamed lets only packets pass whose field, the name of an interface, does
// not begin with prefix.
func NotNamed(f Field, prefix string) Stmt {
	return Stmt{f.text + ` != "` + prefix + `*"`, []expr{f.load(register0), compare(unix.NFT_CMP_NEQ, []byte(prefix))}}
}

func compare(op uint32, value []byte) expr {
	return expr{"cmp", func(w *netlink.Writer) {
		w.Big32(unix.NFTA_CMP_SREG, register0)
		w.Big32(unix.NFTA_CMP_OP, op)
		w.Nest(unix.NFTA_CMP_DATA, func() { w.Put(unix.NFTA_DATA_VALUE, value) })
	}}
}

// OnlyIPv4 and OnlyIPv6 let only packets of one version pass. nft prints them only
// where nothing else in a rule says the same.
func OnlyIPv4() Stmt { return version("meta nfproto ipv4", unix.NFPROTO_IPV4) }
func OnlyIPv6() Stmt { return version("meta nfproto ipv6", unix.NFPROTO_IPV6) } //nolint:revive // one comment says what both are

// Implied returns a statement that nft leaves out where it prints rules: the next
// one says it, too.
func Implied(s Stmt) Stmt { return Stmt{"", s.exprs} }

func version(text string, family byte) Stmt {
	return Stmt{text, []expr{meta(unix.NFT_META_NFPROTO)(register0), compare(unix.NFT_CMP_EQ, []byte{family})}}
}

// OnlyARP lets only frames pass that carry ARP, on a bridge.
func OnlyARP() Stmt {
	const number = 0x0806
	return Stmt{"ether type arp", []expr{payload(unix.NFT_PAYLOAD_LL_HEADER, 12, 2)(register0), compare(unix.NFT_CMP_EQ, []byte{number >> 8, number & 0xff})}}
}

// ICMPv6 lets only ICMPv6 messages of a type pass.
func ICMPv6(text string, kind byte) Stmt {
	return Stmt{"icmpv6 type " + text, []expr{
		meta(unix.NFT_META_L4PROTO)(register0), compare(unix.NFT_CMP_EQ, []byte{unix.IPPROTO_ICMPV6}),
		payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, 0, 1)(register0), compare(unix.NFT_CMP_EQ, []byte{kind}),
	}}
}

// UDPPorts lets only UDP packets pass from one port to another.
func UDPPorts(from, to uint16, text string) Stmt {
	return Stmt{text, []expr{
		meta(unix.NFT_META_L4PROTO)(register0), compare(unix.NFT_CMP_EQ, []byte{unix.IPPROTO_UDP}),
		payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, 0, 4)(register0),
		compare(unix.NFT_CMP_EQ, []byte{byte(from >> 8), byte(from), byte(to >> 8), byte(to)}),
	}}
}

// Loopback4 lets only packets pass from, or for, 127.0.0.0/8.
func Loopback4(f Field) Stmt {
	return Stmt{f.text + " 127.0.0.0/8", []expr{f.load(register0), mask(4, []byte{0xff, 0, 0, 0}), compare(unix.NFT_CMP_EQ, []byte{127, 0, 0, 0})}}
}

func mask(size uint32, bits []byte) expr {
	return expr{"bitwise", func(w *netlink.Writer) {
		w.Big32(unix.NFTA_BITWISE_SREG, register0)
		w.Big32(unix.NFTA_BITWISE_DREG, register0)
		w.Big32(unix.NFTA_BITWISE_LEN, size)
		w.Nest(unix.NFTA_BITWISE_MASK, func() { w.Put(unix.NFTA_DATA_VALUE, bits) })
		w.Nest(unix.NFTA_BITWISE_XOR, func() { w.Put(unix.NFTA_DATA_VALUE, make([]byte, size)) })
	}}
}

// Established lets only packets pass that belong to a connection that was let
// pass before, or that are errors about one.
func Established() Stmt {
	const established, related = 1 << 1, 1 << 2 // NF_CT_STATE_BIT
	return conntrack("ct state established,related", unix.NFT_CT_STATE, established|related)
}

// Redirected lets only packets pass of connections whose destination was
// changed.
func Redirected() Stmt { return conntrack("ct status dnat", unix.NFT_CT_STATUS, 1<<5) } // IPS_DST_NAT

func conntrack(text string, key, bits uint32) Stmt {
	return Stmt{text, []expr{
		{"ct", func(w *netlink.Writer) {
			w.Big32(unix.NFTA_CT_KEY, key)
			w.Big32(unix.NFTA_CT_DREG, register0)
		}},
		mask(4, binary.NativeEndian.AppendUint32(nil, bits)),
		compare(unix.NFT_CMP_NEQ, make([]byte, 4)),
	}}
}

// ForThisHost lets only packets pass whose destination is an address of the
// host's own.
func ForThisHost() Stmt {
	const byDestination, addressType = 1 << 1, 3 // NFTA_FIB_F_DADDR, NFT_FIB_RESULT_ADDRTYPE
	return Stmt{"fib daddr type local", []expr{
		{"fib", func(w *netlink.Writer) {
			const register, result, flags = 1, 2, 3 // NFTA_FIB_DREG, _RESULT, _FLAGS
			w.Big32(register, register0)
			w.Big32(result, addressType)
			w.Big32(flags, byDestination)
		}},
		compare(unix.NFT_CMP_EQ, binary.NativeEndian.AppendUint32(nil, unix.RTN_LOCAL)),
	}}
}

// The verdicts.
const drop, accept = 0, 1

// Accept lets a packet pass this chain. Others have their say all the same.
func Accept() Stmt { return Stmt{"accept", verdict(accept)} }

// Drop drops a packet.
func Drop() Stmt { return Stmt{"drop", verdict(drop)} }

func verdict(code uint32) []expr {
	return []expr{{"immediate", func(w *netlink.Writer) {
		w.Big32(unix.NFTA_IMMEDIATE_DREG, verdictRegister)
		w.Nest(unix.NFTA_IMMEDIATE_DATA, func() {
			w.Nest(unix.NFTA_DATA_VERDICT, func() { w.Big32(unix.NFTA_VERDICT_CODE, code) })
		})
	}}}
}

// Masquerade gives a packet, and all of its connection, the address of the
// interface that it leaves by.
func Masquerade() Stmt { return Stmt{"masquerade", []expr{{"masq", func(*netlink.Writer) {}}}} }

// Redirect gives a packet, and all of its connection, the destination that a
// map from the fields to an address and a port holds. Others go on.
func Redirect(version Type, table string, fields ...Field) Stmt {
	exprs, text := load(fields)
	exprs = append(exprs, expr{"lookup", func(w *netlink.Writer) {
		w.String(unix.NFTA_LOOKUP_SET, table)
		w.Big32(unix.NFTA_LOOKUP_SREG, register0)
		w.Big32(unix.NFTA_LOOKUP_DREG, register0)
	}})
	family, name := uint32(unix.NFPROTO_IPV4), "ip"
	if version == IPv6Addr {
		family, name = unix.NFPROTO_IPV6, "ip6"
	}
	exprs = append(exprs, expr{"nat", func(w *netlink.Writer) {
		const destination = 1 // NFT_NAT_DNAT
		w.Big32(unix.NFTA_NAT_TYPE, destination)
		w.Big32(unix.NFTA_NAT_FAMILY, family)
		w.Big32(unix.NFTA_NAT_REG_ADDR_MIN, register0)
		w.Big32(unix.NFTA_NAT_REG_PROTO_MIN, register0+uint32(version.size()/4))
	}})
	return Stmt{"dnat " + name + " to " + text + " map @" + table, exprs}
}
