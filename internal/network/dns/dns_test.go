package dns

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

func ask(tb testing.TB, name string, typ dnsmessage.Type, edns int) []byte {
	tb.Helper()
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: 4711, RecursionDesired: true})
	if err := b.StartQuestions(); err != nil {
		tb.Fatal(err)
	}
	if err := b.Question(dnsmessage.Question{Name: dnsmessage.MustNewName(name), Type: typ, Class: dnsmessage.ClassINET}); err != nil {
		tb.Fatal(err)
	}
	if edns > 0 {
		var h dnsmessage.ResourceHeader
		if err := h.SetEDNS0(edns, 0, false); err != nil {
			tb.Fatal(err)
		}
		if err := b.StartAdditionals(); err != nil {
			tb.Fatal(err)
		}
		if err := b.OPTResource(h, dnsmessage.OPTResource{}); err != nil {
			tb.Fatal(err)
		}
	}
	msg, err := b.Finish()
	if err != nil {
		tb.Fatal(err)
	}
	return msg
}

func unpack(tb testing.TB, msg []byte) (m dnsmessage.Message) {
	tb.Helper()
	if err := m.Unpack(msg); err != nil {
		tb.Fatalf("answer %x: %v", msg, err)
	}
	return m
}

// text tells an answer's data, sorted.
func text(m dnsmessage.Message) string {
	var out []string
	for _, a := range m.Answers {
		switch b := a.Body.(type) {
		case *dnsmessage.AResource:
			out = append(out, netip.AddrFrom4(b.A).String())
		case *dnsmessage.AAAAResource:
			out = append(out, netip.AddrFrom16(b.AAAA).String())
		case *dnsmessage.PTRResource:
			out = append(out, b.PTR.String())
		}
	}
	slices.Sort(out)
	return strings.TrimSpace(m.RCode.GoString()[len("dnsmessage.RCode"):] + " " + strings.Join(out, " "))
}

