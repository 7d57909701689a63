package plan_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/capability"
	"lade/internal/linux/cgroup"
	"lade/internal/runtime/plan"
	"lade/internal/runtime/program"
)

var update = flag.Bool("update", false, "write the golden files anew")

// config is the configuration that "lade-runtime spec" writes, without a
// terminal, changed by change.
func config(t *testing.T, change func(*specs.Spec)) *specs.Spec {
	t.Helper()
	b, err := os.ReadFile("testdata/config.json")
	if err != nil {
		t.Fatal(err)
	}
	c := &specs.Spec{}
	if err := json.Unmarshal(b, c); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(c)
	}
	return c
}

func hybrid() cgroup.Layout {
	return cgroup.Layout{Hierarchies: []cgroup.Hierarchy{
		{Controllers: []string{"cpu", "cpuacct"}, Mount: "/sys/fs/cgroup/cpu,cpuacct", Root: "/", Own: "/"},
		{Controllers: []string{"memory"}, Mount: "/sys/fs/cgroup/memory", Root: "/", Own: "/"},
		{V2: true, Mount: "/sys/fs/cgroup/unified", Root: "/", Own: "/"},
	}}
}

func unified() cgroup.Layout {
	return cgroup.Layout{Hierarchies: []cgroup.Hierarchy{
		{V2: true, Controllers: []string{"cpu", "memory", "pids"}, Mount: "/sys/fs/cgroup", Root: "/", Own: "/user/me"},
	}}
}

func facts(t *testing.T, c *specs.Spec, l cgroup.Layout) plan.Facts {
	t.Helper()
	p, err := l.Plan(c.Linux.CgroupsPath, "web", nil)
	if err != nil {
		t.Fatal(err)
	}
	return plan.Facts{
		OwnNamespaces: map[string]bool{"/proc/self/ns/net": true},
		Layout:        l, Cgroup: p, Caps: capability.Known.Without(unix.CAP_SYS_RESOURCE), LastCap: 40, Arch: "amd64",
		Limits: map[int]unix.Rlimit{unix.RLIMIT_NOFILE: {Cur: 1024, Max: 512}}, Home: "/root",
		Sources: map[string]plan.Source{"/srv/data": {Dir: true}, "/etc/hosts": {}, "/b/rootfs/run": {Inside: true}, "/proc": {Dir: true, Proc: true}},
	}
}

func input(c *specs.Spec) plan.Input {
	return plan.Input{ID: "web", State: "/run/lade-runtime/web", Bundle: "/b", Rootfs: "/b/rootfs", Config: c}
}

