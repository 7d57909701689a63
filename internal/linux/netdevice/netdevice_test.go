package netdevice

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// TestParseAddress reads what put writes: the kernel uses one form for both.
func TestParseAddress(t *testing.T) {
	for _, want := range []address{
		{prefix: netip.MustParsePrefix("192.0.2.9/24"), global: true},
		{prefix: netip.MustParsePrefix("2001:db8::9/64"), global: true},
		{prefix: netip.MustParsePrefix("192.0.2.9/32"), peer: netip.MustParseAddr("192.0.2.1"), global: true},
	} {
		got, index, err := parseAddress(put(7, want).Data)
		if err != nil || index != 7 || got != want {
			t.Errorf("got %+v of device %d, want %+v, %v", got, index, want, err)
		}
	}
	if _, _, err := parseAddress(make([]byte, unix.SizeofIfAddrmsg-1)); err == nil {
		t.Error("a message that is cut off is read")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(put(7, address{prefix: netip.MustParsePrefix("192.0.2.9/24")}).Data)
	f.Add(put(7, address{prefix: netip.MustParsePrefix("2001:db8::9/64")}).Data)
	f.Add([]byte{})
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _, _ = parseAddress(b)
		_, _ = parseLink(b)
	})
}
