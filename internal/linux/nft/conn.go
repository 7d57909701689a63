package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"lade/internal/linux/netlink"
)

// Conn is a socket in one network namespace. Owned tables are its own until it is
// closed.
type Conn struct {
	nl *netlink.Conn
	// unable says that the kernel knows no owners that a table outlives.
	unable atomic.Bool
}

// Dial opens a socket in the network namespace of the calling thread.
func Dial() (*Conn, error) {
	nl, err := netlink.Dial(unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, err
	}
	return &Conn{nl: nl}, nil
}

// Close closes the socket. Tables stay.
func (c *Conn) Close() error { return c.nl.Close() }

// Replace puts tables in place of those of their names, if there are some, in
// one transaction.
func (c *Conn) Replace(tables ...Table) error {
	err := c.owning(func() error {
		var ms []netlink.Message
		for _, t := range tables {
			// Making what is there already is no error; removing what is not there
			// would be. One that outlived its owner is removed as any other.
			ms = append(ms, tableMessage(unix.NFT_MSG_NEWTABLE, t, 0), tableMessage(unix.NFT_MSG_DELTABLE, t, 0))
			ms = append(ms, c.contents(t)...)
		}
		return c.transaction(ms)
	})
	if err != nil {
		return fmt.Errorf("replace table %s: %w", tables[0].Name, err)
	}
	return nil
}

// Claim makes tables, where there is none of their family and name; else the
// error wraps syscall.EEXIST.
func (c *Conn) Claim(tables ...Table) error {
	err := c.owning(func() error {
		var ms []netlink.Message
		for _, t := range tables {
			of := c.contents(t)
			of[0].Flags |= unix.NLM_F_EXCL
			ms = append(ms, of...)
		}
		return c.transaction(ms)
	})
	if !errors.Is(err, unix.EPERM) {
		return err
	}
	// The kernel says so of one that is somebody else's own, and to those who
	// may make none.
	there, e := c.Tables()
	for _, t := range there {
		if slices.ContainsFunc(tables, func(o Table) bool { return o.Family == t.Family && o.Name == t.Name }) {
			return fmt.Errorf("%w: %w", unix.EEXIST, err)
		}
	}
	return errors.Join(err, e)
}

// owning does what makes tables, and does it again without owners where the
// kernel does not know them.
func (c *Conn) owning(do func() error) error {
	err := do()
	if (errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL)) && !c.unable.Swap(true) {
		if again := do(); again == nil {
			return nil
		}
		c.unable.Store(false) // that was not it
	}
	return err
}

// Owns reports whether tables that are to be owned are: false before the first
// of them was made in vain.
func (c *Conn) Owns() bool { return !c.unable.Load() }

// These are the numbers of a table's flags: it has an owner, and outlives it.
const ownedFlags = 1<<1 | 1<<2 // NFT_TABLE_F_OWNER, NFT_TABLE_F_PERSIST

func (c *Conn) contents(t Table) []netlink.Message {
	var flags uint32
	if t.Owned && !c.unable.Load() {
		flags = ownedFlags
	}
	ms := []netlink.Message{tableMessage(unix.NFT_MSG_NEWTABLE, t, flags)}
	for i, s := range t.Sets {
		ms = append(ms, setMessage(t, s, uint32(i+1)))
		ms = append(ms, elementMessages(unix.NFT_MSG_NEWSETELEM, t, s)...)
	}
	for _, ch := range t.Chains {
		ms = append(ms, chainMessage(t, ch))
		for _, r := range ch.Rules {
			ms = append(ms, ruleMessage(t, ch.Name, r))
		}
	}
	return ms
}

// Edit adds the elements of one table's sets to those that are there, and
// removes those of another's; of tables only family, name and the sets' names
// and elements count. All of it is done or nothing.
func (c *Conn) Edit(add, remove []Table) error {
	var ms []netlink.Message
	for _, t := range remove {
		for _, s := range t.Sets {
			ms = append(ms, elementMessages(unix.NFT_MSG_DELSETELEM, t, s)...)
		}
	}
	for _, t := range add {
		for _, s := range t.Sets {
			ms = append(ms, elementMessages(unix.NFT_MSG_NEWSETELEM, t, s)...)
		}
	}
	if len(ms) == 0 {
		return nil
	}
	return c.transaction(ms)
}