func userNS(c *specs.Spec) {
	c.Linux.Namespaces = append(c.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	c.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
	c.Linux.GIDMappings = c.Linux.UIDMappings
}

// TestPrograms compares whole programs with the ones in testdata, which are
// also the best description of what a start is.
func TestPrograms(t *testing.T) {
	starts := map[string]struct {
		change func(*specs.Spec)
		layout cgroup.Layout
		wait   bool
	}{
		"default": {layout: hybrid(), wait: true},
		"v2":      {layout: unified()},
		"userns": {layout: hybrid(), change: func(c *specs.Spec) {
			userNS(c)
			c.Mounts = append(c.Mounts, specs.Mount{Destination: "/data", Type: "bind", Source: "/srv/data", Options: []string{"rbind", "rro", "rprivate"}})
		}},
		"pod": {layout: unified(), change: func(c *specs.Spec) {
			c.Linux.Namespaces = []specs.LinuxNamespace{
				{Type: specs.UserNamespace, Path: "/run/ns/user"},
				{Type: specs.NetworkNamespace, Path: "/run/ns/net"},
				{Type: specs.MountNamespace},
				{Type: specs.PIDNamespace},
			}
			c.Hostname = ""
		}},
		"terminal": {layout: hybrid(), change: func(c *specs.Spec) {
			c.Process.Terminal = true
			c.Process.ConsoleSize = &specs.Box{Height: 24, Width: 80}
			c.Process.User = specs.User{UID: 1000, GID: 100, AdditionalGids: []uint32{27, 44}}
		}},
		"options": {layout: hybrid(), change: func(c *specs.Spec) {
			score, timeout := -500, 5
			c.Process.OOMScoreAdj = &score
			c.Process.NoNewPrivileges = false
			c.Process.Args = []string{"/bin/app", "arg"}
			c.Process.Cwd = "/var/lib/app"
			c.Process.Capabilities.Ambient = []string{"CAP_KILL"}
			c.Process.Capabilities.Inheritable = []string{"CAP_KILL"}
			c.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"acct"}, Action: specs.ActErrno}}}
			c.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1"}
			c.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/net/tun", Type: "c", Major: 10, Minor: 200}}
			c.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/hook", Args: []string{"hook", "up"}, Timeout: &timeout}}}
			c.Mounts = append(c.Mounts, specs.Mount{Destination: "/etc/hosts", Type: "bind", Source: "/etc/hosts", Options: []string{"bind", "ro", "nosuid", "noatime"}},
				specs.Mount{Destination: "/run", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "nodev", "tmpcopyup", "mode=755"}},
				specs.Mount{Destination: "/b/rootfs/var/run", Type: "bind", Source: "/b/rootfs/run", Options: []string{"rbind"}})
		}},
	}
	starts["fields"] = struct {
		change func(*specs.Spec)
		layout cgroup.Layout
		wait   bool
	}{layout: unified(), wait: true, change: func(c *specs.Spec) {
		timeNS("")(c)
		c.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"monotonic": {Secs: -3, Nanosecs: 5}, "boottime": {Secs: 7}}
		netDevice("eth1", "uplink")(c)
		memoryPolicy("MPOL_BIND", "0", "MPOL_F_STATIC_NODES")(c)
		notifyOn("chmod", "/run/agent")(c)
	}}
	starts["nested"] = struct {
		change func(*specs.Spec)
		layout cgroup.Layout
		wait   bool
	}{layout: unified(), change: func(c *specs.Spec) {
		c.Process.ApparmorProfile = "strict"
		c.Linux.IntelRdt = &specs.LinuxIntelRdt{EnableMonitoring: true, L3CacheSchema: "L3:0=f", MemBwSchema: "MB:0=20"}
	}}
	starts["selinux"] = struct {
		change func(*specs.Spec)
		layout cgroup.Layout
		wait   bool
	}{layout: unified(), change: func(c *specs.Spec) {
		c.Process.SelinuxLabel, c.Linux.MountLabel = "system_u:system_r:container_t:s0:c1,c2", "system_u:object_r:container_file_t:s0:c1,c2"
		c.Linux.IntelRdt = &specs.LinuxIntelRdt{ClosID: "guaranteed"}
	}}
	starts["rootless"] = struct {
		change func(*specs.Spec)
		layout cgroup.Layout
		wait   bool
	}{layout: unified(), change: func(c *specs.Spec) {
		userNS(c)
		c.Linux.GIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 1000, Size: 1}}
	}}
	starts["shared"] = struct {
		change func(*specs.Spec)
		layout cgroup.Layout
		wait   bool
	}{layout: unified(), change: func(c *specs.Spec) {
		c.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.NetworkNamespace, Path: "/run/ns/net"}}
		c.Hostname, c.Mounts, c.Linux.MaskedPaths, c.Linux.ReadonlyPaths = "", nil, nil, nil
	}}
	for name, tt := range starts {
		t.Run(name, func(t *testing.T) {
			c := config(t, tt.change)
			in := input(c)
			in.Wait = tt.wait
			f := facts(t, c, tt.layout)
			f.Nested, f.AppArmor, f.SELinux = name == "nested", name == "nested", name == "selinux"
			if f.Rootless = name == "rootless"; f.Rootless {
				f.UID, f.GID, f.Cgroup = 1000, 1000, cgroup.Plan{}
			}
			if c.Linux.IntelRdt != nil {
				f.Resctrl = "/sys/fs/resctrl"
			}
			p, err := plan.Start(in, f)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, name, p)
		})
	}
	t.Run("exec", func(t *testing.T) {
		c := config(t, userNS)
		c.Process.Terminal = true
		c.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedBatch, Nice: 5, Flags: []specs.LinuxSchedulerFlag{specs.SchedFlagResetOnFork}}
		c.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 6}
		c.Process.ExecCPUAffinity = &specs.CPUAffinity{Initial: "0", Final: "0-1,65"}
		c.Process.ApparmorProfile = "strict"
		c.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux32}
		f := facts(t, c, hybrid())
		f.AppArmor = true
		p, err := plan.Exec(plan.Entry{Input: input(c), Cgroup: f.Cgroup.Group}, f)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, "exec", p)
	})
}

