package nft

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"lade/internal/linux/netlink"
)

// Diff compares a table with the kernel's of the same name. It returns a line
// for each thing that is missing ("- …"), or that is there and should not be
// ("+ …"); none if they are the same.
func (c *Conn) Diff(t Table) ([]string, error) {
	chains, err := c.chains(t)
	if errors.Is(err, unix.ENOENT) {
		return []string{fmt.Sprintf("- table %s %s", t.Family, t.Name)}, nil
	}
	if err != nil {
		return nil, err
	}
	var out []string
	for _, s := range t.Sets {
		lines, err := c.diffSet(t, s)
		if err != nil {
			return nil, err
		}
		out = append(out, lines...)
	}
	for _, ch := range t.Chains {
		if !slices.Contains(chains, ch.Name) {
			out = append(out, "- chain "+ch.Name)
			continue
		}
		lines, err := c.diffRules(t, ch)
		if err != nil {
			return nil, err
		}
		out = append(out, lines...)
	}
	for _, name := range chains {
		if !slices.ContainsFunc(t.Chains, func(ch Chain) bool { return ch.Name == name }) {
			out = append(out, "+ chain "+name)
		}
	}
	return out, nil
}

// chains returns the names of a table's chains that hang on a hook.
func (c *Conn) chains(t Table) ([]string, error) {
	// A table that is not there has no chains and gives no error.
	one := message(unix.NFT_MSG_GETTABLE, 0, t.Family, "read table "+t.Name, func(w *netlink.Writer) { w.String(unix.NFTA_TABLE_NAME, t.Name) })
	if err := c.nl.Ask(one, func(netlink.Message) error { return nil }); err != nil {
		return nil, err
	}
	var names []string
	all := message(unix.NFT_MSG_GETCHAIN, unix.NLM_F_DUMP, t.Family, "list chains of "+t.Name, func(*netlink.Writer) {})
	err := c.nl.Ask(all, func(m netlink.Message) error {
		a := attributes(m.Data)
		if netlink.CString(a[unix.NFTA_CHAIN_TABLE]) == t.Name && a[unix.NFTA_CHAIN_HOOK] != nil {
			names = append(names, netlink.CString(a[unix.NFTA_CHAIN_NAME]))
		}
		return nil
	})
	return names, err
}

func (c *Conn) diffSet(t Table, s Set) ([]string, error) {
	want := map[string]string{} // bytes -> text
	for _, e := range s.Elements {
		want[string(e.key)+"\x00"+string(e.value)] = e.text
	}
	var out []string
	ask := message(unix.NFT_MSG_GETSETELEM, unix.NLM_F_DUMP, t.Family, "list elements of "+s.Name, func(w *netlink.Writer) {
		w.String(unix.NFTA_SET_ELEM_LIST_TABLE, t.Name)
		w.String(unix.NFTA_SET_ELEM_LIST_SET, s.Name)
	})
	err := c.nl.Ask(ask, func(m netlink.Message) error {
		for _, raw := range netlink.Attributes(attributes(m.Data)[unix.NFTA_SET_ELEM_LIST_ELEMENTS]) {
			e := nested(raw)
			if f := e[unix.NFTA_SET_ELEM_FLAGS]; len(f) == 4 && binary.BigEndian.Uint32(f)&unix.NFT_SET_ELEM_INTERVAL_END != 0 {
				continue
			}
			key := nested(e[unix.NFTA_SET_ELEM_KEY])[unix.NFTA_DATA_VALUE]
			value := nested(e[unix.NFTA_SET_ELEM_DATA])[unix.NFTA_DATA_VALUE]
			id := string(key) + "\x00" + string(value)
			if _, ok := want[id]; !ok {
				out = append(out, fmt.Sprintf("+ %s: element %x", s.Name, id))
			}
			delete(want, id)
		}
		return nil
	})
	if errors.Is(err, unix.ENOENT) {
		return []string{"- set " + s.Name}, nil
	}
	for _, text := range want {
		out = append(out, fmt.Sprintf("- %s: %s", s.Name, text))
	}
	slices.Sort(out)
	return out, err
}

func (c *Conn) diffRules(t Table, ch Chain) ([]string, error) {
	var have [][]byte // the expressions of each rule
	ask := message(unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP, t.Family, "list rules of "+ch.Name, func(w *netlink.Writer) {
		w.String(unix.NFTA_RULE_TABLE, t.Name)
		w.String(unix.NFTA_RULE_CHAIN, ch.Name)
	})
	err := c.nl.Ask(ask, func(m netlink.Message) error {
		have = append(have, bytes.Clone(attributes(m.Data)[unix.NFTA_RULE_EXPRESSIONS]))
		return nil
	})
	if err != nil {
		return nil, err
	}
	var out []string
	for i, r := range ch.Rules {
		var w netlink.Writer
		writeExprs(&w, r)
		switch {
		case i >= len(have):
			out = append(out, fmt.Sprintf("- %s: %s", ch.Name, r))
		case !covers(have[i], w.Bytes()):
			out = append(out, fmt.Sprintf("- %s: %s", ch.Name, r), fmt.Sprintf("+ %s: another rule of %s in its place", ch.Name, words(have[i])))
		}
	}
	for _, extra := range have[min(len(ch.Rules), len(have)):] {
		out = append(out, fmt.Sprintf("+ %s: a rule of %s", ch.Name, words(extra)))
	}
	return out, nil
}

// words names the expressions of a rule.
func words(exprs []byte) string {
	var out []string
	for _, e := range netlink.Attributes(exprs) {
		out = append(out, netlink.CString(nested(e)[unix.NFTA_EXPR_NAME]))
	}
	return strings.Join(out, ", ")
}

// covers reports whether a list of expressions, as the kernel tells it, is the
// one that was asked for. The kernel adds attributes of its own.
func covers(have, want []byte) bool {
	var a, b [][]byte
	for _, e := range netlink.Attributes(have) {
		a = append(a, e)
	}
	for _, e := range netlink.Attributes(want) {
		b = append(b, e)
	}
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		x, y := nested(a[i]), nested(b[i])
		if !bytes.Equal(x[unix.NFTA_EXPR_NAME], y[unix.NFTA_EXPR_NAME]) || !subset(y[unix.NFTA_EXPR_DATA], x[unix.NFTA_EXPR_DATA], 3) {
			return false
		}
	}
	return true
}

// subset reports whether all attributes in want are in have. Data of an
// expression is nested at most depth deep.
func subset(want, have []byte, depth int) bool {
	h := nested(have)
	for kind, v := range netlink.Attributes(want) {
		got, ok := h[kind]
		if !ok {
			return false
		}
		if !sameRegister(v, got) && !bytes.Equal(v, got) && (depth == 0 || len(v) < 8 || !subset(v, got, depth-1)) {
			return false
		}
	}
	return true
}

// sameRegister reports whether two numbers name the same register: the kernel
// tells those of four bytes by the larger one that they begin.
func sameRegister(a, b []byte) bool {
	if len(a) != 4 || len(b) != 4 {
		return false
	}
	x, y := binary.BigEndian.Uint32(a), binary.BigEndian.Uint32(b)
	return x >= unix.NFT_REG32_00 && (x-unix.NFT_REG32_00)%4 == 0 && y == unix.NFT_REG_1+(x-unix.NFT_REG32_00)/4
}

// attributes returns those behind the header of nfnetlink.
func attributes(b []byte) map[uint16][]byte {
	if len(b) < 4 {
		return nil
	}
	return nested(b[4:])
}

func nested(b []byte) map[uint16][]byte {
	return maps.Collect(netlink.Attributes(b))
}
