package cgroup

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/errdefs"
)

var update = flag.Bool("update", false, "write the golden files anew")

const hybridInfo = `22 27 0:21 / /proc rw,relatime - proc none rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs none rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:5 master:2 - cgroup none rw,cpu,cpuacct
34 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup none rw,cpuset
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup none rw,memory
36 31 0:33 / /sys/fs/cgroup/devices rw,relatime - cgroup none rw,devices
38 31 0:35 / /sys/fs/cgroup/blkio rw,relatime - cgroup none rw,blkio
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup none rw,pids
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup none rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 none rw,nsdelegate
50 27 0:36 / /mnt/other rw,relatime - cgroup none rw,pids
`

const hybridOwn = `9:name=systemd:/
8:pids:/
4:memory:/a/b
1:cpu,cpuacct:/a
0::/
`

func hybrid() Layout {
	l := parseMounts([]byte(hybridInfo))
	l.addOwn([]byte(hybridOwn))
	l.Hierarchies[l.v2()].Controllers = []string{"hugetlb"}
	return l
}

func unified() Layout {
	l := parseMounts([]byte("28 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 none rw,nsdelegate\n"))
	l.addOwn([]byte("0::/user.slice/session.scope\n"))
	l.Hierarchies[0].Controllers = strings.Fields("cpuset cpu io memory hugetlb pids rdma")
	return l
}

func TestParseMounts(t *testing.T) {
	want := []Hierarchy{
		{Controllers: []string{"cpu", "cpuacct"}, Mount: "/sys/fs/cgroup/cpu,cpuacct", Root: "/", Own: "/a"},
		{Controllers: []string{"cpuset"}, Mount: "/sys/fs/cgroup/cpuset", Root: "/"},
		{Controllers: []string{"memory"}, Mount: "/sys/fs/cgroup/memory", Root: "/", Own: "/a/b"},
		{Controllers: []string{"devices"}, Mount: "/sys/fs/cgroup/devices", Root: "/"},
		{Controllers: []string{"blkio"}, Mount: "/sys/fs/cgroup/blkio", Root: "/"},
		{Controllers: []string{"pids"}, Mount: "/sys/fs/cgroup/pids", Root: "/", Own: "/"},
		{Name: "systemd", Mount: "/sys/fs/cgroup/systemd", Root: "/", Own: "/"},
		{V2: true, Controllers: []string{"hugetlb"}, Mount: "/sys/fs/cgroup/unified", Root: "/", Own: "/"},
	}
	if diff := cmp.Diff(want, hybrid().Hierarchies); diff != "" {
		t.Error(diff)
	}
	hidden := hybridInfo + "60 31 0:38 / /sys/fs/cgroup rw,relatime - cgroup2 none rw\n"
	l := parseMounts([]byte(hidden))
	// What was outside of the folder that is hidden stays in sight.
	want = []Hierarchy{
		{Controllers: []string{"pids"}, Mount: "/mnt/other", Root: "/"},
		{V2: true, Mount: "/sys/fs/cgroup", Root: "/"},
	}
	if diff := cmp.Diff(want, l.Hierarchies); diff != "" {
		t.Error(diff)
	}
	odd := `1 2 0:3 /with\040space /mnt/a\040b rw - cgroup none rw,noprefix,cpuset` + "\n5 6\n\n- cgroup\n - cgroup2\n"
	got := parseMounts([]byte(odd)).Hierarchies
	if len(got) == 0 || got[0].Mount != "/mnt/a b" || got[0].Root != "/with space" || !got[0].NoPrefix {
		t.Errorf("got %+v", got)
	}
}

// TestRootMayComeLast: the mount table is not in the order of the tree.
func TestRootMayComeLast(t *testing.T) {
	info := "31 27 0:28 / /sys/fs/cgroup rw - cgroup2 none rw\n27 1 254:0 / / rw - ext4 /dev/vda rw\n"
	if l := parseMounts([]byte(info)); !l.Unified() {
		t.Errorf("got %+v", l)
	}
}

