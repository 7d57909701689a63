package request

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/docker/go-units"
	"github.com/google/go-cmp/cmp"
	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestMerge(t *testing.T) {
	img := ocispec.ImageConfig{
		User: "app", WorkingDir: "/w", StopSignal: "SIGINT", Entrypoint: []string{"/entry"}, Cmd: []string{"serve"},
		Env: []string{"PATH=/bin", "A=image", "SECRET", "*", "=x", "", "B=2"}, Labels: map[string]string{"a": "image", "b": "image"},
	}
	for _, tt := range []struct {
		name string
		user api.Config
		want []string // the command
	}{
		{"nothing", api.Config{}, []string{"/entry", "serve"}},
		{"command", api.Config{Cmd: []string{"ls"}}, []string{"/entry", "ls"}},
		{"entrypoint", api.Config{Entrypoint: []string{"sh"}}, []string{"sh"}},
		{"both", api.Config{Entrypoint: []string{"sh"}, Cmd: []string{"-c"}}, []string{"sh", "-c"}},
		{"entrypoint reset", api.Config{Entrypoint: []string{""}, Cmd: []string{"ls"}}, []string{"ls"}},
	} {
		c, err := Merge(&tt.user, img)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if d := cmp.Diff(tt.want, Command(c)); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, d)
		}
	}
	c, err := Merge(&api.Config{User: "me", Env: []string{"A=mine", "GONE"}, Labels: map[string]string{"a": "mine"}}, img)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"A=mine", "GONE", "PATH=/bin", "B=2"}, c.Env); d != "" {
		t.Errorf("environment (-want +got):\n%s", d)
	}
	if d := cmp.Diff(map[string]string{"a": "mine", "b": "image"}, c.Labels); d != "" {
		t.Error(d)
	}
	if c.User != "me" || c.WorkingDir != "/w" || c.StopSignal != "SIGINT" {
		t.Errorf("%+v", c)
	}
	if _, err := Merge(&api.Config{}, ocispec.ImageConfig{}); err == nil || err.Error() != "no command specified" {
		t.Errorf("no command: %v", err)
	}
}

