// Package nft puts tables of packet filter rules into the kernel (nftables),
// changes single elements of their sets, and compares what is there with what
// should be.
//
// A Table is a plain value: sets and maps of keys, and chains of rules that are
// made of the kernel's expressions. Table.Text writes it as nft would print
// it. Conn.Replace puts it in place of the one of that name in one transaction:
// no packet ever meets half of a table. Conn.Edit adds and removes elements, as
// many as are given in one transaction, at a cost that does not depend on how
// many there are already. Other tables are not touched, and no program is run.
//
// It knows the expressions that Lade's networks need and no more.
package nft

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Family says which packets a table sees.
type Family uint8

// The families.
const (
	Inet   Family = unix.NFPROTO_INET   // IPv4 and IPv6
	Bridge Family = unix.NFPROTO_BRIDGE // what bridges forward
)

func (f Family) String() string {
	if f == Bridge {
		return "bridge"
	}
	return "inet"
}

// Table is a table of rules.
type Table struct {
	Family Family
	Name   string
	// Comment says whose it is; at most 120 bytes.
	Comment string
	// Owned tables are changed and removed by the Conn that put them there, and
	// by nobody else, until it is closed: not even by nft flush ruleset. They
	// stay after that, for whoever comes. Kernels before 6.9 cannot do it, and
	// have tables that everybody changes.
	Owned  bool
	Sets   []Set
	Chains []Chain
}

// Set is a set of keys, which rules look up; or a map, from keys to values.
// Keys and values may be made of several parts.
type Set struct {
	Name     string
	Key      []Type
	Value    []Type // none: it is no map
	Interval bool   // keys are networks
	Elements []Element
}

// Type is the type of a key, a value, or a part of one.
type Type uint8

// The types. Their numbers are those by which nft prints them; the kernel
// keeps them without a look.
const (
	IPv4Addr    Type = 7
	IPv6Addr    Type = 8
	EtherAddr   Type = 9
	InetProto   Type = 12
	InetService Type = 13
	IfName      Type = 41
)

// size returns how many bytes a value of the type has.
func (t Type) size() int {
	switch t {
	case IPv4Addr:
		return 4
	case EtherAddr:
		return 6
	case InetProto:
		return 1
	case InetService:
		return 2
	case IPv6Addr, IfName:
	}
	return 16
}

func (t Type) String() string {
	switch t {
	case IPv4Addr:
		return "ipv4_addr"
	case IPv6Addr:
		return "ipv6_addr"
	case EtherAddr:
		return "ether_addr"
	case InetProto:
		return "inet_proto"
	case InetService:
		return "inet_service"
	case IfName:
	}
	return "ifname"
}

// padded is how many bytes a part takes among others: whole registers.
func padded(n int) int { return (n + 3) &^ 3 }

// lengthOf returns the bytes of what is made of parts, and nft's number for it.
func lengthOf(parts []Type) (size int, id uint32) {
	if len(parts) == 1 {
		return parts[0].size(), uint32(parts[0])
	}
	for _, t := range parts {
		size += padded(t.size())
		id = id<<6 | uint32(t)
	}
	return size, id
}

// Part is a value of one type.
type Part struct {
	kind Type
	raw  []byte
	text string
}

// Interface returns the name of an interface.
func Interface(name string) Part { return Part{IfName, ifname(name), strconv.Quote(name)} }

// Address returns an IP address.
func Address(a netip.Addr) Part {
	if a = a.Unmap(); a.Is4() {
		return Part{IPv4Addr, a.AsSlice(), a.String()}
	}
	return Part{IPv6Addr, a.AsSlice(), a.String()}
}

// Hardware returns a link's address.
func Hardware(a net.HardwareAddr) Part { return Part{EtherAddr, slices.Clone(a), a.String()} }

// Protocol returns tcp, udp or sctp; others have their number.
func Protocol(number uint8) Part {
	text := strconv.Itoa(int(number))
	switch number {
	case unix.IPPROTO_TCP:
		text = "tcp"
	case unix.IPPROTO_UDP:
		text = "udp"
	case unix.IPPROTO_SCTP:
		text = "sctp"
	}
	return Part{InetProto, []byte{number}, text}
}

// Port returns the number of a port.
func Port(n uint16) Part {
	return Part{InetService, []byte{byte(n >> 8), byte(n)}, strconv.Itoa(int(n))}
}

// Element is a key in a set, or a key and its value in a map.
type Element struct {
	key, value []byte
	upto       []byte // where the key is a network: the first address behind it; empty where there is none
	text       string
}

// Key returns an element of a set.
func Key(parts ...Part) Element {
	raw, text := join(parts)
	return Element{key: raw, text: text}
}

// To returns the element with a value.
func (e Element) To(parts ...Part) Element {
	var text string
	e.value, text = join(parts)
	e.text += " : " + text
	return e
}