func golden(t *testing.T, name string, p *program.Program) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, []byte(p.Text()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), p.Text()); d != "" {
		t.Errorf("-want +got (run with -update if this is meant):\n%s", d)
	}
}

// TestRefused lists configurations that no start may come of, and what is said
// about them.
func TestRefused(t *testing.T) {
	for want, change := range map[string]func(*specs.Spec){
		"process.args must not be empty":                    func(c *specs.Spec) { c.Process.Args = nil },
		"Cwd must be an absolute path":                      func(c *specs.Spec) { c.Process.Cwd = "tmp" },
		"process property must not be empty":                func(c *specs.Spec) { c.Process = nil },
		"the id 4294967295 is nobody's":                     func(c *specs.Spec) { c.Process.User.UID = 1<<32 - 1 },
		"contains a zero byte":                              func(c *specs.Spec) { c.Process.Env = []string{"A=\x00"} },
		"invalid rlimit type: RLIMIT_X":                     func(c *specs.Spec) { c.Process.Rlimits[0].Type = "RLIMIT_X" },
		"duplicated ns":                                     func(c *specs.Spec) { c.Linux.Namespaces = append(c.Linux.Namespaces, c.Linux.Namespaces[0]) },
		`namespace "x" does not exist`:                      func(c *specs.Spec) { c.Linux.Namespaces[0].Type = "x" },
		"no uid/gid mappings found":                         func(c *specs.Spec) { userNS(c); c.Linux.UIDMappings = nil },
		"user namespace isn't enabled":                      func(c *specs.Spec) { userNS(c); c.Linux.Namespaces = c.Linux.Namespaces[:6] },
		"unable to set hostname without a private":          func(c *specs.Spec) { c.Linux.Namespaces = c.Linux.Namespaces[4:] },
		"mounts[7]: \"/proc/sys\" cannot be mounted":        mountAt("/proc/sys", "tmpfs"),
		"mounts[7]: \"/proc/../proc/self\" cannot be":       mountAt("/proc/../proc/self", "tmpfs"),
		"mounts[7]: \"//proc\" cannot be mounted":           mountAt("//proc", "tmpfs"),
		"neither a type nor the option bind":                mountAt("/x", ""),
		"linux.rootfsPropagation":                           func(c *specs.Spec) { c.Linux.RootfsPropagation = "sharing" },
		`sysctl "kernel.core_pattern" is not in a separate`: sysctl("kernel.core_pattern"),
		`"net/../kernel/core_pattern" is not a name`:        sysctl("net/../kernel/core_pattern"),
		`"net.ipv4.x\nkernel.core_pattern" is not a name`:   sysctl("net.ipv4.x\nkernel.core_pattern"),
		`"net.ipv4.x=1" is not a name`:                      sysctl("net.ipv4.x=1"),
		`"net.ipv4+kernel.core_pattern" is not a name`:      sysctl("net.ipv4+kernel.core_pattern"),
		"kernel.hostname\" conflicts":                       sysctl("kernel.hostname"),
		"process.apparmorProfile: ":                         func(c *specs.Spec) { c.Process.ApparmorProfile = "x" },
		"process.selinuxLabel: ":                            func(c *specs.Spec) { c.Process.SelinuxLabel = "x" },
		`hooks.poststop[0].path: "x" is not absolute`:       func(c *specs.Spec) { c.Hooks = &specs.Hooks{Poststop: []specs.Hook{{Path: "x"}}} },
		"hooks.startContainer[0].timeout: 0 seconds": func(c *specs.Spec) {
			c.Hooks = &specs.Hooks{StartContainer: []specs.Hook{{Path: "/x", Timeout: new(int)}}}
		},
		"vm: virtual machines":           func(c *specs.Spec) { c.VM = &specs.VM{} },
		"linux.mountLabel: ":             func(c *specs.Spec) { c.Linux.MountLabel = "x" },
		`device name "a/b"`:              netDevice("a/b", ""),
		`device name "sixteen-letters-"`: netDevice("eth0", "sixteen-letters-"),
		"without a NET namespace": func(c *specs.Spec) {
			netDevice("eth0", "")(c)
			c.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.UTSNamespace}, {Type: specs.NetworkNamespace, Path: "/proc/self/ns/net"}}
		},
		"sysctl \"net.core.somaxconn\" is not allowed in the hosts network": func(c *specs.Spec) {
			sysctl("net.core.somaxconn")(c)
			c.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.UTSNamespace}, {Type: specs.NetworkNamespace, Path: "/proc/self/ns/net"}}
		},
		"linux.intelRdt: ":                                                 func(c *specs.Spec) { c.Linux.IntelRdt = &specs.LinuxIntelRdt{} },
		"linux.memoryPolicy.mode: ":                                        memoryPolicy("MPOL_X", "0"),
		"MPOL_BIND takes at least one":                                     memoryPolicy("MPOL_BIND", ""),
		"MPOL_LOCAL mode requires 0 nodes but got 1":                       memoryPolicy("MPOL_LOCAL", "0"),
		"linux.memoryPolicy.nodes: invalid memory policy node list \"0-\"": memoryPolicy("MPOL_BIND", "0-"),
		"linux.memoryPolicy.flags: invalid memory policy flag \"X\"":       memoryPolicy("MPOL_BIND", "0", "X"),
		"but time namespace isn't enabled":                                 timeOffset("boottime", 0),
		`there is no clock "realtime"`:                                     func(c *specs.Spec) { timeNS("")(c); timeOffset("realtime", 0)(c) },
		"monotonic: 1000000000 nanoseconds":                                func(c *specs.Spec) { timeNS("")(c); timeOffset("monotonic", 1e9)(c) },
		"both namespace path and time offsets":                             func(c *specs.Spec) { timeNS("/run/ns/time")(c); timeOffset("monotonic", 0)(c) },
		"seccomp listenerPath is not set":                                  notifyOn("chmod", ""),
		"cannot be used for the write syscall":                             notifyOn("write", "/run/agent"),
		"restrict sys entries without a private MNT": func(c *specs.Spec) {
			c.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.UTSNamespace}}
		},
		"without a mount namespace they would be the host's": func(c *specs.Spec) {
			c.Linux.Namespaces, c.Linux.MaskedPaths, c.Linux.ReadonlyPaths = []specs.LinuxNamespace{{Type: specs.UTSNamespace}}, nil, nil
		},
		"linux.personality.domain: ":    func(c *specs.Spec) { c.Linux.Personality = &specs.LinuxPersonality{Domain: "BSD"} },
		"process.scheduler.policy: ":    func(c *specs.Spec) { c.Process.Scheduler = &specs.Scheduler{Policy: "SCHED_X"} },
		"process.scheduler.nice: ":      func(c *specs.Spec) { c.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedOther, Nice: 20} },
		"process.scheduler.priority is": func(c *specs.Spec) { c.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedOther, Priority: 1} },
		"process.scheduler: runtime":    func(c *specs.Spec) { c.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedFIFO, Period: 1} },
		"process.scheduler.flags: ": func(c *specs.Spec) {
			c.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedFIFO, Flags: []specs.LinuxSchedulerFlag{"X"}}
		},
		"process.ioPriority.class: ": func(c *specs.Spec) { c.Process.IOPriority = &specs.LinuxIOPriority{Class: "X"} },
		"process.ioPriority.priority: ": func(c *specs.Spec) {
			c.Process.IOPriority = &specs.LinuxIOPriority{Class: "IOPRIO_CLASS_BE", Priority: 8}
		},
		"process.execCPUAffinity.final: \"3-1\"":             func(c *specs.Spec) { c.Process.ExecCPUAffinity = &specs.CPUAffinity{Final: "3-1"} },
		"tmpcopyup is for tmpfs only":                        func(c *specs.Spec) { c.Mounts[0].Options = []string{"tmpcopyup"} },
		"id-mapped mounts are only supported for bind-mount": func(c *specs.Spec) { c.Mounts[0].Options = []string{"idmap"} },
	} {
		c := config(t, nil)
		f := facts(t, c, hybrid())
		change(c)
		_, err := plan.Start(input(c), f)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, got %v", want, err)
			continue
		}
		if class := errdefs.ClassOf(err); class != errdefs.Invalid && class != errdefs.NotImplemented {
			t.Errorf("%v: class is %v", err, class)
		}
	}
}

