package command_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"lade/test/kerneltest"
)

var (
	configs = flag.Int("configs", 40, "how many random configurations TestDifferential runs")
	seed    = flag.Uint64("seed", 1, "the first of their seeds")
)

// probe tells what a process finds about itself, in sections. The mode of a
// tmpfs is seen in its section: an old runc sets it when the options are shown no more.
const probe = `
section() { echo "== $1"; }
section mounts; awk '{split($0, h, " - "); n = split(h[1], a, " "); t = ""; for (i = 7; i <= n; i++) t = t " " a[i]; split(h[2], f, " "); print $4, $5, $6, f[1] t}' /proc/self/mountinfo
section superblocks; awk '{split($0, h, " - "); split(h[2], f, " "); if (f[1] == "tmpfs") {gsub(/,mode=[0-7]+/, "", f[3]); print $5, f[3]}}' /proc/self/mountinfo
section status; grep -E '^(Umask|Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp):' /proc/self/status; grep -E '^Cap' /proc/self/status
section limits; cat /proc/self/limits
section environment; tr '\000' '\n' </proc/self/environ | sort
section descriptors; sh -c 'ls /proc/$PPID/fd'; true
section ids; cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups
section namespaces; for n in cgroup ipc mnt net pid user uts time; do echo $n $(readlink /proc/self/ns/$n); done
section process; pwd; hostname; cat /proc/sys/kernel/domainname /proc/self/oom_score_adj; awk '{print $6 == $1, $7, $18, $19, $41}' /proc/self/stat
section devices; cd /dev; for f in $(ls | sort); do case $f in pts|shm|mqueue) ;; *) echo $f $(stat -c '%F %t:%T %a %u:%g' $f) $(readlink $f);; esac; done
section modes; stat -c '%n %a %u:%g' / /dev /dev/shm /dev/pts /dev/mqueue /mnt* /mnt*/* 2>/dev/null
section sysctl; cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shmmni /proc/sys/net/core/somaxconn 2>/dev/null
section calls; cd /tmp; for c in "mkdir d" "chmod 700 d" "ln -s a l" "mknod n p" "hostname x" "mount -t tmpfs x d" "nice -n 5 true" "kill -0 1" "chown 5 d"; do $c >/dev/null 2>&1; echo "$c" $?; done
section masked; for p in /proc/keys /proc/kcore /proc/timer_list /sys/firmware /etc/secret; do stat -c "%n %F" $p 2>/dev/null; done; cat /etc/secret 2>/dev/null | wc -c
section read-only; for p in /proc/sys/net/ipv4/ip_forward /x /etc/x /mnt0/x /mnt1/x; do (: >>$p) 2>/dev/null; echo $p $?; case $p in */x) rm -f $p 2>/dev/null;; esac; done
`