func TestEnvironment(t *testing.T) {
	got := Environment([]string{"PATH=/bin", "HOME=/", "X=1"}, []string{"HOME=/h", "NEW=a=b", "X", "EMPTY="})
	if d := cmp.Diff([]string{"PATH=/bin", "HOME=/h", "NEW=a=b", "EMPTY="}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestParseBind(t *testing.T) {
	for s, want := range map[string]Mount{
		"/a:/b":            {Source: "/a", Target: "/b", Propagation: "rprivate"},
		"/a/:/b/../c":      {Source: "/a", Target: "/c", Propagation: "rprivate"},
		"/a:/b:ro":         {Source: "/a", Target: "/b", ReadOnly: true, RecursiveReadOnly: true, Propagation: "rprivate", Mode: "ro"},
		"/a:/b:rw,z":       {Source: "/a", Target: "/b", Propagation: "rprivate", Mode: "rw,z"},
		"/a:/b:Z,rslave":   {Source: "/a", Target: "/b", Propagation: "rslave", Mode: "Z,rslave"},
		"/a:/b:ro,private": {Source: "/a", Target: "/b", ReadOnly: true, RecursiveReadOnly: true, Propagation: "private", Mode: "ro,private"},
	} {
		want.Type, want.MakeSource = mount.TypeBind, true
		got, err := ParseBind(s)
		if err != nil {
			t.Errorf("%s: %v", s, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", s, d)
		}
	}
	for s, want := range map[string]string{
		"":             "invalid volume specification: ''",
		"a:b:c:d":      "invalid volume specification: 'a:b:c:d'",
		"/a:":          "invalid volume specification: '/a:'",
		":/b":          "invalid volume specification: ':/b'",
		"/a:b":         "mount path must be absolute",
		"/a:/":         "destination can't be '/'",
		"/a:/..":       "destination can't be '/'",
		"/a:/b:rx":     "invalid mode: rx",
		"/a:/b:ro,rw":  "invalid mode: ro,rw",
		"/a:/b:z,Z":    "invalid mode: z,Z",
		"/a:/b:U":      "invalid mode: U",
		"/a:/b:ro,":    "invalid mode: ro,",
		"./a:/b":       "includes invalid characters for a local volume name",
		"vol:/b:slave": "invalid mode: slave",
		"v/o:/b":       "includes invalid characters for a local volume name",
		"b":            "invalid volume specification: 'b'",
		"/a\n:/b":      "invalid volume specification",
		"/a:/b\x00":    "mount path must be absolute",
	} {
		if m, err := ParseBind(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %+v, %v; want %q", s, m, err, want)
		}
	}
}

func TestTmpfs(t *testing.T) {
	for s, want := range map[string][]string{
		"":                           {"noexec", "nosuid", "nodev"},
		"size=64m":                   {"noexec", "nosuid", "nodev", "size=67108864"},
		"size=1k,size=2k":            {"noexec", "nosuid", "nodev", "size=2048"},
		"exec,mode=1777,uid=5,gid=6": {"nosuid", "nodev", "exec", "mode=1777", "uid=5", "gid=6"},
		"rw,size=50%":                {"noexec", "nosuid", "nodev", "rw", "size=50%"},
	} {
		m, err := parseTmpfs("/t", s)
		if err != nil {
			t.Errorf("%q: %v", s, err)
		}
		if d := cmp.Diff(want, m.Tmpfs); d != "" {
			t.Errorf("%q (-want +got):\n%s", s, d)
		}
	}
	for _, s := range []string{"size=", "size=x", "size=-1", "size=101%", "mode=8", "mode=77777", "uid=-1", "uid=4294967295", "suidd", "rw,", "context=x", "nr_inodes=-5"} {
		if _, err := parseTmpfs("/t", s); err == nil {
			t.Errorf("%q was taken", s)
		}
	}
}

// TestVolumes reads volumes in each form that they are asked for in.
func TestVolumes(t *testing.T) {
	inherited := []Mount{
		{Type: "volume", Volume: "first", Target: "/both", Make: VolumeOptions{Driver: "x"}},
		Mount{Type: "bind", Source: "/host", Target: "/both", MakeSource: true}.Inherit(true),
		Mount{Type: "volume", Volume: "hidden", Target: "/named"}.Inherit(false),
	}
	got, err := Mounts(&api.Config{Volumes: map[string]struct{}{"/image/../declared": {}, "/named": {}, "/tmp": {}}}, &api.HostConfig{
		Binds: []string{"data:/named:ro,nocopy", "/anon"}, Tmpfs: map[string]string{"/tmp": ""},
		Mounts: []mount.Mount{{Type: "volume", Source: "deep", Target: "/d/e", VolumeOptions: &mount.VolumeOptions{
			Labels: map[string]string{"k": "v"}, DriverConfig: &mount.Driver{Name: "local", Options: map[string]string{"o": "x"}},
		}}, {Type: "volume", Target: "/f"}},
	}, inherited)
	if err != nil {
		t.Fatal(err)
	}
	want := []Mount{
		{Type: "volume", Volume: "data", Target: "/named", ReadOnly: true, RecursiveReadOnly: true, NoCopy: true, Mode: "ro,nocopy"},
		{Type: "volume", Target: "/anon", Anonymous: true},
		{Type: "volume", Target: "/f", Anonymous: true},
		{Type: "tmpfs", Target: "/tmp", Tmpfs: []string{"noexec", "nosuid", "nodev"}},
		{Type: "bind", Source: "/host", Target: "/both", MakeSource: true, ReadOnly: true, RecursiveReadOnly: true, NoCopy: true},
		{Type: "volume", Target: "/declared", Anonymous: true},
		{Type: "volume", Volume: "deep", Target: "/d/e", Make: VolumeOptions{Driver: "local", Options: map[string]string{"o": "x"}, Labels: map[string]string{"k": "v"}}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	for want, m := range map[string]mount.Mount{
		"field VolumeOptions must not be specified":                 {Type: "bind", Source: "/x", Target: "/y", VolumeOptions: &mount.VolumeOptions{}},
		"field BindOptions must not be specified":                   {Type: "volume", Target: "/y", BindOptions: &mount.BindOptions{}},
		"must not set Subpath when using anonymous volumes":         {Type: "volume", Target: "/y", VolumeOptions: &mount.VolumeOptions{Subpath: "x"}},
		"invalid volume subpath \"../x\"":                           {Type: "volume", Source: "vv", Target: "/y", VolumeOptions: &mount.VolumeOptions{Subpath: "../x"}},
		"invalid image subpath \"../x\"":                            {Type: "image", Source: "vv", Target: "/y", ImageOptions: &mount.ImageOptions{Subpath: "../x"}},
		"field ImageOptions must not be specified":                  {Type: "volume", Source: "vv", Target: "/y", ImageOptions: &mount.ImageOptions{Subpath: "x"}},
		"invalid volume subpath \"/x\"":                             {Type: "volume", Source: "vv", Target: "/y", VolumeOptions: &mount.VolumeOptions{Subpath: "/x"}},
		"includes invalid characters for a local volume name":       {Type: "volume", Source: "/x", Target: "/y"},
		"invalid mount config for type \"cluster\": mount type unk": {Type: "cluster", Source: "x", Target: "/y"},
	} {
		_, err := Mounts(&api.Config{}, &api.HostConfig{Mounts: []mount.Mount{m}}, nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v\nwant  %s", err, want)
		}
	}
}

func TestParseVolumesFrom(t *testing.T) {
	for s, want := range map[string]struct {
		name string
		ro   bool
	}{"box": {"box", false}, "box:ro": {"box", true}, "box:rw,z": {"box", false}} {
		if name, ro, err := ParseVolumesFrom(s); err != nil || name != want.name || ro != want.ro {
			t.Errorf("%s: %s %v %v", s, name, ro, err)
		}
	}
	for _, s := range []string{"", ":ro", "box:rx", "box:ro,rw", "box:nocopy", "box:rslave"} {
		if name, _, err := ParseVolumesFrom(s); err == nil {
			t.Errorf("%q is %s", s, name)
		}
	}
}

func TestMountsSorted(t *testing.T) {
	ms, err := Mounts(&api.Config{}, &api.HostConfig{
		Binds: []string{"/x:/a/b/c", "/y:/a"}, Tmpfs: map[string]string{"/a/b": ""},
		Mounts: []mount.Mount{{Type: "bind", Source: "/z", Target: "/a/d", ReadOnly: true, BindOptions: &mount.BindOptions{ReadOnlyNonRecursive: true}}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range ms {
		got = append(got, m.Target)
	}
	if d := cmp.Diff([]string{"/a", "/a/d", "/a/b", "/a/b/c"}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if ms[1].RecursiveReadOnly {
		t.Error("recursive though it was not to be")
	}
	if _, err := Mounts(&api.Config{}, &api.HostConfig{Binds: []string{"/x:/a", "/y:/a/"}}, nil); err == nil || err.Error() != "Duplicate mount point: /a" {
		t.Errorf("twice the same target: %v", err)
	}
}

func TestParseSignal(t *testing.T) {
	for s, want := range map[string]int{"TERM": 15, "SIGTERM": 15, "sigterm": 15, "9": 9, "RTMIN": 34, "SIGRTMIN+3": 37, "RTMAX-1": 63, "RTMAX": 64, "IOT": 6, "WINCH": 28} {
		if got, err := ParseSignal(s); got != want || err != nil {
			t.Errorf("%s: %d, %v; want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "0", "-1", "65", "+9", "SIG", "NOPE", "RTMIN-1", "RTMIN+31", "RTMAX+1", "RTMIN+", "TERM ", "1.5", "0x9"} {
		if got, err := ParseSignal(s); err == nil {
			t.Errorf("%q is %d", s, got)
		}
	}
}

func TestDetachKeys(t *testing.T) {
	for s, want := range map[string][]byte{"": {16, 17}, "ctrl-a,b": {1, 'b'}, "ctrl-@": {0}, "ctrl-[": {27}, "ctrl-_": {31}, "DEL": {127}, "a": {'a'}} {
		got, err := DetachKeys(s)
		if err != nil || !cmp.Equal(got, want) {
			t.Errorf("%q: %v, %v; want %v", s, got, err, want)
		}
	}
	for _, s := range []string{",", "ctrl-", "ctrl-A", "ctrl-ab", "ab", "a,,b"} {
		if got, err := DetachKeys(s); err == nil {
			t.Errorf("%q is %v", s, got)
		}
	}
}

// TestCheck goes through what is refused, and with which words.
func TestCheck(t *testing.T) {
	host := Host{CPUs: 4, Runtimes: []string{"lade", "runc"}}
	swappiness, pids, timeout := int64(101), int64(-2), -2
	for want, change := range map[string]func(*api.Config, *api.HostConfig){
		"uids and gids must be in range 0-2147483647":                            func(c *api.Config, _ *api.HostConfig) { c.User = "4294967296" },
		"invalid environment variable: =x":                                       func(c *api.Config, _ *api.HostConfig) { c.Env = []string{"=x"} },
		"The working directory 'w' is invalid. It needs to be an absolute path":  func(c *api.Config, _ *api.HostConfig) { c.WorkingDir = "w" },
		"invalid hostname format":                                                func(c *api.Config, _ *api.HostConfig) { c.Hostname = "a\n10.0.0.1 bank" },
		"invalid hostname format: \"-a\"":                                        func(c *api.Config, _ *api.HostConfig) { c.Hostname = "-a" },
		"longer than 64":                                                         func(c *api.Config, _ *api.HostConfig) { c.Hostname = strings.Repeat("a", 65) },
		"invalid signal: SIGNOPE":                                                func(c *api.Config, _ *api.HostConfig) { c.StopSignal = "SIGNOPE" },
		"destination can't be '/'":                                               func(c *api.Config, _ *api.HostConfig) { c.Volumes = map[string]struct{}{"/": {}} },
		"mount path must be absolute":                                            func(c *api.Config, _ *api.HostConfig) { c.Volumes = map[string]struct{}{"../../canary": {}} },
		"invalid stop timeout":                                                   func(c *api.Config, _ *api.HostConfig) { c.StopTimeout = &timeout },
		"an argument holds a NUL byte":                                           func(c *api.Config, _ *api.HostConfig) { c.Cmd = []string{"a\x00b"} },
		"invalid group":                                                          func(_ *api.Config, h *api.HostConfig) { h.GroupAdd = []string{"+5"} },
		"unknown policy 'sometimes'":                                             func(_ *api.Config, h *api.HostConfig) { h.RestartPolicy.Name = "sometimes" },
		"can't create 'AutoRemove' container with restart policy":                func(_ *api.Config, h *api.HostConfig) { h.AutoRemove, h.RestartPolicy.Name = true, "always" },
		"invalid IPC mode: x":                                                    func(_ *api.Config, h *api.HostConfig) { h.IpcMode = "x" },
		"invalid PID mode: container:":                                           func(_ *api.Config, h *api.HostConfig) { h.PidMode = "container:" },
		"invalid UTS mode: x":                                                    func(_ *api.Config, h *api.HostConfig) { h.UTSMode = "x" },
		"invalid USER mode: x":                                                   func(_ *api.Config, h *api.HostConfig) { h.UsernsMode = "x" },
		"conflicting options: hostname and the UTS mode":                         func(c *api.Config, h *api.HostConfig) { c.Hostname, h.UTSMode = "x", "host" },
		"conflicting options: hostname and the network mode":                     func(c *api.Config, h *api.HostConfig) { c.Hostname, h.NetworkMode = "x", "container:a" },
		"Minimum memory limit allowed is 6MB":                                    func(_ *api.Config, h *api.HostConfig) { h.Memory = 6<<20 - 1 },
		"invalid memory limit -1":                                                func(_ *api.Config, h *api.HostConfig) { h.Memory = -1 },
		"Minimum memoryswap limit should be larger than memory limit, see usage": func(_ *api.Config, h *api.HostConfig) { h.Memory, h.MemorySwap = 8<<20, 7<<20 },
		"You should always set the Memory limit when using Memoryswap limit, see usage":        func(_ *api.Config, h *api.HostConfig) { h.MemorySwap = 8 << 20 },
		"Minimum memory limit can not be less than memory reservation limit, see usage":        func(_ *api.Config, h *api.HostConfig) { h.Memory, h.MemoryReservation = 8<<20, 9<<20 },
		"Invalid value: 101, valid memory swappiness range is 0-100":                           func(_ *api.Config, h *api.HostConfig) { h.MemorySwappiness = &swappiness },
		"Range of CPUs is from 0.01 to 4.00, as there are only 4 CPUs available":               func(_ *api.Config, h *api.HostConfig) { h.NanoCPUs = 5e9 },
		"Conflicting options: Nano CPUs and CPU Period cannot both be set":                     func(_ *api.Config, h *api.HostConfig) { h.NanoCPUs, h.CPUPeriod = 1e9, 1000 },
		"CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)": func(_ *api.Config, h *api.HostConfig) { h.CPUPeriod = 10 },
		"Invalid value 3-1 for cpuset cpus":                                                    func(_ *api.Config, h *api.HostConfig) { h.CpusetCpus = "3-1" },
		"Requested CPUs are not available - requested 0-7, available: 0-3":                     func(_ *api.Config, h *api.HostConfig) { h.CpusetCpus = "0-7" },
		"invalid PIDs limit -2":                    func(_ *api.Config, h *api.HostConfig) { h.PidsLimit = &pids },
		"Range of blkio weight is from 10 to 1000": func(_ *api.Config, h *api.HostConfig) { h.BlkioWeight = 5 },
		"range for oom score adj is [-1000, 1000]": func(_ *api.Config, h *api.HostConfig) { h.OomScoreAdj = 1001 },
		"invalid ulimit type: files":               func(_ *api.Config, h *api.HostConfig) { h.Ulimits = []*units.Ulimit{{Name: "files"}} },
		"ulimit soft limit must be less than or equal to hard limit: 2 > 1": func(_ *api.Config, h *api.HostConfig) {
			h.Ulimits = []*units.Ulimit{{Name: "nofile", Soft: 2, Hard: 1}}
		},
		"SHM size can not be less than 0":             func(_ *api.Config, h *api.HostConfig) { h.ShmSize = -1 },
		"invalid --security-opt 2: \"nope=1\"":        func(_ *api.Config, h *api.HostConfig) { h.SecurityOpt = []string{"nope=1"} },
		"invalid --security-opt 1: \"nope\"":          func(_ *api.Config, h *api.HostConfig) { h.SecurityOpt = []string{"nope"} },
		"sysctl 'kernel.core_pattern' is not allowed": func(_ *api.Config, h *api.HostConfig) { h.Sysctls = map[string]string{"kernel.core_pattern": "|x"} },
		"sysctl 'kernel.shm_rmid_forced+kernel' is not allowed": func(_ *api.Config, h *api.HostConfig) {
			h.Sysctls = map[string]string{"kernel.shm_rmid_forced+kernel": "1"}
		},
		"sysctl 'net/../kernel/core_pattern' is not allowed": func(_ *api.Config, h *api.HostConfig) {
			h.Sysctls = map[string]string{"net/../kernel/core_pattern": "x"}
		},
		"sysctl 'net.../kernel/core_pattern' is not allowed": func(_ *api.Config, h *api.HostConfig) {
			h.Sysctls = map[string]string{"net.../kernel/core_pattern": "x"}
		},
		"invalid value \"1+kernel.core_pattern=x\" of sysctl": func(_ *api.Config, h *api.HostConfig) {
			h.Sysctls = map[string]string{"kernel.shm_rmid_forced": "1+kernel.core_pattern=x"}
		},
		"invalid value \"1\\nx\" of sysctl": func(_ *api.Config, h *api.HostConfig) { h.Sysctls = map[string]string{"net.core.somaxconn": "1\nx"} },
		"shares the host's network namespace": func(_ *api.Config, h *api.HostConfig) {
			h.NetworkMode, h.Sysctls = "host", map[string]string{"net.core.somaxconn": "1"}
		},
		"bad format for add-host: \"x\"":             func(_ *api.Config, h *api.HostConfig) { h.ExtraHosts = []string{"x"} },
		"bad format for add-host: \"x\\ny:1.2.3.4\"": func(_ *api.Config, h *api.HostConfig) { h.ExtraHosts = []string{"x\ny:1.2.3.4"} },
		"invalid IP address in add-host: \"1.2.3\"":  func(_ *api.Config, h *api.HostConfig) { h.ExtraHosts = []string{"x:1.2.3"} },
		"unknown or invalid runtime name: x":         func(_ *api.Config, h *api.HostConfig) { h.Runtime = "x" },
		"no log driver named 'x' is registered":      func(_ *api.Config, h *api.HostConfig) { h.LogConfig.Type = "x" },
		"unknown log opt 'nope' for log driver":      func(_ *api.Config, h *api.HostConfig) { h.LogConfig.Config = map[string]string{"nope": "1"} },
		"invalid device mode \"rwx\"": func(_ *api.Config, h *api.HostConfig) {
			h.Devices = []api.DeviceMapping{{PathOnHost: "/dev/x", PathInContainer: "/dev/x", CgroupPermissions: "rwx"}}
		},
		"invalid device cgroup rule format":      func(_ *api.Config, h *api.HostConfig) { h.DeviceCgroupRules = []string{"c 1:2:3 r"} },
		"malformed volumes-from specification":   func(_ *api.Config, h *api.HostConfig) { h.VolumesFrom = []string{":ro"} },
		"invalid mode for volumes-from: nocopy":  func(_ *api.Config, h *api.HostConfig) { h.VolumesFrom = []string{"x:nocopy"} },
		"invalid cgroup parent":                  func(_ *api.Config, h *api.HostConfig) { h.CgroupParent = "../../x" },
		"invalid masked or read-only path \"x\"": func(_ *api.Config, h *api.HostConfig) { h.MaskedPaths = []string{"x"} },
	} {
		c, h := &api.Config{Cmd: []string{"sh"}}, &api.HostConfig{}
		change(c, h)
		if _, err := Check(c, h, host); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v\nwant  %s", err, want)
		}
	}
	ok := &api.HostConfig{
		Resources:   api.Resources{Memory: 6 << 20, MemorySwap: -1, NanoCPUs: 4e9, CpusetCpus: "0,2-3", Ulimits: []*units.Ulimit{{Name: "nofile", Soft: 1024, Hard: -1}}, DeviceCgroupRules: []string{"c 42:* rmw", "a *:* rwm"}},
		Sysctls:     map[string]string{"net.ipv4.ip_local_port_range": "1024 65535", "net/ipv4/conf/eth0.1/forwarding": "1", "kernel.sem": "1 2 3 4", "fs.mqueue.msg_max": "9"},
		ExtraHosts:  []string{"a:10.0.0.1", "b=::1", "c:[fe80::1]", "gw:host-gateway"},
		SecurityOpt: []string{"no-new-privileges", "label=disable", "seccomp=unconfined", "apparmor=unconfined"}, Runtime: "runc",
	}
	if w, err := Check(&api.Config{Cmd: []string{"sh"}, Hostname: "web-1.example"}, ok, host); err != nil || len(w) != 0 {
		t.Errorf("what is fine: %v, %v", w, err)
	}
}

func TestExtraHosts(t *testing.T) {
	gw := netip.MustParseAddr("10.76.0.1")
	got, err := ExtraHosts([]string{"a:10.0.0.1", "b=::1", "gw:host-gateway"}, gw)
	if err != nil {
		t.Fatal(err)
	}
	want := []HostEntry{{netip.MustParseAddr("10.0.0.1"), "a"}, {netip.MustParseAddr("::1"), "b"}, {gw, "gw"}}
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func FuzzParseBind(f *testing.F) {
	for _, s := range []string{"/a:/b:ro", "a:b", "/a:/b:rslave,z", ":::", "/a:/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := ParseBind(s)
		if err == nil && (m.Type == "bind" && !strings.HasPrefix(m.Source, "/") || m.Type == "volume" && m.Source != "" || !strings.HasPrefix(m.Target, "/") || m.Target == "/" || strings.ContainsAny(m.Source+m.Target, "\x00\n")) {
			t.Errorf("%q became %+v", s, m)
		}
	})
}

func FuzzExtraHosts(f *testing.F) {
	for _, s := range []string{"a:10.0.0.1", "a=::1", "a:[::1]", "x\n:1.1.1.1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		list, err := ExtraHosts([]string{s}, netip.Addr{})
		if err != nil {
			return
		}
		for _, e := range list {
			if strings.ContainsAny(e.Name, " \t\r\n\x00#") || strings.ContainsAny(e.Addr.String(), " \n%") {
				t.Errorf("%q became %+v", s, e)
			}
		}
	})
}