func FuzzParseMounts(f *testing.F) {
	f.Add([]byte(hybridInfo), []byte(hybridOwn))
	f.Add([]byte(" - cgroup"), []byte("::"))
	f.Fuzz(func(t *testing.T, info, own []byte) {
		l := parseMounts(info)
		l.addOwn(own)
		if p, err := l.Plan("x", "id", nil); err == nil && len(p.Steps) < len(p.Group.Dirs) {
			t.Errorf("%d steps make %d directories", len(p.Steps), len(p.Group.Dirs))
		}
	})
}

// everything asks for every limit there is.
func everything() *specs.LinuxResources {
	device := specs.LinuxBlockIODevice{Major: 8, Minor: 16}
	throttle := []specs.LinuxThrottleDevice{{LinuxBlockIODevice: device, Rate: 1 << 20}}
	return &specs.LinuxResources{
		Devices: []specs.LinuxDeviceCgroup{{Access: "rwm"}, {Allow: true, Type: "c", Major: new(int64(10)), Minor: new(int64(229)), Access: "rw"}},
		CPU: &specs.LinuxCPU{
			Shares: new(uint64(512)), Quota: new(int64(50_000)), Period: new(uint64(200_000)), Burst: new(uint64(1000)),
			RealtimeRuntime: new(int64(950)), RealtimePeriod: new(uint64(1000)), Cpus: "0-1", Mems: "0", Idle: new(int64(0)),
		},
		Memory: &specs.LinuxMemory{
			Limit: new(int64(64 << 20)), Swap: new(int64(96 << 20)), Reservation: new(int64(32 << 20)),
			Swappiness: new(uint64(10)), DisableOOMKiller: new(true),
		},
		Pids: &specs.LinuxPids{Limit: new(int64(100))},
		BlockIO: &specs.LinuxBlockIO{
			Weight: new(uint16(500)), WeightDevice: []specs.LinuxWeightDevice{{LinuxBlockIODevice: device, Weight: new(uint16(200))}},
			ThrottleReadBpsDevice: throttle, ThrottleWriteBpsDevice: throttle, ThrottleReadIOPSDevice: throttle, ThrottleWriteIOPSDevice: throttle,
		},
		HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 4 << 20}},
	}
}

func TestPlan(t *testing.T) {
	v2 := everything()
	v2.Unified = map[string]string{"memory.high": "1000000", "io.latency": "8:0 target=1\n8:16 target=2"}
	v2.Rdma = map[string]specs.LinuxRdma{"mlx5_1": {HcaHandles: new(uint32(3)), HcaObjects: new(uint32(4))}}
	tests := []struct {
		name   string
		layout Layout
		path   string
		r      *specs.LinuxResources
	}{
		{"hybrid-default", hybrid(), "", nil},
		{"hybrid-absolute", hybrid(), "/pods/one/c1", nil},
		{"hybrid-everything", hybrid(), "/c1", everything()},
		{"v2-default", unified(), "", nil},
		{"v2-everything", unified(), "/pods/c1", v2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := tt.layout.Plan(tt.path, "c1", tt.r)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, tt.name, p.Steps, p.Group)
		})
	}
}