func mountAt(dest, kind string) func(*specs.Spec) {
	return func(c *specs.Spec) {
		c.Mounts = append(c.Mounts, specs.Mount{Destination: dest, Type: kind, Source: kind})
	}
}

func timeNS(path string) func(*specs.Spec) {
	return func(c *specs.Spec) {
		c.Linux.Namespaces = append(c.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace, Path: path})
	}
}

func timeOffset(clock string, nano uint32) func(*specs.Spec) {
	return func(c *specs.Spec) {
		c.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{clock: {Secs: 7, Nanosecs: nano}}
	}
}

func netDevice(name, to string) func(*specs.Spec) {
	return func(c *specs.Spec) { c.Linux.NetDevices = map[string]specs.LinuxNetDevice{name: {Name: to}} }
}

func memoryPolicy(mode specs.MemoryPolicyModeType, nodes string, flags ...specs.MemoryPolicyFlagType) func(*specs.Spec) {
	return func(c *specs.Spec) {
		c.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: mode, Nodes: nodes, Flags: flags}
	}
}

func notifyOn(call, path string) func(*specs.Spec) {
	return func(c *specs.Spec) {
		c.Linux.Seccomp = &specs.LinuxSeccomp{
			DefaultAction: specs.ActAllow, ListenerPath: path, ListenerMetadata: "mine",
			Syscalls: []specs.LinuxSyscall{{Names: []string{call}, Action: specs.ActNotify}},
		}
	}
}

