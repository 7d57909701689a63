package etcfiles

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	api "github.com/moby/moby/api/types/container"
)

func TestMergeResolv(t *testing.T) {
	const host = "# made by hand\nsearch  example.org lan\nnameserver 127.0.0.53\nnameserver 10.0.0.1\nnameserver ::1\nnameserver fe80::1%eth0\nnameserver junk\noptions edns0 trust-ad\nlookup file\n"
	addr := func(s ...string) (out []netip.Addr) {
		for _, a := range s {
			out = append(out, netip.MustParseAddr(a))
		}
		return out
	}
	for _, tt := range []struct {
		name string
		h    api.HostConfig
		want string
	}{
		{"servers on the loopback are out of reach", api.HostConfig{NetworkMode: "bridge"}, "search example.org lan\nnameserver 10.0.0.1\nnameserver fe80::1%eth0\noptions edns0 trust-ad\nlookup file\n"},
		{"but not in the host's network", api.HostConfig{NetworkMode: "host"}, "search example.org lan\nnameserver 127.0.0.53\nnameserver 10.0.0.1\nnameserver ::1\nnameserver fe80::1%eth0\noptions edns0 trust-ad\nlookup file\n"},
		{"own servers", api.HostConfig{NetworkMode: "bridge", DNS: addr("9.9.9.9", "::2")}, "search example.org lan\noptions edns0 trust-ad\nlookup file\nnameserver 9.9.9.9\nnameserver ::2\n"},
		{"own search and options", api.HostConfig{NetworkMode: "bridge", DNSSearch: []string{"a", "b"}, DNSOptions: []string{"ndots:2"}}, "nameserver 10.0.0.1\nnameserver fe80::1%eth0\nlookup file\nsearch a b\noptions ndots:2\n"},
		{"no search at all", api.HostConfig{NetworkMode: "bridge", DNSSearch: []string{"."}}, "nameserver 10.0.0.1\nnameserver fe80::1%eth0\noptions edns0 trust-ad\nlookup file\n"},
	} {
		if d := cmp.Diff(tt.want, string(mergeResolv([]byte(host), &tt.h))); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, d)
		}
	}
}

// TestWithOption checks that a container that asks the engine asks for names
// without dots first, unless somebody said how.
func TestWithOption(t *testing.T) {
	for text, want := range map[string]string{
		"search lan\noptions edns0\nnameserver 127.0.0.11\n": "search lan\noptions edns0 ndots:0\nnameserver 127.0.0.11\n",
		"options ndots:2 edns0\n":                            "options ndots:2 edns0\n",
		"nameserver 127.0.0.11\n":                            "nameserver 127.0.0.11\noptions ndots:0\n",
	} {
		if got := string(withOption([]byte(text), "ndots:0")); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	h := api.HostConfig{NetworkMode: "front", DNS: []netip.Addr{netip.MustParseAddr("9.9.9.9")}, DNSOptions: []string{"edns0"}}
	got, err := Resolv(&h, true)
	if err != nil {
		t.Fatal(err)
	}
	if s := string(got); !strings.Contains(s, "nameserver 127.0.0.11\n") || strings.Contains(s, "9.9.9.9") || !strings.Contains(s, "options edns0 ndots:0\n") {
		t.Errorf("with names:\n%s", s)
	}
}

func TestOnlyLocalServers(t *testing.T) {
	for text, want := range map[string]bool{
		"nameserver 127.0.0.53\n": true, "nameserver 127.0.0.53\nnameserver 10.0.0.1\n": false, "search x\n": false, "": false, "nameserver ::1": true,
	} {
		if got := onlyLocalServers([]byte(text)); got != want {
			t.Errorf("%q: %t", text, got)
		}
	}
}

func TestHosts(t *testing.T) {
	got, err := Hosts(&api.Config{Hostname: "web", Domainname: "example.org"}, &api.HostConfig{ExtraHosts: []string{"db:10.0.0.2"}}, netip.MustParseAddr("10.76.0.2"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"127.0.0.1\tlocalhost\n", "10.76.0.2\tweb.example.org web\n", "10.0.0.2\tdb\n"} {
		if !strings.Contains(string(got), want) {
			t.Errorf("lacks %q:\n%s", want, got)
		}
	}
}