// TestIdle: what is asked of a hierarchy, and what is above, decides whether a
// container has a cgroup there.
func TestIdle(t *testing.T) {
	info := hybridInfo + "55 31 0:40 / /sys/fs/cgroup/freezer rw - cgroup none rw,freezer\n" +
		"56 31 0:41 / /sys/fs/cgroup/net rw - cgroup none rw,net_cls,net_prio\n57 31 0:42 / /sys/fs/cgroup/perf rw - cgroup none rw,perf_event\n"
	layout := func(own string) Layout {
		l := parseMounts([]byte(info))
		for i := range l.Hierarchies {
			l.Hierarchies[i].Own = own
		}
		return l
	}
	noV2 := layout("/")
	noV2.Hierarchies = slices.DeleteFunc(noV2.Hierarchies, func(h Hierarchy) bool { return h.V2 })
	tests := []struct {
		name, path string
		l          Layout
		r          *specs.LinuxResources
		want       []string // of freezer, net, perf, systemd
	}{
		{"nothing asked", "/c1", layout("/a"), nil, []string{"systemd"}},
		{"nothing asked, relative, at the root", "c1", layout("/"), nil, nil},
		{"relative, below a cgroup of the caller", "c1", layout("/a"), nil, []string{"freezer", "net", "perf", "systemd"}},
		{"below somebody's cgroup", "/pod/c1", layout("/"), nil, []string{"freezer", "net", "perf", "systemd"}},
		{"a class asked", "/c1", layout("/"), &specs.LinuxResources{Network: &specs.LinuxNetwork{ClassID: new(uint32(1))}}, []string{"net"}},
		{"no v2 to freeze", "/c1", noV2, nil, []string{"freezer"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := tt.l.Plan(tt.path, "c1", tt.r)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, d := range p.Group.Dirs {
				tree, _, _ := strings.Cut(strings.TrimPrefix(d.Path, "/sys/fs/cgroup/"), "/")
				if slices.Contains([]string{"freezer", "net", "perf", "systemd"}, tree) {
					got = append(got, tree)
				}
			}
			slices.Sort(got)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestUpdate(t *testing.T) {
	for name, l := range map[string]Layout{"hybrid-update": hybrid(), "v2-update": unified()} {
		p, err := l.Plan("/c1", "c1", nil)
		if err != nil {
			t.Fatal(err)
		}
		r := everything()
		r.Devices = nil
		steps, err := l.Update(p.Group, r)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name, steps, p.Group)
	}
}

func golden(t *testing.T, name string, steps []Step, g Group) {
	t.Helper()
	var b strings.Builder
	for _, s := range steps {
		fmt.Fprintf(&b, "%s\t# %s\n", s, s.Why)
	}
	for _, d := range g.Dirs {
		fmt.Fprintf(&b, "group %s\n", d.Path)
	}
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Error(diff)
	}
}

func TestPlanStaysInside(t *testing.T) {
	for _, path := range []string{"../../../etc", "/../../etc", "a/../../b", "..", "/", ".", "./"} {
		for _, id := range []string{"c1", "../../x"} {
			p, err := hybrid().Plan(path, id, nil)
			if err != nil {
				t.Errorf("%q: %v", path, err)
				continue
			}
			for _, d := range p.Group.Dirs {
				if i := len("/sys/fs/cgroup/"); !strings.HasPrefix(d.Path, "/sys/fs/cgroup/") || strings.Count(d.Path[i:], "/") == 0 || strings.Contains(d.Path, "..") {
					t.Errorf("path %q, id %q: %s", path, id, d.Path)
				}
			}
		}
	}
	if p, err := hybrid().Plan("", "..", nil); !errdefs.Is(err, errdefs.Invalid) {
		t.Errorf("no name: %v, %v", p, err)
	}
}

func TestPlanRefuses(t *testing.T) {
	tests := []struct {
		name   string
		layout Layout
		r      specs.LinuxResources
		class  errdefs.Class
		text   string
	}{
		{"few shares", hybrid(), specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: new(uint64(1))}}, errdefs.Invalid, "minimum allowed cpu-shares is 2"},
		{"many shares", unified(), specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: new(uint64(300000))}}, errdefs.Invalid, "maximum allowed cpu-shares"},
		{"swappiness", hybrid(), specs.LinuxResources{Memory: &specs.LinuxMemory{Swappiness: new(uint64(101))}}, errdefs.Invalid, "0 to 100"},
		{"swap without memory", unified(), specs.LinuxResources{Memory: &specs.LinuxMemory{Swap: new(int64(1000))}}, errdefs.Invalid, "no limit for memory"},
		{"swap below memory", unified(), specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: new(int64(2000)), Swap: new(int64(1000))}}, errdefs.Invalid, "less than"},
		{"page size", unified(), specs.LinuxResources{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "../x"}}}, errdefs.Invalid, "page size"},
		{"file elsewhere", unified(), specs.LinuxResources{Unified: map[string]string{"../memory.max": "1"}}, errdefs.Invalid, "not the name"},
		{"no rdma", hybrid(), specs.LinuxResources{Rdma: map[string]specs.LinuxRdma{"a": {}}}, errdefs.NotImplemented, "rdma"},
		{"no net_cls", unified(), specs.LinuxResources{Network: &specs.LinuxNetwork{ClassID: new(uint32(1))}}, errdefs.NotImplemented, "net_cls"},
		{"interface", hybrid(), specs.LinuxResources{Network: &specs.LinuxNetwork{Priorities: []specs.LinuxInterfacePriority{{Name: "eth0"}}}}, errdefs.NotImplemented, "net_prio"},
		{"device", hybrid(), specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Type: "q"}}}, errdefs.Invalid, "type"},
		{"weight", unified(), specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{Weight: new(uint16(1))}}, errdefs.Invalid, "10 to 1000"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := tt.layout.Plan("/c1", "c1", &tt.r)
			if !errdefs.Is(err, tt.class) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %v; want class %v and %q", err, tt.class, tt.text)
			}
		})
	}
}