func sysctl(key string) func(*specs.Spec) {
	return func(c *specs.Spec) { c.Linux.Sysctl = map[string]string{key: "1"} }
}

// TestRefusedWithSupport lists what is refused although the kernel has what it
// takes.
func TestRefusedWithSupport(t *testing.T) {
	for want, change := range map[string]func(*specs.Spec){
		"apparmorProfile or selinuxLabel, not both": func(c *specs.Spec) { c.Process.ApparmorProfile, c.Process.SelinuxLabel = "x", "y" },
		"a label holds a character":                 func(c *specs.Spec) { c.Process.ApparmorProfile = "x\nchangeprofile y" },
		`invalid intelRdt.ClosID ".."`:              func(c *specs.Spec) { c.Linux.IntelRdt = &specs.LinuxIntelRdt{ClosID: ".."} },
		`invalid intelRdt.ClosID "a/b"`:             func(c *specs.Spec) { c.Linux.IntelRdt = &specs.LinuxIntelRdt{ClosID: "a/b"} },
		"is more than a line":                       func(c *specs.Spec) { c.Linux.IntelRdt = &specs.LinuxIntelRdt{Schemata: []string{"L3:0=f\nMB:0=1"}} },
	} {
		c := config(t, change)
		f := facts(t, c, hybrid())
		f.AppArmor, f.SELinux, f.Resctrl = true, true, "/sys/fs/resctrl"
		_, err := plan.Start(input(c), f)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, got %v", want, err)
		}
	}
}

// TestSlots verifies that no step names a descriptor that nothing yields: a
// misspelt slot would otherwise be found only by whoever takes that path.
func TestSlots(t *testing.T) {
	c := config(t, userNS)
	c.Process.Terminal = true
	in := input(c)
	in.Wait = true
	p, err := plan.Start(in, facts(t, c, hybrid()))
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{string(program.Sync): true, string(program.Report): true, string(plan.Listen): true, string(plan.Console): true}
	for _, list := range [][]program.Step{p.Before, p.Child} {
		program.Walk(list, func(s *program.Step) { have[string(s.Yield)] = true })
	}
	program.Walk(p.Child, func(s *program.Step) {
		for _, a := range s.Args {
			if a.Kind == program.KindFD && !have[a.S] {
				t.Errorf("%s names the slot %q, which nothing yields", s.Text(), a.S)
			}
		}
	})
}
