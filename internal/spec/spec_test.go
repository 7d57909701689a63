package spec

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/errdefs"
	"lade/internal/linux/capability"
)

func TestAddDrop(t *testing.T) {
	base := []string{"CAP_CHOWN", "CAP_KILL"}
	allBut := func(drop ...string) []string {
		s, err := capability.ParseSet(drop)
		if err != nil {
			t.Fatal(err)
		}
		return (capability.Known &^ s).Names()
	}
	tests := []struct {
		name            string
		base, add, drop []string
		want            []string
	}{
		{"nothing asked", base, nil, nil, base},
		{"add and drop", base, []string{"net_admin"}, []string{"CAP_kill"}, []string{"CAP_CHOWN", "CAP_NET_ADMIN"}},
		{"add what is there", base, []string{"CHOWN"}, nil, base},
		{"drop what is not there", base, nil, []string{"SYS_ADMIN"}, base},
		{"drop all", base, nil, []string{"ALL"}, []string{}},
		{"only one", base, []string{"CAP_SYS_TIME"}, []string{"all"}, []string{"CAP_SYS_TIME"}},
		{"add all", nil, []string{"ALL"}, nil, allBut()},
		{"all but one", base, []string{"all"}, []string{"SYS_ADMIN"}, allBut("CAP_SYS_ADMIN")},
		{"all and none", base, []string{"ALL", "KILL"}, []string{"ALL"}, []string{"CAP_KILL"}},
		{"both at once", base, []string{"KILL"}, []string{"KILL"}, base},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := AddDrop(tt.base, tt.add, tt.drop)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	for _, bad := range [][3][]string{{{"X"}, nil, nil}, {nil, {"CAP_ALL"}, nil}, {nil, nil, {"sys admin"}}, {nil, {""}, nil}} {
		if got, err := AddDrop(bad[0], bad[1], bad[2]); !errdefs.Is(err, errdefs.Invalid) {
			t.Errorf("%q: got %v, %v", bad, got, err)
		}
	}
	_, err := AddDrop(nil, []string{"CAP_CHWON"}, nil)
	if err == nil || err.Error() != `invalid CapAdd: unknown capability: "CAP_CHWON"` {
		t.Errorf("got %v", err)
	}
}

func TestDefaultIsTheCallers(t *testing.T) {
	a := Default()
	a.Linux.MaskedPaths[0], a.Process.Capabilities.Bounding[0], a.Mounts[0].Options[0] = "x", "x", "x"
	b := Default()
	if b.Linux.MaskedPaths[0] == "x" || b.Process.Capabilities.Effective[0] == "x" || b.Mounts[0].Options[0] == "x" {
		t.Error("two calls share memory")
	}
	if n := len(b.Process.Capabilities.Bounding); n != 14 || len(b.Process.Capabilities.Inheritable) != 0 || len(b.Process.Capabilities.Ambient) != 0 {
		t.Errorf("%d capabilities, inheritable %v, ambient %v", n, b.Process.Capabilities.Inheritable, b.Process.Capabilities.Ambient)
	}
}

func TestSample(t *testing.T) {
	s := Sample()
	Rootless(s, 1000, 1001)
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, no := range []string{`"network"`, "gid=5", `"resources"`, `"type":"sysfs"`} {
		if strings.Contains(string(b), no) {
			t.Errorf("a rootless sample has %s", no)
		}
	}
	for _, yes := range []string{`"user"`, `"hostID":1000`, `"hostID":1001`, `"rbind"`} {
		if !strings.Contains(string(b), yes) {
			t.Errorf("a rootless sample lacks %s", yes)
		}
	}
}

// names returns the calls that a filter has rules for.
func names(s *specs.LinuxSeccomp) map[string][]specs.LinuxSyscall {
	m := map[string][]specs.LinuxSyscall{}
	for _, c := range s.Syscalls {
		for _, n := range c.Names {
			m[n] = append(m[n], c)
		}
	}
	return m
}

func TestDefaultSeccompFollowsCapabilities(t *testing.T) {
	none := names(DefaultSeccompFor(Capabilities(), "amd64"))
	for _, call := range []string{"mount", "bpf", "unshare", "setns", "reboot", "init_module", "io_uring_setup", "userfaultfd", "keyctl", "add_key", "kexec_load", "swapon", "open_by_handle_at", "nfsservctl"} {
		if none[call] != nil {
			t.Errorf("%s is open by default", call)
		}
	}
	if c := none["clone3"]; len(c) != 1 || c[0].Action != specs.ActErrno || *c[0].ErrnoRet != 38 {
		t.Errorf("clone3: %+v", c)
	}
	if none["chroot"] == nil {
		t.Error("chroot is closed, with CAP_SYS_CHROOT")
	}
	for cap, call := range map[string]string{
		"CAP_SYS_ADMIN": "mount", "CAP_SYS_BOOT": "reboot", "CAP_SYS_MODULE": "init_module", "CAP_SYS_PACCT": "acct", "CAP_SYS_PTRACE": "kcmp",
		"CAP_SYS_RAWIO": "iopl", "CAP_SYS_TIME": "clock_settime", "CAP_SYS_TTY_CONFIG": "vhangup", "CAP_SYS_NICE": "mbind", "CAP_SYSLOG": "syslog",
		"CAP_BPF": "bpf", "CAP_PERFMON": "perf_event_open", "CAP_DAC_READ_SEARCH": "open_by_handle_at",
	} {
		if names(DefaultSeccompFor(nil, "amd64"))[call] != nil {
			t.Errorf("%s is open without %s", call, cap)
		}
		if names(DefaultSeccompFor([]string{cap}, "amd64"))[call] == nil {
			t.Errorf("%s is closed with %s", call, cap)
		}
	}
	admin := names(DefaultSeccompFor([]string{"CAP_SYS_ADMIN"}, "amd64"))
	for _, call := range []string{"clone", "clone3"} {
		if c := admin[call]; len(c) != 1 || c[0].Action != specs.ActAllow || len(c[0].Args) > 0 {
			t.Errorf("%s for an administrator: %+v", call, c)
		}
	}
}

func TestDefaultSeccompHasNoDoubles(t *testing.T) {
	all := strings.Fields(everyone)
	slices.Sort(all)
	for i := 1; i < len(all); i++ {
		if all[i] == all[i-1] {
			t.Errorf("%s is there twice", all[i])
		}
	}
}
