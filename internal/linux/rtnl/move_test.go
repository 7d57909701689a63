package rtnl

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// TestParseAddr reads what PutAddr writes: the kernel uses one form for both.
func TestParseAddr(t *testing.T) {
	for _, p := range []string{"192.0.2.9/24", "2001:db8::9/64"} {
		want := Addr{Prefix: netip.MustParsePrefix(p), Global: true}
		got, index, err := parseAddr(PutAddr(7, want).m.Data)
		if err != nil || index != 7 || got != want {
			t.Errorf("%s: got %+v of link %d, %v", p, got, index, err)
		}
	}
	between := Addr{Prefix: netip.MustParsePrefix("192.0.2.9/32"), Peer: netip.MustParseAddr("192.0.2.1"), Global: true}
	if got, _, err := parseAddr(PutAddr(7, between).m.Data); err != nil || got != between {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, _, err := parseAddr(make([]byte, unix.SizeofIfAddrmsg-1)); err == nil {
		t.Error("a message that is cut off is read")
	}
}

func FuzzParseAddr(f *testing.F) {
	f.Add(PutAddr(7, Addr{Prefix: netip.MustParsePrefix("192.0.2.9/24")}).m.Data)
	f.Add(PutAddr(7, Addr{Prefix: netip.MustParsePrefix("2001:db8::9/64")}).m.Data)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) { _, _, _ = parseAddr(b) })
}