func addrs(s ...string) (out []netip.Addr) {
	for _, a := range s {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

// twoNetworks is a table of two networks in which names meet.
func twoNetworks() *Table {
	var t Table
	t.Put("front", "1", Host{Name: "web", Aliases: []string{"www", "abcdef012345"}, Addrs: addrs("10.0.0.2", "fd00::2")})
	t.Put("front", "2", Host{Name: "Web2", Aliases: []string{"www"}, Addrs: addrs("10.0.0.3")})
	t.Put("back", "3", Host{Name: "db", Addrs: addrs("10.0.1.2")})
	t.Put("back", "4", Host{Name: "web", Addrs: addrs("10.0.1.3")})
	t.Put("other", "5", Host{Name: "secret", Addrs: addrs("10.0.2.2")})
	return &t
}

func TestAnswers(t *testing.T) {
	view := twoNetworks().View(func() Scope {
		return Scope{Networks: []string{"front", "back"}, Links: map[string]string{"Database": "db"}}
	})
	r := Resolver{Names: view}
	for _, tt := range []struct {
		name string
		typ  dnsmessage.Type
		want string
	}{
		{"web.", dnsmessage.TypeA, "Success 10.0.0.2"},
		{"WEB.", dnsmessage.TypeA, "Success 10.0.0.2"},
		{"web.", dnsmessage.TypeAAAA, "Success fd00::2"},
		{"web.front.", dnsmessage.TypeA, "Success 10.0.0.2"},
		{"web.back.", dnsmessage.TypeA, "Success 10.0.1.3"},
		{"web2.", dnsmessage.TypeA, "Success 10.0.0.3"},
		{"db.", dnsmessage.TypeAAAA, "Success"},
		{"db.", dnsmessage.TypeMX, "Success"},
		{"www.", dnsmessage.TypeA, "Success 10.0.0.2 10.0.0.3"},
		{"abcdef012345.", dnsmessage.TypeA, "Success 10.0.0.2"},
		{"database.", dnsmessage.TypeA, "Success 10.0.1.2"},
		{"secret.", dnsmessage.TypeA, "NameError"},
		{"secret.other.", dnsmessage.TypeA, "NameError"},
		{"db.front.", dnsmessage.TypeA, "NameError"},
		{".", dnsmessage.TypeNS, "NameError"},
		{"2.0.0.10.in-addr.arpa.", dnsmessage.TypePTR, "Success web.front."},
		{"2.1.0.10.in-addr.arpa.", dnsmessage.TypePTR, "Success db.back."},
		{"2.2.0.10.in-addr.arpa.", dnsmessage.TypePTR, "NameError"},
		{"2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.", dnsmessage.TypePTR, "Success web.front."},
		{"2.0.ip6.arpa.", dnsmessage.TypePTR, "NameError"},
	} {
		m := unpack(t, r.Answer(t.Context(), ask(t, tt.name, tt.typ, 0), false))
		if got := text(m); got != tt.want {
			t.Errorf("%s %s: %s, want %s", tt.name, tt.typ, got, tt.want)
		}
		if m.ID != 4711 || !m.Response || !m.RecursionDesired || !m.RecursionAvailable || len(m.Questions) != 1 || m.Questions[0].Name.String() != tt.name {
			t.Errorf("%s: header %+v, questions %v", tt.name, m.Header, m.Questions)
		}
	}
}

// TestNamesGo checks that a name ends with the last host that had it, and an
// address is its new owner's.
func TestNamesGo(t *testing.T) {
	table := twoNetworks()
	view := table.View(func() Scope { return Scope{Networks: []string{"front"}} })
	table.Remove("front", "1")
	table.Remove("front", "1")
	table.Remove("nowhere", "1")
	if got, ok := view.Addresses("www"); !ok || fmt.Sprint(got) != "[10.0.0.3]" {
		t.Errorf("www: %v %t", got, ok)
	}
	if _, ok := view.Addresses("web"); ok {
		t.Error("web is still there")
	}
	table.Put("front", "2", Host{Name: "new", Addrs: addrs("10.0.0.2")})
	if _, ok := view.Addresses("web2"); ok {
		t.Error("the old name is still there")
	}
	if n, ok := view.Name(netip.MustParseAddr("10.0.0.2")); n != "new.front" || !ok {
		t.Errorf("name %q %t", n, ok)
	}
	if _, ok := view.Name(netip.MustParseAddr("10.0.0.3")); ok {
		t.Error("the old address still has a name")
	}
	table.Remove("front", "2")
	if len(table.networks) != 2 {
		t.Errorf("networks without hosts stay: %v", table.networks)
	}
}

// TestRoundRobin checks that each of a name's addresses comes first now and then.
func TestRoundRobin(t *testing.T) {
	view := twoNetworks().View(func() Scope { return Scope{Networks: []string{"front"}} })
	r := Resolver{Names: view}
	first := map[[4]byte]int{}
	for range 200 {
		m := unpack(t, r.Answer(t.Context(), ask(t, "www.", dnsmessage.TypeA, 0), false))
		first[m.Answers[0].Body.(*dnsmessage.AResource).A]++
	}
	if len(first) != 2 || first[[4]byte{10, 0, 0, 2}] < 50 || first[[4]byte{10, 0, 0, 3}] < 50 {
		t.Errorf("first answers: %v", first)
	}
}

// TestLimits checks that an answer is no longer than its client takes, says so
// when it is not all, and holds what fits: some clients never ask again by TCP.
func TestLimits(t *testing.T) {
	var table Table
	for i := range 300 {
		table.Put("n", fmt.Sprint(i), Host{Name: fmt.Sprintf("c%d", i), Aliases: []string{"all"}, Addrs: []netip.Addr{
			netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), netip.AddrFrom16([16]byte{0xfd, 14: byte(i >> 8), 15: byte(i)}),
		}})
	}
	r := Resolver{Names: table.View(func() Scope { return Scope{Networks: []string{"n"}} })}
	for _, tt := range []struct {
		typ         dnsmessage.Type
		edns, limit int
		stream, all bool
	}{
		{dnsmessage.TypeA, 0, 512, false, false},
		{dnsmessage.TypeAAAA, 0, 512, false, false},
		{dnsmessage.TypeA, 100, 512, false, false},
		{dnsmessage.TypeA, 1232, 1232, false, false},
		{dnsmessage.TypeAAAA, 1232, 1232, false, false},
		{dnsmessage.TypeA, 65535, 4096, false, false},
		{dnsmessage.TypeA, 0, 65535, true, true},
		{dnsmessage.TypeAAAA, 1232, 65535, true, true},
	} {
		reply := r.Answer(t.Context(), ask(t, "all.", tt.typ, tt.edns), tt.stream)
		m := unpack(t, reply)
		if len(reply) > tt.limit || m.Truncated == tt.all || tt.all != (len(m.Answers) == 300) || len(reply) < tt.limit*9/10 && !tt.all {
			t.Errorf("%v: %d bytes, truncated %t, %d answers", tt, len(reply), m.Truncated, len(m.Answers))
		}
		if (tt.edns > 0) != (len(m.Additionals) == 1) {
			t.Errorf("%v: additionals %v", tt, m.Additionals)
		}
	}
}

func TestBadQueries(t *testing.T) {
	r := Resolver{Names: twoNetworks().View(func() Scope { return Scope{} })}
	good := ask(t, "web.", dnsmessage.TypeA, 0)
	change := func(i int, b byte) []byte {
		msg := bytes.Clone(good)
		msg[i] = b
		return msg
	}
	for _, tt := range []struct {
		what string
		msg  []byte
		want string // empty: no answer
	}{
		{"nothing", nil, ""},
		{"half a header", good[:11], ""},
		{"an answer", change(2, 0x80), ""},
		{"an update", change(2, 5<<3), "NotImplemented"},
		{"no question", good[:12], "FormatError"},
		{"zero questions", change(5, 0), "FormatError"},
		{"two questions", change(5, 2), "FormatError"},
		{"half a name", good[:15], "FormatError"},
		{"a name that points at itself", append(change(12, 0xc0)[:13], 12, 0, 1, 0, 1), "FormatError"},
		{"another class", change(len(good)-1, 3), "NotImplemented"},
		{"an additional that is not there", change(11, 1), "FormatError"},
	} {
		reply := r.Answer(t.Context(), tt.msg, false)
		if reply == nil || tt.want == "" {
			if reply != nil || tt.want != "" {
				t.Errorf("%s: answer %x, want %q", tt.what, reply, tt.want)
			}
			continue
		}
		if m := unpack(t, reply); text(m) != tt.want || m.ID != 4711 {
			t.Errorf("%s: %s, want %s", tt.what, text(m), tt.want)
		}
	}
}

// FuzzAnswer checks that any message is answered with one that can be read and
// that fits, or not at all.
func FuzzAnswer(f *testing.F) {
	f.Add(ask(f, "web.", dnsmessage.TypeA, 0), false)
	f.Add(ask(f, "www.", dnsmessage.TypeAAAA, 4096), true)
	f.Add(ask(f, "2.0.0.10.in-addr.arpa.", dnsmessage.TypePTR, 600), false)
	f.Add([]byte("\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01"), false)
	r := Resolver{Names: twoNetworks().View(func() Scope { return Scope{Networks: []string{"front", "back"}} })}
	f.Fuzz(func(t *testing.T, msg []byte, stream bool) {
		reply := r.Answer(t.Context(), msg, stream)
		if reply == nil {
			return
		}
		if m := unpack(t, reply); !m.Response || len(reply) > maxPayload && !stream {
			t.Errorf("%x: answer %x", msg, reply)
		}
	})
}