func TestWeight(t *testing.T) {
	for shares, want := range map[uint64]uint64{2: 1, 3: 2, 512: 59, 1024: 100, 2048: 174, 262144: 10000} {
		if got := weight(shares); got != want {
			t.Errorf("weight(%d) = %d, want %d", shares, got, want)
		}
	}
}

func TestParseIO(t *testing.T) {
	want := []IOStats{{Major: 8, Minor: 0, ReadBytes: 10, WriteBytes: 20, ReadNumber: 1, WriteNumber: 2}}
	v2 := parseIOStat("8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n7:0\n")
	v1 := parseBlkio("8:0 Read 10\n8:0 Write 20\n8:0 Sync 30\nTotal 30\n", "8:0 Read 1\n8:0 Write 2\nTotal 3\n")
	if diff := cmp.Diff(want, v2); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want, v1); diff != "" {
		t.Error(diff)
	}
}

func BenchmarkDetect(b *testing.B) {
	for b.Loop() {
		if _, err := Detect(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPlan(b *testing.B) {
	l := hybrid()
	for b.Loop() {
		if _, err := l.Plan("/c1", "c1", nil); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzPlan: whatever a cgroup path is, it names a group of its own inside the
// hierarchies, or is refused.
func FuzzPlan(f *testing.F) {
	for _, s := range []string{"", "/", "a", "/a/b", "../..", "/../../etc", "a/../../b", "system.slice:lade:web", ".", "//", "a\x00b", "a\nb", strings.Repeat("a/", 100), "…", "/a/."} {
		f.Add(s, "web")
		f.Add("", s)
	}
	f.Fuzz(func(t *testing.T, path, id string) {
		limit := int64(10)
		for _, l := range []Layout{hybrid(), unified()} {
			p, err := l.Plan(path, id, &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: &limit}})
			if err != nil {
				continue
			}
			if len(p.Group.Dirs) == 0 {
				t.Errorf("%q, %q: no group", path, id)
			}
			for _, d := range p.Group.Dirs {
				if !below(l, d.Path) {
					t.Errorf("%q, %q: the group is %q", path, id, d.Path)
				}
			}
			for _, s := range p.Steps {
				if filepath.Clean(s.Path) != s.Path || !strings.HasPrefix(s.Path, "/sys/fs/cgroup/") {
					t.Errorf("%q, %q: a step is at %q", path, id, s.Path)
				}
			}
		}
	})
}

// below reports whether a path is inside a hierarchy, and not its top.
func below(l Layout, path string) bool {
	return slices.ContainsFunc(l.Hierarchies, func(h Hierarchy) bool {
		return strings.HasPrefix(path, h.Mount+"/") && filepath.Clean(path) == path
	})
}
