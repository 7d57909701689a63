package ocispec

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/docker/go-units"
	"github.com/google/go-cmp/cmp"
	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/engine/container/request"
	"lade/internal/image/account"
)

var update = flag.Bool("update", false, "write the golden files")

// input is a container as `run app` makes it.
func input() Input {
	return Input{
		ID:     "4f5e6d",
		Config: &api.Config{Hostname: "4f5e6d", Entrypoint: []string{"/app"}, Cmd: []string{"-x"}, Env: []string{"PATH=/bin", "A=1"}, Labels: map[string]string{"run.oci.handler": "evil"}},
		Host: &api.HostConfig{
			NetworkMode: "bridge", IpcMode: "private", ShmSize: 64 << 20,
			MaskedPaths: MaskedPaths(), ReadonlyPaths: ReadonlyPaths(),
		},
		Who:    account.Identity{Groups: []uint32{0}, Home: "/root"},
		IDBase: 0x40000000, IDSize: 65536,
		Hosts: "/data/hosts", Hostname: "/data/hostname", Resolv: "/data/resolv.conf",
		Machine: Machine{Swap: true},
	}
}

// TestBuild compares whole configurations with golden files. The seccomp
// filter is another package's, and only counted.
func TestBuild(t *testing.T) {
	yes := true
	limit := int64(100)
	for name, change := range map[string]func(*Input){
		"default": func(*Input) {},
		"user": func(in *Input) {
			in.Who = account.Identity{UID: 1000, GID: 50, Groups: []uint32{50, 7}, Home: "/home/app"}
		},
		"privileged": func(in *Input) {
			in.Host.Privileged, in.IDBase, in.Host.MaskedPaths, in.Host.ReadonlyPaths = true, 0, nil, nil
			in.Machine.Devices = []specs.LinuxDevice{{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229}}
		},
		"terminal": func(in *Input) { in.Config.Tty = true; in.Host.ConsoleSize = [2]uint{24, 80} },
		"modes": func(in *Input) {
			in.IDBase, in.Host.NetworkMode, in.Host.PidMode, in.Host.IpcMode, in.Host.UTSMode, in.Host.CgroupnsMode = 0, "host", "host", "host", "host", "host"
		},
		"join": func(in *Input) {
			in.Join = map[specs.LinuxNamespaceType]string{specs.NetworkNamespace: "/proc/7/ns/net", specs.UserNamespace: "/proc/7/ns/user"}
		},
		"limits": func(in *Input) {
			h := in.Host
			h.Memory, h.NanoCPUs, h.CPUShares, h.CpusetCpus, h.PidsLimit, h.OomScoreAdj = 64<<20, 15e8, 512, "0-1", &limit, 100
			h.Ulimits = []*units.Ulimit{{Name: "nofile", Soft: 1024, Hard: 1 << 20}, {Name: "core", Soft: -1, Hard: -1}}
			in.Machine.HardLimits = map[string]uint64{"RLIMIT_NOFILE": 20000}
		},
		"mounts": func(in *Input) {
			in.Mounts = []request.Mount{
				{Type: mount.TypeBind, Source: "/src", Target: "/work", Propagation: "rprivate"},
				{Type: mount.TypeBind, Source: "/ro", Target: "/ro", ReadOnly: true, RecursiveReadOnly: true, Propagation: "rslave"},
				{Type: mount.TypeBind, Source: "/my/hosts", Target: "/etc/hosts", Propagation: "rprivate"},
				{Type: mount.TypeTmpfs, Target: "/run", Tmpfs: []string{"nosuid", "nodev", "size=65536"}},
			}
			in.Machine.Idmap = map[string]string{"/src": "ridmap", "/ro": "", "/my/hosts": "idmap"}
			in.Host.ReadonlyRootfs, in.Init = true, "/usr/bin/lade-init"
		},
		"init": func(in *Input) { in.Init, in.Host.Init = "/usr/bin/lade-init", &yes },
	} {
		t.Run(name, func(t *testing.T) {
			in := input()
			change(&in)
			s, err := Build(in)
			if err != nil {
				t.Fatal(err)
			}
			if (s.Linux.Seccomp == nil) != in.Host.Privileged {
				t.Errorf("seccomp filter: %v", s.Linux.Seccomp != nil)
			}
			s.Linux.Seccomp = nil
			got, err := json.MarshalIndent(s, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, '\n')
			golden := filepath.Join("testdata", name+".json")
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), string(got)); d != "" {
				t.Errorf("(-want +got; -update writes it):\n%s", d)
			}
		})
	}
}

