package rtnl

import (
	"encoding/hex"
	"net"
	"net/netip"
	"testing"
)

func TestLoopback(t *testing.T) {
	c, err := Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	lo, err := c.LinkByName("lo")
	if err != nil || lo.Index != 1 || lo.Name != "lo" || lo.Kind != "" {
		t.Errorf("%+v %v", lo, err)
	}
	all, err := c.Links()
	if err != nil {
		t.Fatal(err)
	}
	want, err := net.Interfaces()
	if err != nil || len(all) != len(want) {
		t.Fatalf("%d links, want %d (%v)", len(all), len(want), err)
	}
	for i, w := range want {
		if l := all[i]; l.Name != w.Name || l.Index != w.Index || l.MTU != w.MTU || l.Up != (w.Flags&net.FlagUp != 0) {
			t.Errorf("%+v, want %+v", l, w)
		}
	}
}

func TestBroadcast(t *testing.T) {
	for in, want := range map[string]string{
		"10.76.0.1/22": "0a4c03ff", "10.0.0.9/29": "0a00000f", "1.2.3.4/32": "01020304", "1.2.3.4/0": "ffffffff",
	} {
		if got := hex.EncodeToString(broadcast(netip.MustParsePrefix(in))); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

// FuzzParse: what comes from a socket is read or refused.
func FuzzParse(f *testing.F) {
	f.Add(make([]byte, 16))
	f.Add([]byte{2, 24, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0, 8, 0, 1, 0, 10, 0, 0, 0, 8, 0, 4, 0, 1, 0, 0, 0})
	f.Add([]byte{2, 255, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0, 20, 0, 1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = parseLink(b)
		for _, family := range []byte{2, 10} {
			if r, ok := parseRoute(b, family); ok && !r.Dst.IsValid() {
				t.Errorf("%v", r)
			}
		}
		if a, ok := parseAddr(b); ok && !a.Prefix.IsValid() {
			t.Errorf("%v", a)
		}
	})
}
