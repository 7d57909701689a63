package cgroup

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/linux/sdbus"
)

func TestPlanUnit(t *testing.T) {
	l := Layout{Hierarchies: []Hierarchy{{V2: true, Controllers: []string{"cpu", "cpuset", "memory", "pids"}, Mount: "/sys/fs/cgroup", Root: "/", Own: "/"}}}
	r := &specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: new(int64(100)), Swap: new(int64(150))},
		CPU:    &specs.LinuxCPU{Quota: new(int64(33_333)), Period: new(uint64(100_000)), Cpus: "0,9"},
		Pids:   &specs.LinuxPids{Limit: new(int64(-1))},
	}
	p, err := l.PlanUnit("machine-pod.slice:cri:c1", "id", r, Systemd{Version: 252, Annotations: map[string]string{
		"org.systemd.property.TimeoutStopSec": "2", "org.systemd.property.CollectMode": "'inactive-or-failed'", "other": "x",
	}})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := p.Group.Unified(), "/sys/fs/cgroup/machine.slice/machine-pod.slice/cri-c1.scope"; got != want {
		t.Errorf("the cgroup is %s, not %s", got, want)
	}
	want := "cri-c1.scope Description=container id Slice=machine-pod.slice Delegate=true MemoryAccounting=true CPUAccounting=true IOAccounting=true " +
		"TasksAccounting=true DefaultDependencies=false MemoryMax=100 MemorySwapMax=50 CPUQuotaPeriodUSec=100000 CPUQuotaPerSecUSec=340000 " +
		"TasksMax=18446744073709551615 AllowedCPUs=[1 2] CollectMode=inactive-or-failed TimeoutStopUSec=2000000"
	if d := cmp.Diff(strings.Fields(want), strings.Fields(p.Unit.String())); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if p.Group.Unit != "cri-c1.scope" {
		t.Errorf("the group is of unit %q", p.Group.Unit)
	}
}

func TestUnitName(t *testing.T) {
	for _, tt := range []struct {
		path        string
		user        bool
		slice, unit string
	}{
		{"", false, "system.slice", "lade-c1.scope"},
		{"", true, "user.slice", "lade-c1.scope"},
		{"a.slice:x:y", false, "a.slice", "x-y.scope"},
		{"a.slice::y", false, "a.slice", "y.scope"},
		{":x:y.slice", false, "system.slice", "y.slice"},
		{"/a/b", false, "", ""},
		{"a:b", false, "", ""},
		{"a.slice:x:", false, "", ""},
		{"a:b:c/d", false, "", ""},
	} {
		slice, unit, err := unitName(tt.path, "c1", tt.user)
		if slice != tt.slice || unit != tt.unit || (err != nil) != (tt.unit == "") {
			t.Errorf("%q: %q, %q, %v", tt.path, slice, unit, err)
		}
	}
}

func TestExpandSlice(t *testing.T) {
	for slice, want := range map[string]string{
		"-.slice": "/", "a.slice": "/a.slice", "a-b-c.slice": "/a.slice/a-b.slice/a-b-c.slice", "a--b.slice": "", "-a.slice": "", ".slice": "", "a": "", "a/b.slice": "",
	} {
		if got, err := expandSlice(slice); got != want || (err != nil) != (want == "") {
			t.Errorf("%s: %q, %v", slice, got, err)
		}
	}
}

// TestUnitProperties asserts what depends on the version of systemd, and on
// that of the cgroups.
func TestUnitProperties(t *testing.T) {
	unified, hybrid := Layout{Hierarchies: []Hierarchy{{V2: true}}}, Layout{Hierarchies: []Hierarchy{{Controllers: []string{"cpu"}}, {V2: true}}}
	for _, tt := range []struct {
		name    string
		l       Layout
		version int
		r       specs.LinuxResources
		want    []sdbus.Property
	}{
		{"v1", hybrid, 252, specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: new(uint64(7))}}, []sdbus.Property{{Name: "CPUShares", Value: uint64(7)}}},
		{"old", unified, 239, specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: "0", Period: new(uint64(5000))}}, []sdbus.Property{{Name: "CPUQuotaPerSecUSec", Value: uint64(1<<64 - 1)}}},
		{"idle", unified, 252, specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: new(uint64(7)), Idle: new(int64(1))}}, []sdbus.Property{{Name: "CPUWeight", Value: uint64(0)}}},
		{"files", unified, 252, specs.LinuxResources{Unified: map[string]string{"pids.max": "max", "memory.high": "7", "cpuset.cpus": "1", "io.max": "8:0 rbps=1"}}, []sdbus.Property{
			{Name: "AllowedCPUs", Value: []byte{2}}, {Name: "MemoryHigh", Value: uint64(7)}, {Name: "TasksMax", Value: uint64(1<<64 - 1)},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.l.UnitProperties(&tt.r, tt.version)
			if d := cmp.Diff(tt.want, got); d != "" || err != nil {
				t.Errorf("%v\n%s", err, d)
			}
		})
	}
}
