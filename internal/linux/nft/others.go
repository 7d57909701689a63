package nft

import (
	"encoding/binary"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"lade/internal/linux/netlink"
)

// Barrier is a chain that drops packets which none of its rules lets pass.
type Barrier struct {
	Family, Table, Chain string
	// Why says how: by its policy, or by its last rule.
	Why string
}

// Barriers returns the chains at a hook, in whosever tables, that drop what they do
// not accept. What iptables puts into tables is read too; what it keeps elsewhere
// (iptables-legacy) is not.
func (c *Conn) Barriers(hook Hook) ([]Barrier, error) {
	var chains []Barrier
	ask := message(unix.NFT_MSG_GETCHAIN, unix.NLM_F_DUMP, unix.NFPROTO_UNSPEC, "list chains", func(*netlink.Writer) {})
	err := c.nl.Ask(ask, func(m netlink.Message) error {
		a := attributes(m.Data)
		at := nested(a[unix.NFTA_CHAIN_HOOK])[unix.NFTA_HOOK_HOOKNUM]
		family, ok := familyText(m.Data)
		if !ok || len(at) != 4 || Hook(binary.BigEndian.Uint32(at)) != hook {
			return nil
		}
		b := Barrier{Family: family, Table: netlink.CString(a[unix.NFTA_CHAIN_TABLE]), Chain: netlink.CString(a[unix.NFTA_CHAIN_NAME])}
		if policy := a[unix.NFTA_CHAIN_POLICY]; len(policy) == 4 && binary.BigEndian.Uint32(policy) == drop {
			b.Why = "its policy is drop"
		}
		chains = append(chains, b)
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i, b := range chains {
		if b.Why == "" {
			if chains[i].Why, err = c.end(b); err != nil {
				return nil, err
			}
		}
	}
	return slices.DeleteFunc(chains, func(b Barrier) bool { return b.Why == "" }), nil
}

// familyText returns the family that a message is about, of those that packets of
// IP come by.
func familyText(b []byte) (string, bool) {
	if len(b) == 0 {
		return "", false
	}
	name, ok := map[byte]string{unix.NFPROTO_IPV4: "ip", unix.NFPROTO_IPV6: "ip6", unix.NFPROTO_INET: "inet"}[b[0]]
	return name, ok
}

// end reports whether the last rule of a chain drops or refuses all that comes.
func (c *Conn) end(b Barrier) (why string, err error) {
	families := map[string]Family{"ip": unix.NFPROTO_IPV4, "ip6": unix.NFPROTO_IPV6, "inet": Inet}
	ask := message(unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP, families[b.Family], "list rules of "+b.Chain, func(w *netlink.Writer) {
		w.String(unix.NFTA_RULE_TABLE, b.Table)
		w.String(unix.NFTA_RULE_CHAIN, b.Chain)
	})
	err = c.nl.Ask(ask, func(m netlink.Message) error {
		why = ""
		if what, ok := refuses(attributes(m.Data)[unix.NFTA_RULE_EXPRESSIONS]); ok {
			why = fmt.Sprintf("its last rule says %s to all that comes there", what)
		}
		return nil
	})
	return why, err
}

// refuses reports whether a rule drops or refuses every packet: it asks for nothing.
func refuses(exprs []byte) (string, bool) {
	for _, e := range netlink.Attributes(exprs) {
		x := nested(e)
		data := nested(x[unix.NFTA_EXPR_DATA])
		switch netlink.CString(x[unix.NFTA_EXPR_NAME]) {
		case "counter", "log":
			continue
		case "reject":
			return "reject", true
		case "immediate":
			verdict := nested(nested(data[unix.NFTA_IMMEDIATE_DATA])[unix.NFTA_DATA_VERDICT])[unix.NFTA_VERDICT_CODE]
			return "drop", len(verdict) == 4 && binary.BigEndian.Uint32(verdict) == drop
		case "target":
			name := netlink.CString(data[unix.NFTA_TARGET_NAME])
			return "reject", name == "REJECT"
		}
		return "", false
	}
	return "", false
}