// TestDifferential runs one probe in the same random configurations under this
// runtime, runc and crun. What it finds is the same as under one of them, or
// the difference is explained in intended.
func TestDifferential(t *testing.T) {
	kerneltest.Root(t)
	m := newMachine(t, nil)
	peers := map[string][]string{}
	for name, args := range map[string][]string{
		"runc": {"runc"},
		// It knows no machine that mixes the versions of cgroups.
		"crun": {"unshare", "--mount", "--propagation", "unchanged", "sh", "-c", `mount --bind /sys/fs/cgroup/unified /sys/fs/cgroup 2>/dev/null; exec crun --cgroup-manager=disabled "$@"`, "sh"},
	} {
		if _, err := exec.LookPath(name); err == nil {
			peers[name] = args
		}
	}
	if len(peers) == 0 {
		t.Skip("neither runc nor crun is installed")
	}
	for n := range *configs {
		s := *seed + uint64(n)
		data, err := json.MarshalIndent(randomConfig(t, m, rand.New(rand.NewPCG(s, 7))), "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(m.bundle, "config.json"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		ours := m.found(append([]string{"/proc/self/exe"}, "--root", m.state))
		theirs := map[string]finding{}
		for name, args := range peers {
			theirs[name] = m.found(append(slices.Clone(args), "--root", t.TempDir()))
		}
		for name, f := range theirs {
			if f.err != "" {
				t.Logf("seed %d: %s fails: %s", s, name, f.err)
			}
		}
		if d := differences(ours, theirs); d != "" {
			t.Errorf("seed %d:\n%s", s, d)
			if testing.Verbose() {
				t.Logf("%s", data)
			}
		}
	}
}

// finding is what a probe printed, by section, or why there was none.
type finding struct {
	sections map[string]string
	err      string
}

// found runs the bundle under a runtime.
func (m *machine) found(runtime []string) finding {
	ctx, cancel := context.WithTimeout(m.t.Context(), 30*time.Second)
	defer cancel()
	id := kerneltest.ID(m.t)
	cmd := exec.CommandContext(ctx, runtime[0], append(slices.Clone(runtime[1:]), "run", "--bundle", m.bundle, id)...)
	cmd.Env = append(os.Environ(), asRuntime+"=1")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Stdin = strings.NewReader("") // some change the owner of what they are given, and it may not be /dev/null
	err := cmd.Run()
	f := finding{sections: map[string]string{}}
	for s := range strings.SplitSeq(stdout.String(), "== ") {
		name, text, _ := strings.Cut(s, "\n")
		if name != "" {
			f.sections[name] = normal(name, text)
		}
	}
	if len(f.sections) == 0 {
		f.err = fmt.Sprintf("%v: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	_ = exec.Command(runtime[0], append(slices.Clone(runtime[1:]), "delete", "--force", id)...).Run()
	return f
}

var (
	peerGroup = regexp.MustCompile(`:\d+`)
	inode     = regexp.MustCompile(`\[\d+\]`)
)

// normal takes out of a section what differs from run to run.
func normal(section, text string) string {
	switch section {
	case "mounts":
		// A line for each word, as one runtime may heed one and another the other.
		var lines []string
		for l := range strings.Lines(peerGroup.ReplaceAllString(text, "")) {
			if f := strings.Fields(l); len(f) > 3 {
				lines = append(lines, f[0]+" "+f[1]+" "+f[3])
				for _, word := range append(strings.Split(f[2], ","), f[4:]...) {
					lines = append(lines, f[1]+" "+word)
				}
			}
		}
		return strings.Join(lines, "\n")
	case "namespaces":
		lines := strings.Split(text, "\n")
		for i, l := range lines {
			kind, ns, _ := strings.Cut(l, " ")
			if host, _ := os.Readlink("/proc/self/ns/" + kind); host == ns {
				lines[i] = kind + " the host's"
			} else {
				lines[i] = inode.ReplaceAllString(l, "")
			}
		}
		return strings.Join(lines, "\n")
	}
	return text
}

// differences returns the lines that no other has, and those that all others
// have, as far as they are not explained.
func differences(ours finding, theirs map[string]finding) string {
	var out strings.Builder
	failed := 0
	for _, f := range theirs {
		if f.err != "" {
			failed++
		}
	}
	switch {
	case ours.err != "" && failed < len(theirs):
		return fmt.Sprintf("fails: %s\n%d of %d others fail", ours.err, failed, len(theirs))
	case ours.err != "" || failed == len(theirs):
		return ""
	}
	for _, section := range slices.Sorted(maps.Keys(ours.sections)) {
		if failed > 0 && (section == "mounts" || section == "modes") {
			continue // each by itself gets some mounts wrong
		}
		seen := map[string]int{} // by how many others
		for _, f := range theirs {
			if f.err == "" {
				for _, l := range explained(section, f.sections[section]) {
					seen[l]++
				}
			}
		}
		have := explained(section, ours.sections[section])
		for _, l := range have {
			if seen[l] == 0 {
				fmt.Fprintf(&out, "%s: only here: %s\n", section, l)
			}
		}
		for _, l := range slices.Sorted(maps.Keys(seen)) {
			if seen[l] == len(theirs)-failed && !slices.Contains(have, l) {
				fmt.Fprintf(&out, "%s: only elsewhere: %s\n", section, l)
			}
		}
	}
	return out.String()
}

// intended are the differences that are meant. Each takes lines of a section
// out of the comparison.
var intended = []struct {
	section, pattern, why string
}{
	{"mounts", `^(\S+ )?/sys/fs/cgroup`, "which hierarchies a container sees is a matter of the cgroup driver; crun has none here"},
	{"mounts", `^/dev/(null|full|random|tty|urandom|zero|fuse) `, "devices of the host are bound as they are; crun takes set-user-id and execution from them"},
	{"devices", `^core `, "there is no link to /proc/kcore where the kernel has none"},
	{"superblocks", `^/(sys|proc|etc)`, "an empty directory over a masked one has the size and inodes of its maker's choice"},
	{"mounts", `^(/sys/firmware|/etc/secret.d) `, "what covers a masked directory has no setuid programs, devices or programs at all"},
	{"mounts", `^(/null )?(/etc/secret|/proc/keys|/proc/timer_list|/proc/kcore) `, "what masks a file is the host's /dev/null (CVE-2025-31133)"},
}

// TestDifferencesAreWritten: people are told what is meant to differ.
func TestDifferencesAreWritten(t *testing.T) {
	text, err := os.ReadFile("../../../docs/differences.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range intended {
		if !strings.Contains(string(text), "| "+i.why+" |") {
			t.Errorf("docs/differences.md does not say: %s", i.why)
		}
	}
}

// explained returns a section without what is meant to differ, as lines.
func explained(section, text string) []string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	slices.Sort(lines)
	lines = slices.Compact(lines)
	return slices.DeleteFunc(lines, func(l string) bool {
		return slices.ContainsFunc(intended, func(i struct{ section, pattern, why string }) bool {
			return i.section == section && regexp.MustCompile(i.pattern).MatchString(l)
		})
	})
}

// randomConfig makes a valid configuration.
func randomConfig(t *testing.T, m *machine, r *rand.Rand) *specs.Spec {
	t.Helper()
	g := &generator{t: t, r: r, m: m, c: &specs.Spec{}}
	g.base()
	for _, part := range []func(){g.namespaces, g.process, g.capabilities, g.limits, g.mounts, g.paths, g.devices, g.seccomp} {
		part()
	}
	return g.c
}

// generator collects one configuration.
type generator struct {
	t *testing.T
	r *rand.Rand
	m *machine
	c *specs.Spec
}

func (g *generator) one(of int) bool { return g.r.IntN(of) == 0 }

// some returns some of a list, in their order.
func some[T any](g *generator, of int, list ...T) []T {
	var out []T
	for _, v := range list {
		if g.one(of) {
			out = append(out, v)
		}
	}
	return out
}

func pick[T any](g *generator, list ...T) T { return list[g.r.IntN(len(list))] }

func (g *generator) base() {
	root := kerneltest.Busybox(g.t)
	for _, d := range []string{"mnt0", "mnt1", "mnt2", "tmp", "etc", "etc/secret.d"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			g.t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "etc/secret"), []byte("secret"), 0o644); err != nil {
		g.t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(root, "mnt1"), 0o750); err != nil {
		g.t.Fatal(err)
	}
	reachable(g.t, root)
	*g.c = specs.Spec{
		Version:  "1.0.2",
		Root:     &specs.Root{Path: root, Readonly: g.one(2)},
		Hostname: "probe",
		Process: &specs.Process{
			Args: []string{"/bin/sh", "-c", probe}, Cwd: pick(g, "/", "/tmp", "/etc", "/made/here"),
			Env:             some(g, 2, "PATH=/bin", "A=b c", "EMPTY=", "HOME=/elsewhere"),
			NoNewPrivileges: g.one(2),
		},
		Linux: &specs.Linux{CgroupsPath: "/" + kerneltest.ID(g.t)},
	}
	g.c.Process.Env = append(g.c.Process.Env, "TERM=xterm", "PATH=/bin:/usr/bin")
	if g.c.Root.Readonly && g.c.Process.Cwd == "/made/here" {
		g.c.Process.Cwd = "/"
	}
}

func (g *generator) namespaces() {
	l := g.c.Linux
	for _, kind := range append([]specs.LinuxNamespaceType{specs.MountNamespace, specs.UTSNamespace, specs.PIDNamespace, specs.NetworkNamespace, specs.IPCNamespace}, some(g, 3, specs.CgroupNamespace)...) {
		l.Namespaces = append(l.Namespaces, specs.LinuxNamespace{Type: kind})
	}
	if g.one(3) {
		mapped(g.t, g.c)
	}
	if g.one(2) {
		l.Sysctl = map[string]string{"net.ipv4.ip_unprivileged_port_start": "7", "kernel.shmmni": "77", "net/core/somaxconn": "99"}
	}
	l.RootfsPropagation = pick(g, "", "private", "rprivate", "slave", "rslave", "shared", "rshared")
}

func (g *generator) process() {
	p := g.c.Process
	if g.one(2) {
		p.User = specs.User{UID: pick(g, uint32(0), 1000, 65534), GID: pick(g, uint32(0), 100, 65534), AdditionalGids: some(g, 2, uint32(5), 27, 1000)}
	}
	if g.one(2) {
		u := pick(g, uint32(0), 0o27, 0o77)
		p.User.Umask = &u
	}
	if g.one(2) {
		n := pick(g, 0, 100, 1000)
		p.OOMScoreAdj = &n
	}
}

func (g *generator) capabilities() {
	all := some(g, 2, "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_NET_ADMIN", "CAP_NET_BIND_SERVICE", "CAP_SYS_ADMIN", "CAP_SYS_CHROOT", "CAP_SETUID", "CAP_SETGID", "CAP_MKNOD")
	c := &specs.LinuxCapabilities{Bounding: all, Permitted: all, Effective: some(g, 2, all...)}
	if g.one(3) {
		c.Inheritable = some(g, 2, all...)
		c.Ambient = some(g, 2, c.Inheritable...)
	}
	if !g.one(10) {
		g.c.Process.Capabilities = c
	}
}

func (g *generator) limits() {
	for _, l := range some(g, 3, "RLIMIT_NOFILE", "RLIMIT_CORE", "RLIMIT_CPU", "RLIMIT_STACK", "RLIMIT_FSIZE", "RLIMIT_NPROC", "RLIMIT_MSGQUEUE") {
		soft := uint64(4096 + g.r.IntN(1000))
		g.c.Process.Rlimits = append(g.c.Process.Rlimits, specs.POSIXRlimit{Type: l, Soft: soft, Hard: soft + uint64(g.r.IntN(2))*100})
	}
}

func (g *generator) mounts() {
	c := g.c
	c.Mounts = []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: some(g, 3, "nosuid", "noexec", "nodev")},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: append([]string{"nosuid", "strictatime", "mode=755", "size=65536k"}, some(g, 8, "ro")...)},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: append([]string{"mode=1777", "size=65536k"}, some(g, 2, "nosuid", "noexec", "nodev")...)},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: some(g, 2, "nosuid", "noexec", "nodev")},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: append([]string{"ro"}, some(g, 2, "nosuid", "noexec", "nodev")...)},
		{Destination: "/tmp", Type: "tmpfs", Source: "tmpfs", Options: []string{"mode=1777"}},
	}
	source := g.t.TempDir()
	reachable(g.t, source)
	if err := os.Chmod(source, 0o755); err != nil {
		g.t.Fatal(err)
	}
	file := filepath.Join(source, "file")
	if err := os.WriteFile(file, []byte("data"), 0o644); err != nil {
		g.t.Fatal(err)
	}
	flags := func() []string {
		return some(g, 3, "ro", "nosuid", "nodev", "noexec", pick(g, "noatime", "relatime", "strictatime"),
			pick(g, "private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable"))
	}
	for i := range 3 {
		dest := fmt.Sprintf("/mnt%d", i)
		if g.c.Root.Readonly && g.one(2) || g.one(3) {
			dest += "/new/place"
		}
		switch g.r.IntN(4) {
		case 0:
			c.Mounts = append(c.Mounts, specs.Mount{Destination: dest, Type: "tmpfs", Source: "tmpfs", Options: append(flags(), some(g, 3, "size=1m", "mode=711")...)})
		case 1:
			c.Mounts = append(c.Mounts, specs.Mount{Destination: dest, Type: "bind", Source: source, Options: append(flags(), pick(g, "bind", "rbind"))})
		case 2:
			if strings.HasSuffix(dest, "place") {
				c.Mounts = append(c.Mounts, specs.Mount{Destination: dest, Type: "bind", Source: file, Options: append(flags(), pick(g, "bind", "rbind"))})
			}
		}
	}
}

