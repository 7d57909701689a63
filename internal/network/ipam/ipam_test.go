package ipam

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"lade/internal/errdefs"
)

func pool(t *testing.T, subnet string) *Pool {
	t.Helper()
	p, err := NewPool(Config{Subnet: netip.MustParsePrefix(subnet)})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPool(t *testing.T) {
	p := pool(t, "10.0.0.8/29")
	if p.Subnet().String() != "10.0.0.8/29" || p.Gateway().String() != "10.0.0.9" {
		t.Fatal(p.Subnet(), p.Gateway())
	}
	get := func(want string) {
		t.Helper()
		a, err := p.Get()
		switch {
		case err != nil && (want != "none" || !errdefs.Is(err, errdefs.Exhausted)):
			t.Errorf("%v, want %s", err, want)
		case err == nil && a.String() != want:
			t.Errorf("%s, want %s", a, want)
		}
	}
	get("10.0.0.10")
	get("10.0.0.11")
	p.Put(netip.MustParseAddr("10.0.0.10"))
	get("10.0.0.12") // an address that was given back rests
	get("10.0.0.13")
	get("10.0.0.14")
	get("10.0.0.10")
	get("none")
	for _, a := range []string{"10.0.0.8", "10.0.0.9", "10.0.0.15", "10.0.0.16", "10.0.0.7", "::1"} {
		p.Put(netip.MustParseAddr(a)) // never given out
	}
	get("none")
	p.Put(netip.MustParseAddr("10.0.0.13"))
	if !p.Take(netip.MustParseAddr("10.0.0.13")) || p.Take(netip.MustParseAddr("10.0.0.13")) || p.Take(netip.MustParseAddr("10.1.0.1")) {
		t.Error("Take: want true once, false again and for strangers")
	}
	get("none")
}

func TestSubnetsOfPools(t *testing.T) {
	for subnet, want := range map[string]bool{
		"10.0.0.0/16": true, "10.0.0.0/30": true, "10.0.0.0/8": true, "0.0.0.0/7": false, "10.0.0.0/31": false, "10.0.0.9/24": false,
		"fd00::/120": true, "fd00::/64": true, "fd00::/127": false, "fd00::/8": false,
	} {
		if _, err := NewPool(Config{Subnet: netip.MustParsePrefix(subnet)}); (err == nil) != want {
			t.Errorf("%s: %v", subnet, err)
		}
	}
	if _, err := NewPool(Config{}); err == nil {
		t.Error("no subnet: want an error")
	}
}

// TestPoolRandom takes and gives back in pools of all sizes.
func TestPoolRandom(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for bits := 16; bits <= 30; bits++ {
		p := pool(t, netip.PrefixFrom(netip.MustParseAddr("10.7.0.0"), bits).String())
		capacity := 1<<(32-bits) - 3
		given := map[netip.Addr]bool{}
		for range 3000 {
			if rnd.IntN(3) > 0 {
				a, err := p.Get()
				switch {
				case err != nil && len(given) != capacity:
					t.Fatalf("/%d: %v with %d of %d given", bits, err, len(given), capacity)
				case err == nil && (given[a] || !p.Subnet().Contains(a) || a == p.Gateway()):
					t.Fatalf("/%d: gave %s", bits, a)
				case err == nil:
					given[a] = true
				}
				continue
			}
			for a := range given {
				p.Put(a)
				delete(given, a)
				break
			}
		}
	}
}

func TestChoose(t *testing.T) {
	ranges := []Range{{netip.MustParsePrefix("10.76.0.0/20"), 22}, {netip.MustParsePrefix("10.9.0.0/16"), 24}}
	tests := []struct {
		inUse []string
		want  string
	}{
		{nil, "10.76.0.0/22"},
		{[]string{"0.0.0.0/0", "192.168.1.0/24"}, "10.76.0.0/22"},
		{[]string{"10.76.3.255/32"}, "10.76.4.0/22"},
		{[]string{"10.76.0.0/21"}, "10.76.8.0/22"},
		{[]string{"10.76.0.0/16"}, "10.9.0.0/24"},
		{[]string{"10.64.0.0/10", "10.9.0.0/25"}, "10.9.1.0/24"},
		{[]string{"10.0.0.0/8"}, ""},
	}
	for _, tt := range tests {
		var inUse []netip.Prefix
		for _, u := range tt.inUse {
			inUse = append(inUse, netip.MustParsePrefix(u))
		}
		got, err := Choose(ranges, inUse)
		if err == nil && got.String() != tt.want || err != nil && (tt.want != "" || !errdefs.Is(err, errdefs.Exhausted)) {
			t.Errorf("%v: %v %v, want %s", tt.inUse, got, err, tt.want)
		}
	}
	for _, r := range DefaultRanges() {
		if r.Base != r.Base.Masked() || r.Bits != 22 {
			t.Errorf("range %v", r)
		}
	}
}

func TestPoolOfParts(t *testing.T) {
	c := Config{
		Subnet: netip.MustParsePrefix("10.5.0.0/16"), Range: netip.MustParsePrefix("10.5.9.0/30"), Gateway: netip.MustParseAddr("10.5.9.1"),
		Reserved: []netip.Addr{netip.MustParseAddr("10.5.9.2"), netip.MustParseAddr("10.5.1.1")},
	}
	p, err := NewPool(c)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for {
		a, err := p.Get()
		if err != nil {
			break
		}
		got = append(got, a.String())
	}
	if len(got) != 2 || got[0] != "10.5.9.0" || got[1] != "10.5.9.3" {
		t.Errorf("gave %v", got)
	}
	if !p.Take(netip.MustParseAddr("10.5.200.1")) || p.Take(netip.MustParseAddr("10.5.1.1")) {
		t.Error("an address outside of the range can be asked for, a reserved one cannot")
	}
	for name, c := range map[string]Config{
		"range elsewhere":    {Subnet: c.Subnet, Range: netip.MustParsePrefix("10.6.0.0/24")},
		"range too large":    {Subnet: c.Subnet, Range: netip.MustParsePrefix("10.0.0.0/8")},
		"gateway elsewhere":  {Subnet: c.Subnet, Gateway: netip.MustParseAddr("10.6.0.1")},
		"gateway is network": {Subnet: c.Subnet, Gateway: netip.MustParseAddr("10.5.0.0")},
		"reserved twice":     {Subnet: c.Subnet, Reserved: []netip.Addr{netip.MustParseAddr("10.5.0.1")}},
		"range of IPv6":      {Subnet: c.Subnet, Range: netip.MustParsePrefix("fd00::/64")},
	} {
		if _, err := NewPool(c); !errdefs.Is(err, errdefs.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	six, err := NewPool(Config{Subnet: netip.MustParsePrefix("fd00:1::/64")})
	if err != nil {
		t.Fatal(err)
	}
	if a, err := six.Get(); err != nil || a.String() != "fd00:1::2" || six.Gateway().String() != "fd00:1::1" {
		t.Errorf("%v %v", a, err)
	}
}

func TestChooseULA(t *testing.T) {
	a := ChooseULA("/run/lade", "web", nil)
	if a != ChooseULA("/run/lade", "web", nil) || a.Bits() != 64 || a.Addr().As16()[0] != 0xfd {
		t.Errorf("%v", a)
	}
	if b := ChooseULA("/run/lade", "web", []netip.Prefix{a}); b.Overlaps(a) || b.Bits() != 64 {
		t.Errorf("%v beside %v", b, a)
	}
	if b := ChooseULA("/run/other", "web", nil); b == a {
		t.Error("two engines have the same subnet")
	}
}

func FuzzParseRange(f *testing.F) {
	for _, s := range []string{"base=10.0.0.0/8,size=24", "base=10.0.0.0/8", "size=3", "", "base=fd00::/8,size=64", "base=1.2.3.4/33,size=-1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRange(s)
		if err != nil {
			return
		}
		if p, err := Choose([]Range{r}, nil); err != nil || p.Bits() != r.Bits {
			t.Errorf("%q: %v %v", s, p, err)
		}
	})
}
