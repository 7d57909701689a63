package portlock

import (
	"errors"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// TestHold: who holds a port keeps others from it, and nobody is served.
func TestHold(t *testing.T) {
	for _, tt := range []struct {
		protocol uint8
		network  string
		addr     string
	}{{6, "tcp4", "127.0.0.1"}, {17, "udp4", "127.0.0.1"}, {6, "tcp6", "::1"}, {17, "udp6", "::1"}, {6, "tcp4", "0.0.0.0"}} {
		at := netip.AddrPortFrom(netip.MustParseAddr(tt.addr), 0)
		l, err := Hold(tt.protocol, at)
		if err != nil {
			t.Fatalf("%s: %v", tt.network, err)
		}
		taken := netip.AddrPortFrom(at.Addr(), l.Port())
		if l.Port() == 0 {
			t.Fatalf("%s: no port", tt.network)
		}
		if _, err := Hold(tt.protocol, taken); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("%s: hold it again: %v", tt.network, err)
		}
		if tt.protocol == 6 {
			var d net.Dialer
			to := net.JoinHostPort("127.0.0.1", strconv.Itoa(int(l.Port())))
			if tt.network == "tcp6" {
				to = taken.String()
			}
			d.Timeout = 5 * time.Second
			if c, err := d.DialContext(t.Context(), tt.network, to); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("%s: connect: %v %v", tt.network, c, err)
			}
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		again, err := Hold(tt.protocol, taken)
		if err != nil {
			t.Errorf("%s: hold it after all: %v", tt.network, err)
			continue
		}
		_ = again.Close()
	}
	if _, err := Hold(6, netip.MustParseAddrPort("192.0.2.77:80")); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("an address of somebody else: %v", err)
	}
}