// Delete removes tables, of which only family and name count. One that is not
// there is no error.
func (c *Conn) Delete(tables ...Table) error {
	for _, t := range tables {
		err := c.transaction([]netlink.Message{tableMessage(unix.NFT_MSG_DELTABLE, t, 0)})
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return nil
}

// Tables returns the tables that there are, without what is in them.
func (c *Conn) Tables() ([]Table, error) {
	var out []Table
	for _, f := range []Family{Inet, Bridge} {
		ask := message(unix.NFT_MSG_GETTABLE, unix.NLM_F_DUMP, f, "list tables", func(*netlink.Writer) {})
		err := c.nl.Ask(ask, func(m netlink.Message) error {
			a := attributes(m.Data)
			t := Table{Family: f, Name: netlink.CString(a[unix.NFTA_TABLE_NAME])}
			if u := a[tableUserdata]; len(u) > 2 && u[0] == 0 {
				t.Comment = netlink.CString(u[2:])
			}
			out = append(out, t)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
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

const tableUserdata = 6 // NFTA_TABLE_USERDATA

func tableMessage(kind uint16, t Table, owner uint32) netlink.Message {
	var flags uint16
	what := "remove table"
	if kind == unix.NFT_MSG_NEWTABLE {
		flags, what = unix.NLM_F_CREATE, "add table"
	}
	return message(kind, flags, t.Family, what+" "+t.Name, func(w *netlink.Writer) {
		w.String(unix.NFTA_TABLE_NAME, t.Name)
		if t.Comment != "" && kind == unix.NFT_MSG_NEWTABLE {
			w.Put(tableUserdata, comment(t.Comment))
		}
		if owner != 0 {
			w.Big32(unix.NFTA_TABLE_FLAGS, owner)
		}
	})
}

// comment is nft's own form: type 0, length, text with a zero.
func comment(s string) []byte {
	s = s[:min(len(s), 127)]
	return append(append([]byte{0, byte(len(s) + 1)}, s...), 0)
}

func setMessage(t Table, s Set, number uint32) netlink.Message {
	return message(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE, t.Family, "add set "+s.Name, func(w *netlink.Writer) {
		w.String(unix.NFTA_SET_TABLE, t.Name)
		w.String(unix.NFTA_SET_NAME, s.Name)
		var flags uint32
		if s.Interval {
			flags |= unix.NFT_SET_INTERVAL
		}
		if len(s.Value) > 0 {
			flags |= unix.NFT_SET_MAP
		}
		size, id := lengthOf(s.Key)
		w.Big32(unix.NFTA_SET_FLAGS, flags)
		w.Big32(unix.NFTA_SET_KEY_TYPE, id)
		w.Big32(unix.NFTA_SET_KEY_LEN, uint32(size))
		if len(s.Value) > 0 {
			size, id := lengthOf(s.Value)
			w.Big32(unix.NFTA_SET_DATA_TYPE, id)
			w.Big32(unix.NFTA_SET_DATA_LEN, uint32(size))
		}
		w.Big32(unix.NFTA_SET_ID, number)
		if len(s.Key) == 1 && s.Key[0] == IfName {
			// nft prints a name the wrong way round unless told that it is in
			// the machine's order: type 0, length, 1 for that order.
			w.Put(unix.NFTA_SET_USERDATA, binary.NativeEndian.AppendUint32([]byte{0, 4}, 1))
		}
	})
}

// maxElements is how many elements go into one message: an attribute is at most
// 64 KiB long.
const maxElements = 256

func elementMessages(kind uint16, t Table, s Set) []netlink.Message {
	what := "add elements to set " + s.Name
	var flags uint16 = unix.NLM_F_CREATE
	if kind == unix.NFT_MSG_DELSETELEM {
		what, flags = "remove elements from set "+s.Name, 0
	}
	var ms []netlink.Message
	for at := 0; at < len(s.Elements); at += maxElements {
		part := s.Elements[at:min(at+maxElements, len(s.Elements))]
		ms = append(ms, message(kind, flags, t.Family, what, func(w *netlink.Writer) {
			w.String(unix.NFTA_SET_ELEM_LIST_TABLE, t.Name)
			w.String(unix.NFTA_SET_ELEM_LIST_SET, s.Name)
			w.Nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func() {
				for _, e := range part {
					writeElement(w, e.key, e.value, false)
					if e.upto != nil {
						writeElement(w, e.upto, nil, true)
					}
				}
			})
		}))
	}
	return ms
}

func writeElement(w *netlink.Writer, key, value []byte, end bool) {
	w.Nest(unix.NFTA_LIST_ELEM, func() {
		if end {
			w.Big32(unix.NFTA_SET_ELEM_FLAGS, unix.NFT_SET_ELEM_INTERVAL_END)
		}
		w.Nest(unix.NFTA_SET_ELEM_KEY, func() { w.Put(unix.NFTA_DATA_VALUE, key) })
		if len(value) > 0 {
			w.Nest(unix.NFTA_SET_ELEM_DATA, func() { w.Put(unix.NFTA_DATA_VALUE, value) })
		}
	})
}

func chainMessage(t Table, ch Chain) netlink.Message {
	return message(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, t.Family, "add chain "+ch.Name, func(w *netlink.Writer) {
		w.String(unix.NFTA_CHAIN_TABLE, t.Name)
		w.String(unix.NFTA_CHAIN_NAME, ch.Name)
		w.Nest(unix.NFTA_CHAIN_HOOK, func() {
			w.Big32(unix.NFTA_HOOK_HOOKNUM, uint32(ch.Hook))
			w.Big32(unix.NFTA_HOOK_PRIORITY, uint32(ch.Priority.number))
		})
		w.Big32(unix.NFTA_CHAIN_POLICY, accept)
		w.String(unix.NFTA_CHAIN_TYPE, ch.Type)
	})
}

func ruleMessage(t Table, chain string, r Rule) netlink.Message {
	return message(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, t.Family, "add rule to chain "+chain, func(w *netlink.Writer) {
		w.String(unix.NFTA_RULE_TABLE, t.Name)
		w.String(unix.NFTA_RULE_CHAIN, chain)
		w.Nest(unix.NFTA_RULE_EXPRESSIONS, func() { writeExprs(w, r) })
		if r.Comment != "" {
			w.Put(unix.NFTA_RULE_USERDATA, comment(r.Comment))
		}
	})
}

func writeExprs(w *netlink.Writer, r Rule) {
	for _, s := range r.Stmts {
		for _, e := range s.exprs {
			w.Nest(unix.NFTA_LIST_ELEM, func() {
				w.String(unix.NFTA_EXPR_NAME, e.name)
				w.Nest(unix.NFTA_EXPR_DATA, func() { e.data(w) })
			})
		}
	}
}

func message(kind, flags uint16, family Family, what string, fn func(*netlink.Writer)) netlink.Message {
	var w netlink.Writer
	w.Raw(byte(family), unix.NFNETLINK_V0, 0, 0)
	fn(&w)
	return netlink.Message{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | kind, Flags: flags, Data: w.Bytes(), What: what}
}
