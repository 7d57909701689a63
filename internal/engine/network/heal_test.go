package network

import (
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	api "github.com/moby/moby/api/types/network"

	"lade/internal/ident"
	"lade/test/kerneltest"
)

// TestHeal takes away one thing after the other, as an administrator or a firewall
// does, and waits until it is there again.
func TestHeal(t *testing.T) {
	s, closed := open(t, t.TempDir(), nil)
	defer closed()
	if _, err := s.Create(t.Context(), api.CreateRequest{Name: "web"}); err != nil {
		t.Fatal(err)
	}
	port := api.MustParsePort("80/tcp")
	j := Join{
		ID: ident.New(), Name: "c", First: "web", Networks: map[string]*api.EndpointSettings{"web": {Aliases: []string{"www"}}},
		Ports: api.PortMap{port: {{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: "8080"}}},
	}
	p, err := s.Attach(t.Context(), j, process(t, true))
	if err != nil {
		t.Fatal(err)
	}
	link := "lade" + p.Networks["web"].EndpointID[:8]
	whole := func() bool {
		v, err := s.Verify(t.Context())
		if err != nil || len(v.Differences) > 0 {
			return false
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		n, err := s.find("web")
		if err != nil {
			return false
		}
		all, err1 := s.host.Links.Links()
		addrs, err2 := s.host.Links.Addrs()
		l, err3 := s.host.Links.LinkByName(link)
		return err1 == nil && err2 == nil && err3 == nil && sound(n, all, addrs) && l.Master == n.up.index && l.Up
	}
	if !whole() {
		t.Fatal("it is not whole to begin with")
	}
	s.mu.Lock()
	n, _ := s.find("web")
	bridge := n.up.rec.Bridge
	s.mu.Unlock()
	var took []time.Duration
	for range 3 {
		for _, what := range []string{
			"nft flush ruleset", "nft delete table inet lade", "nft delete table bridge lade", "nft flush chain inet lade forward",
			"nft add rule inet lade raw accept", "ip link del " + bridge, "ip link del " + link, "ip link set " + bridge + " down",
			"ip link set " + link + " nomaster", "ip addr flush dev " + bridge,
			"ip link set " + link + " down", "ip -6 addr flush dev " + bridge,
		} {
			args := strings.Fields(what)
			out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput()
			if owned := s.host.Rules.Owns() && args[0] == "nft" && what != "nft flush ruleset"; owned && err == nil || !owned && err != nil {
				t.Fatalf("%s: %v %s", what, err, out)
			}
			began := time.Now()
			kerneltest.Eventually(t, "after "+what+" all is there again", whole)
			took = append(took, time.Since(began))
		}
	}
	slices.Sort(took)
	t.Logf("restored in %v (median), %v at most", took[len(took)/2], took[len(took)-1])
	if err := s.Detach(t.Context(), j.ID); err != nil {
		t.Error(err)
	}
}
