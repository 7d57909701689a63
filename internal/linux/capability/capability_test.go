package capability

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
)

func TestParse(t *testing.T) {
	tests := []struct {
		name string
		want uint
	}{
		{"CAP_CHOWN", unix.CAP_CHOWN},
		{"chown", unix.CAP_CHOWN},
		{"cap_Net_Raw", unix.CAP_NET_RAW},
		{"SYS_ADMIN", unix.CAP_SYS_ADMIN},
		{"CAP_SETFCAP", unix.CAP_SETFCAP},
		{"CAP_SYSLOG", unix.CAP_SYSLOG},
		{"CAP_BPF", unix.CAP_BPF},
		{"checkpoint_restore", unix.CAP_CHECKPOINT_RESTORE},
	}
	for _, tt := range tests {
		if got, err := Parse(tt.name); got != tt.want || err != nil {
			t.Errorf("Parse(%q) = %d, %v; want %d", tt.name, got, err, tt.want)
		}
	}
	for _, bad := range []string{"", "CAP_", "ALL", "CAP_CAP_CHOWN", "CHOWN ", "CAP_NEW", "0"} {
		if n, err := Parse(bad); !errdefs.Is(err, errdefs.Invalid) {
			t.Errorf("Parse(%q) = %d, %v; want an error of class invalid", bad, n, err)
		}
	}
}

func TestNamesRoundTrip(t *testing.T) {
	if Count != unix.CAP_LAST_CAP+1 {
		t.Errorf("Count is %d; x/sys knows %d", Count, unix.CAP_LAST_CAP+1)
	}
	for n := range Count {
		if got, err := Parse(Name(n)); got != n || err != nil {
			t.Errorf("Parse(Name(%d)) = %d, %v", n, got, err)
		}
	}
	if got := Name(63); got != "63" {
		t.Errorf("Name(63) = %q", got)
	}
}

func TestSet(t *testing.T) {
	s, err := ParseSet([]string{"CAP_KILL", "chown", "CAP_KILL"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"CAP_CHOWN", "CAP_KILL"}, s.Names()); diff != "" {
		t.Error(diff)
	}
	if s.String() != "CAP_CHOWN,CAP_KILL" || !s.Has(unix.CAP_KILL) || s.Without(unix.CAP_KILL).Has(unix.CAP_KILL) {
		t.Errorf("%v misbehaves", s)
	}
	s, err = ParseSet([]string{"X", "CAP_KILL", "Y"})
	if err == nil || !strings.Contains(err.Error(), `"X"`) || !strings.Contains(err.Error(), `"Y"`) || !s.Has(unix.CAP_KILL) {
		t.Errorf("got %v, %v; want both unknown names and CAP_KILL", s, err)
	}
}

func TestKernel(t *testing.T) {
	all, err := Supported()
	if err != nil {
		t.Fatal(err)
	}
	h, err := Current()
	if err != nil {
		t.Fatal(err)
	}
	if h.Bounding&^all != 0 || h.Effective&^h.Permitted != 0 {
		t.Errorf("held %+v does not fit in supported %x", h, all)
	}
}

func TestParseStatusRefusesRubbish(t *testing.T) {
	for _, s := range []string{"", "CapEff:\t0\n", "CapEff:\tzz\nCapPrm: 0\nCapInh: 0\nCapBnd: 0\nCapAmb: 0\n"} {
		if h, err := parseStatus([]byte(s)); err == nil {
			t.Errorf("%q: got %+v", s, h)
		}
	}
}