// TestNothingOfTheImage: no label becomes an annotation, no capability is
// inheritable, whatever was asked for.
func TestNothingOfTheImage(t *testing.T) {
	for _, change := range []func(*Input){
		func(*Input) {},
		func(in *Input) { in.Host.CapAdd = []string{"ALL"} },
		func(in *Input) { in.Host.Privileged = true },
		func(in *Input) { in.Who.UID = 7 },
	} {
		in := input()
		change(&in)
		s, err := Build(in)
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Annotations) != 0 {
			t.Errorf("annotations %v", s.Annotations)
		}
		if c := s.Process.Capabilities; len(c.Inheritable) != 0 || len(c.Ambient) != 0 {
			t.Errorf("capabilities %+v", c)
		}
	}
}

func TestSeccompProfile(t *testing.T) {
	docker := `{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":1,
	 "archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86","SCMP_ARCH_X32"]},{"architecture":"SCMP_ARCH_AARCH64","subArchitectures":["SCMP_ARCH_ARM"]}],
	 "syscalls":[{"names":["read","write"],"action":"SCMP_ACT_ALLOW"},
	  {"name":"old","action":"SCMP_ACT_ALLOW"},
	  {"names":["mount"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_ADMIN"]}},
	  {"names":["bpf"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_BPF"]}},
	  {"names":["clone"],"action":"SCMP_ACT_ALLOW","excludes":{"caps":["CAP_SYS_ADMIN"]}},
	  {"names":["arch_prctl"],"action":"SCMP_ACT_ALLOW","includes":{"arches":["amd64","x32"]}},
	  {"names":["s390"],"action":"SCMP_ACT_ALLOW","includes":{"arches":["s390x"]}}]}`
	p, err := loadProfile([]byte(docker), []string{"CAP_SYS_ADMIN"}, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range p.Syscalls {
		names = append(names, s.Names...)
	}
	if d := cmp.Diff([]string{"read", "write", "old", "mount", "arch_prctl"}, names); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if d := cmp.Diff([]specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32}, p.Architectures); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if p.DefaultAction != specs.ActErrno || p.DefaultErrnoRet == nil || *p.DefaultErrnoRet != 1 {
		t.Errorf("default %v %v", p.DefaultAction, p.DefaultErrnoRet)
	}
	for _, bad := range []string{"", "unconfine", "{}", `{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86_64"],"archMap":[{"architecture":"SCMP_ARCH_X86_64"}]}`, strings.Repeat(" ", maxProfile+1)} {
		if _, err := loadProfile([]byte(bad), nil, "amd64"); err == nil {
			t.Errorf("%.30q was taken", bad)
		}
	}
}

func TestCheck(t *testing.T) {
	if err := Check(&api.HostConfig{CapAdd: []string{"net_admin", "CAP_SYS_TIME"}, CapDrop: []string{"ALL"}}); err != nil {
		t.Error(err)
	}
	for _, h := range []*api.HostConfig{{CapAdd: []string{"NOPE"}}, {CapDrop: []string{""}}, {SecurityOpt: []string{"seccomp={"}}} {
		if err := Check(h); err == nil {
			t.Errorf("%+v was taken", h)
		}
	}
}

func FuzzSeccompProfile(f *testing.F) {
	f.Add([]byte(`{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"}]}`), "amd64")
	f.Add([]byte(`{"syscalls":[null]}`), "arm64")
	f.Fuzz(func(t *testing.T, raw []byte, arch string) {
		p, err := loadProfile(raw, []string{"CAP_CHOWN"}, arch)
		if err == nil && slices.ContainsFunc(p.Syscalls, func(s specs.LinuxSyscall) bool { return len(s.Names) == 0 }) {
			t.Error("a rule without names")
		}
	})
}