// Network returns the addresses of a network as an element of an interval set.
func Network(p netip.Prefix) Element {
	p = p.Masked()
	last := p.Addr().AsSlice()
	for i := p.Bits(); i < len(last)*8; i++ {
		last[i/8] |= 1 << (7 - i%8)
	}
	end, _ := netip.AddrFromSlice(last)
	e := Element{key: p.Addr().AsSlice(), text: p.String()}
	if next := end.Next(); next.IsValid() {
		e.upto = next.AsSlice()
	}
	return e
}

// String returns the element as nft prints it.
func (e Element) String() string { return e.text }

func join(parts []Part) (raw []byte, text string) {
	if len(parts) == 1 {
		return parts[0].raw, parts[0].text
	}
	var words []string
	for _, p := range parts {
		raw = append(raw, p.raw...)
		raw = append(raw, make([]byte, padded(len(p.raw))-len(p.raw))...)
		words = append(words, p.text)
	}
	return raw, strings.Join(words, " . ")
}

// Chain is a list of rules at a hook of the kernel.
type Chain struct {
	Name     string
	Type     string // "filter" or "nat"
	Hook     Hook
	Priority Priority
	Rules    []Rule
}

// Hook is a place that packets come by.
type Hook uint32

// The hooks.
const (
	Prerouting  Hook = unix.NF_INET_PRE_ROUTING
	Input       Hook = unix.NF_INET_LOCAL_IN
	Forward     Hook = unix.NF_INET_FORWARD
	Output      Hook = unix.NF_INET_LOCAL_OUT
	Postrouting Hook = unix.NF_INET_POST_ROUTING
)

func (h Hook) String() string {
	return [...]string{"prerouting", "input", "forward", "output", "postrouting"}[h]
}

// Priority is where a chain stands among others at its hook.
type Priority struct {
	number int32
	name   string
}

// Raw is before connections are known, Dstnat where addresses are changed on
// the way in, Filter after that, and Srcnat at the way out. On bridges there
// is only OnBridge.
func Raw() Priority      { return Priority{-300, "raw"} }
func Dstnat() Priority   { return Priority{-100, "dstnat"} } //nolint:revive // one comment says what the five are
func Localnat() Priority { return Priority{-100, "-100"} }   //nolint:revive // see above
func Filter() Priority   { return Priority{0, "filter"} }    //nolint:revive // see above
func Srcnat() Priority   { return Priority{100, "srcnat"} }  //nolint:revive // see above
func OnBridge() Priority { return Priority{-200, "filter"} } //nolint:revive // see above

// Rule is what is done with the packets that all its statements match.
type Rule struct {
	Comment string // at most 127 bytes
	Stmts   []Stmt
}

// Text returns the table as nft prints it, but for line breaks within elements.
func (t Table) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table %s %s {\n", t.Family, t.Name)
	if t.Comment != "" {
		fmt.Fprintf(&b, "\tcomment %q\n", t.Comment)
	}
	if t.Owned {
		b.WriteString("\tflags owner,persist\n")
	}
	for i, s := range t.Sets {
		if i > 0 {
			b.WriteByte('\n')
		}
		s.write(&b)
	}
	for i, ch := range t.Chains {
		if i+len(t.Sets) > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "\tchain %s {\n\t\ttype %s hook %s priority %s; policy accept;\n", ch.Name, ch.Type, ch.Hook, ch.Priority.name)
		for _, r := range ch.Rules {
			fmt.Fprintf(&b, "\t\t%s\n", r)
		}
		b.WriteString("\t}\n")
	}
	b.WriteString("}\n")
	return b.String()
}

// String returns the rule as nft prints it.
func (r Rule) String() string {
	var words []string
	for _, s := range r.Stmts {
		if s.text != "" {
			words = append(words, s.text)
		}
	}
	if r.Comment != "" {
		words = append(words, fmt.Sprintf("comment %q", r.Comment))
	}
	return strings.Join(words, " ")
}

func (s Set) write(b *strings.Builder) {
	kind, typ := "set", typeText(s.Key)
	if len(s.Value) > 0 {
		kind, typ = "map", typ+" : "+typeText(s.Value)
	}
	fmt.Fprintf(b, "\t%s %s {\n\t\ttype %s\n", kind, s.Name, typ)
	if s.Interval {
		b.WriteString("\t\tflags interval\n")
	}
	if len(s.Elements) > 0 {
		var texts []string
		for _, e := range s.Elements {
			texts = append(texts, e.text)
		}
		slices.Sort(texts)
		fmt.Fprintf(b, "\t\telements = { %s }\n", strings.Join(texts, ",\n\t\t\t     "))
	}
	b.WriteString("\t}\n")
}

func typeText(parts []Type) string {
	var words []string
	for _, t := range parts {
		words = append(words, t.String())
	}
	return strings.Join(words, " . ")
}

func ifname(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b[:unix.IFNAMSIZ-1], name)
	return b
}