func (g *generator) paths() {
	g.c.Linux.MaskedPaths = some(g, 2, "/proc/keys", "/proc/timer_list", "/proc/kcore", "/sys/firmware", "/etc/secret", "/etc/secret.d", "/nosuch")
	g.c.Linux.ReadonlyPaths = some(g, 2, "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/etc", "/nosuch")
}

func (g *generator) devices() {
	mode, uid := os.FileMode(0o640), uint32(7)
	if len(g.c.Linux.UIDMappings) == 0 {
		g.c.Linux.Devices = some(g, 3,
			specs.LinuxDevice{Path: "/dev/loopy", Type: "b", Major: 7, Minor: 1, FileMode: &mode, UID: &uid, GID: &uid},
			specs.LinuxDevice{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229, FileMode: &mode, UID: &uid, GID: &uid},
			specs.LinuxDevice{Path: "/dev/fifo", Type: "p", FileMode: &mode, UID: &uid, GID: &uid},
		)
	}
}

func (g *generator) seccomp() {
	if g.one(2) {
		return
	}
	errno := uint(pick(g, 1, 13, 38))
	s := &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Architectures: []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32}}
	for _, names := range some(g, 2, []string{"mkdir", "mkdirat"}, []string{"symlink", "symlinkat"}, []string{"sethostname"}, []string{"mknod", "mknodat"}, []string{"setpriority"}) {
		s.Syscalls = append(s.Syscalls, specs.LinuxSyscall{Names: names, Action: specs.ActErrno, ErrnoRet: &errno})
	}
	if g.one(2) {
		s.Syscalls = append(s.Syscalls, specs.LinuxSyscall{Names: []string{"kill"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{{Index: 1, Value: 0, Op: specs.OpEqualTo}}})
	}
	if len(s.Syscalls) > 0 {
		g.c.Linux.Seccomp = s
	}
}
