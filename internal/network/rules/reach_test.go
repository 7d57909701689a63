package rules

import (
	"net/netip"
	"testing"
)

// TestReachOf looks at the answers that one would not guess. That they are
// what happens, internal/engine/network.TestMatrix finds out with packets.
func TestReachOf(t *testing.T) {
	w := example()
	for name, test := range map[string]struct {
		host, to string
		want     string // y or n of each origin, in their order
	}{
		"on all addresses":                {"0.0.0.0:8080", "10.76.0.2:80", "yyyyy"},
		"on all addresses, IPv6":          {"[::]:8080", "[fd00:1ade::2]:80", "nyyyy"},
		"on loopback":                     {"127.0.0.1:8080", "10.76.0.2:80", "ynnnn"},
		"on one address":                  {"192.0.2.1:8080", "10.76.0.2:80", "nyyyy"},
		"in an internal network":          {"0.0.0.0:8080", "10.76.4.2:80", "yynny"},
		"where containers are kept apart": {"0.0.0.0:8080", "10.76.5.2:80", "yyyyy"},
		"nowhere":                         {"0.0.0.0:8080", "198.51.100.2:80", "nnnnn"},
	} {
		got := ""
		for _, r := range ReachOf(w, Port{6, netip.MustParseAddrPort(test.host), netip.MustParseAddrPort(test.to)}) {
			if r.By == "" {
				t.Errorf("%s: %s: no word why", name, r.From)
			}
			if r.Reached {
				got += "y"
			} else {
				got += "n"
			}
		}
		if got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}
