package network

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	api "github.com/moby/moby/api/types/network"

	"lade/internal/ident"
	"lade/test/kerneltest"
)

// listen opens a UDP socket in the network namespace of a process.
func listen(tb testing.TB, pid, port int) (c *net.UDPConn) {
	tb.Helper()
	inside(tb, pid, func() (err error) {
		c, err = net.ListenUDP("udp4", &net.UDPAddr{Port: port})
		return err
	})
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

// TestFlowsMoveOn: who sends to a published port from one socket all the time
// reaches the container that has the port now, not the one that had it.
func TestFlowsMoveOn(t *testing.T) {
	s, closed := open(t, t.TempDir(), nil)
	defer closed()
	outside := process(t, false)
	lan(t, outside)
	client := (*net.UDPConn)(nil)
	inside(t, outside, func() (err error) {
		client, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:8082")))
		return err
	})
	defer client.Close()
	arrives := func(to *net.UDPConn) bool {
		_, _ = client.Write([]byte("x")) // an error of the last one may be told here
		_ = to.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		_, err := to.Read(make([]byte, 1))
		return err == nil
	}
	_, _ = client.Write([]byte("x")) // nobody has it yet: the kernel takes it for the host's own
	for range 3 {
		pid := process(t, true)
		server := listen(t, pid, 7)
		j := Join{
			ID: ident.New(), Name: "c", Networks: map[string]*api.EndpointSettings{Default: nil},
			Ports: api.PortMap{api.MustParsePort("7/udp"): {{HostIP: netip.MustParseAddr("0.0.0.0"), HostPort: "8082"}}},
		}
		if _, err := s.Attach(t.Context(), j, pid); err != nil {
			t.Fatal(err)
		}
		kerneltest.Eventually(t, "packets arrive at the container that has the port", func() bool { return arrives(server) })
		if err := s.Detach(t.Context(), j.ID); err != nil {
			t.Fatal(err)
		}
		if arrives(server) {
			t.Error("packets arrive at a container whose port is published no more")
		}
	}
}

// TestGatewayMoves: as the way in moves from one network to another, so does what
// the host's loopback needs of it.
func TestGatewayMoves(t *testing.T) {
	s, closed := open(t, t.TempDir(), nil)
	defer closed()
	for _, name := range []string{"one", "two"} {
		if _, err := s.Create(t.Context(), api.CreateRequest{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	pid := process(t, true)
	server := listen(t, pid, 7)
	j := Join{
		ID: ident.New(), Name: "c", Networks: map[string]*api.EndpointSettings{"one": nil},
		Ports: api.PortMap{api.MustParsePort("7/udp"): {{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: "8083"}}},
	}
	if _, err := s.Attach(t.Context(), j, pid); err != nil {
		t.Fatal(err)
	}
	reached := func() bool {
		c, err := net.Dial("udp", "127.0.0.1:8083")
		if err != nil {
			return false
		}
		defer c.Close()
		_, _ = c.Write([]byte("x"))
		_ = server.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		_, err = server.Read(make([]byte, 1))
		return err == nil
	}
	kerneltest.Eventually(t, "reached by the first network", reached)
	if err := s.Connect(t.Context(), j.ID, "c", Wish{Network: "two", Settings: &api.EndpointSettings{GwPriority: 1}}, pid); err != nil {
		t.Fatal(err)
	}
	if got := s.Place(j.ID).Networks; !got["two"].Gateway.IsValid() {
		t.Errorf("networks %v", got)
	}
	kerneltest.Eventually(t, "reached by the network of the higher priority", reached)
	if err := s.Disconnect(t.Context(), j.ID, "one"); err != nil {
		t.Fatal(err)
	}
	kerneltest.Eventually(t, "reached by the network that is left", reached)
	if err := s.Detach(context.Background(), j.ID); err != nil {
		t.Error(err)
	}
}

// TestLoopback6: a port cannot be published where nothing would come by it.
func TestLoopback6(t *testing.T) {
	s, closed := open(t, t.TempDir(), nil)
	defer closed()
	j := Join{
		ID: ident.New(), Name: "c", Networks: map[string]*api.EndpointSettings{Default: nil},
		Ports: api.PortMap{api.MustParsePort("80/tcp"): {{HostIP: netip.IPv6Loopback(), HostPort: "8080"}}},
	}
	if _, err := s.Attach(t.Context(), j, process(t, true)); err == nil || !strings.Contains(err.Error(), "cannot publish on [::1]") {
		t.Errorf("publish on [::1]: %v", err)
	}
}
