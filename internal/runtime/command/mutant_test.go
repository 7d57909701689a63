package command_test

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/runtime/container"
	"lade/internal/runtime/program"
	"lade/test/kerneltest"
)

// The test binary as runtime lacks the defence of the row with this name; the
// second variable tells it the row's directory of the host.
const (
	mutantOf = "LADE_TEST_MUTANT"
	canaryIn = "LADE_TEST_CANARY"
)

func mutated(ctx context.Context) context.Context {
	var m container.Mutation
	for _, r := range rows() {
		if r.name == os.Getenv(mutantOf) {
			m = r.mutation
		}
	}
	if dir := os.Getenv(fakeIn); dir != "" {
		m = faked(dir)
	}
	return container.WithMutation(ctx, paused(m))
}

// row is one attack. Its defence is proven: without it, the attack succeeds.
type row struct {
	name     string
	mutation container.Mutation
	// attack attacks with a canary directory of the host, which holds the file
	// token and nothing else. It returns the harm that is done, or "".
	attack func(t *testing.T, m *machine, canary string) string
	// works does what is like the attack, and allowed.
	works func(t *testing.T, m *machine)
}

const token = "of the host alone"

func rows() []row {
	return []row{
		{"02 CVE-2019-5736 the runtime's image is written to", container.Mutation{Unsealed: true}, writeImage, runWorks},
		{"04 CVE-2021-30465 a mount leaves the root by a link", unresolved("mnt/link"), mountThroughLink, mountInside},
		{"04 CVE-2021-30465 a place is swapped between finding and mounting", byName("mnt/a"), mountOnSwapped, mountInside},
		{"08 CVE-2023-27561 CVE-2019-19921 proc is a link", followed("proc"), falseProc, procWorks},
		{"09 CVE-2024-21626 the directory is a leaked descriptor", leaking(), leakedDirectory, directoryWorks},
		{"10 CVE-2024-45310 directories are made through a link", unresolved("mnt/link"), makeThroughLink, makeInside},
		{"10 CVE-2024-45310 a directory is swapped before one is made in it", byName("mnt/a"), makeInSwapped, makeInside},
		{"11 CVE-2025-31133 the image's null is not null", falseNull(), maskByLink, maskWorks},
		{"14 CVE-2026-41579 dev is a link", unresolved("dev"), devicesThroughLink, devicesInside},
		{"19 CVE-2024-40635 a user that is none", container.Mutation{Unchecked: true}, userOfNobody, userWorks},
	}
}

// TestGauntlet shows every row green, red without its defence, and its legal
// neighbour at work. Rows of the planner alone stand in its own tests.
func TestGauntlet(t *testing.T) {
	for _, r := range rows() {
		t.Run(r.name, func(t *testing.T) {
			once := func(env ...string) string {
				canary := t.TempDir()
				if err := os.WriteFile(filepath.Join(canary, "token"), []byte(token), 0o644); err != nil {
					t.Fatal(err)
				}
				m := newMachine(t, func(c *specs.Spec) { c.Root.Readonly = false })
				m.env = append(env, canaryIn+"="+canary)
				harm := r.attack(t, m, canary)
				if left, _ := os.ReadDir(canary); len(left) != 1 {
					harm += " made on the host: " + strings.Join(names(left), " ")
				}
				return harm
			}
			if harm := once(); harm != "" {
				t.Errorf("the attack succeeds: %s", harm)
			}
			if harm := once(mutantOf + "=" + r.name); harm == "" {
				t.Error("the attack fails without the defence, too: the row proves nothing")
			} else {
				t.Logf("red without the defence: %s", harm)
			}
			r.works(t, newMachine(t, func(c *specs.Spec) { c.Root.Readonly = false }))
		})
	}
}

// TestMutationsAreForTests: no program can be told to lack a defence.
func TestMutationsAreForTests(t *testing.T) {
	err := filepath.WalkDir("../../..", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		if strings.Contains(string(b), ".WithMutation(") {
			t.Errorf("%s makes a mutation", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func names(entries []os.DirEntry) []string {
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// resolution changes how paths that begin with prefix are resolved.
func resolution(p *program.Program, prefix string, change func(uint64) uint64) {
	program.Walk(p.Child, func(s *program.Step) {
		if s.Call == "openat2" && strings.HasPrefix(s.Args[1].S, prefix) {
			how := s.Args[2].Data()[16:]
			binary.LittleEndian.PutUint64(how, change(binary.LittleEndian.Uint64(how)))
		}
	})
}

// unresolved resolves paths as the host does.
func unresolved(prefix string) container.Mutation {
	return container.Mutation{Program: func(p *program.Program) {
		resolution(p, prefix, func(uint64) uint64 { return 0 })
	}}
}

// followed lets links inside the root be followed.
func followed(prefix string) container.Mutation {
	return container.Mutation{Program: func(p *program.Program) {
		resolution(p, prefix, func(n uint64) uint64 { return n &^ unix.RESOLVE_NO_SYMLINKS })
	}}
}

// leaking leaves a directory of the host open, follows links of proc, and does
// not verify where that led.
func leaking() container.Mutation {
	return container.Mutation{Program: func(p *program.Program) {
		resolution(p, "proc/self/fd", func(uint64) uint64 { return 0 })
		p.Child = slices.DeleteFunc(p.Child, func(s program.Step) bool { return s.Call == "check" && s.Args[0].S == "wd" })
		p.Child = slices.Insert(p.Child, 0, program.Step{Call: "openat", Yield: "leak", Args: []program.Arg{
			program.CWD(), program.String(os.Getenv(canaryIn)), program.Int(unix.O_PATH | unix.O_DIRECTORY), program.Int(0),
		}})
	}}
}

// falseNull masks with the null device of the image.
func falseNull() container.Mutation {
	return container.Mutation{Program: func(p *program.Program) {
		program.Walk(p.Child, func(s *program.Step) {
			if s.Yield == "null" {
				s.Args[0], s.Args[1] = program.FD("root"), program.String("dev/null")
			}
		})
	}}
}

// link puts a symbolic link into the root.
func (m *machine) link(name, to string) {
	m.t.Helper()
	file := filepath.Join(m.rootfs, name)
	if err := errors.Join(os.RemoveAll(file), os.MkdirAll(filepath.Dir(file), 0o755), os.Symlink(to, file)); err != nil {
		m.t.Fatal(err)
	}
}

// try runs a script in a container, and returns what it prints.
func (m *machine) try(script string) (string, error) {
	m.t.Helper()
	m.args("/bin/sh", "-c", script)
	return m.run("run", "--bundle", m.bundle, kerneltest.ID(m.t))
}

func (m *machine) expect(script, want string) {
	m.t.Helper()
	if out, err := m.try(script); err != nil || out != want {
		m.t.Errorf("what is allowed: got %q, %v; want %q", out, err, want)
	}
}

// writeImage holds what the child executes until it has ended, and opens it
// for writing then: before, the kernel refuses by itself.
func writeImage(t *testing.T, m *machine, _ string) string {
	t.Helper()
	m.args("true")
	id, pidFile := kerneltest.ID(t), filepath.Join(m.bundle, "pid")
	if err := m.command("create", "--bundle", m.bundle, "--pid-file", pidFile, id).Run(); err != nil {
		t.Fatal(err)
	}
	pid, _ := os.ReadFile(pidFile)
	exe := "/proc/" + string(pid) + "/exe"
	if to, err := os.Readlink(exe); err != nil || !strings.HasPrefix(to, "/memfd:") {
		t.Errorf("the child executes %s, %v", to, err)
	}
	fd, err := unix.Open(exe, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	m.must("delete", "--force", id)
	w, err := unix.Open("/proc/self/fd/"+strconv.Itoa(fd), unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(w)
	if _, err := unix.Pwrite(w, []byte("#!"), 0); err != nil {
		return ""
	}
	return "the runtime's image has been written to"
}

func runWorks(_ *testing.T, m *machine) { m.expect("readlink /proc/1/exe", "/bin/busybox\n") }

func (m *machine) tmpfs(dest string) {
	m.configure(func(c *specs.Spec) {
		c.Mounts = append(c.Mounts, specs.Mount{Destination: dest, Type: "tmpfs", Source: "tmpfs"})
	})
}

func mountThroughLink(t *testing.T, m *machine, canary string) string {
	t.Helper()
	m.link("mnt/link", canary)
	if err := os.MkdirAll(filepath.Join(m.rootfs, canary), 0o755); err != nil {
		t.Fatal(err)
	}
	m.tmpfs("/mnt/link")
	out, err := m.try("cat /proc/self/mountinfo")
	if err == nil && !strings.Contains(out, " "+canary+" ") {
		return "the mount is not in the root"
	}
	if err != nil {
		t.Errorf("the mount inside the root fails: %s", out)
	}
	return ""
}

func mountInside(t *testing.T, m *machine) {
	t.Helper()
	m.link("var/run", "/run")
	if err := os.MkdirAll(filepath.Join(m.rootfs, "run/place"), 0o755); err != nil {
		t.Fatal(err)
	}
	m.tmpfs("/var/run/place")
	m.expect("grep -c ' /run/place ' /proc/self/mountinfo", "1\n")
}

func falseProc(t *testing.T, m *machine, _ string) string {
	t.Helper()
	m.link("proc", "/tmp/false")
	if err := os.MkdirAll(filepath.Join(m.rootfs, "tmp/false"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := m.try("true"); err == nil {
		return "a container runs whose /proc is a link"
	}
	return ""
}

func procWorks(_ *testing.T, m *machine) {
	m.expect("stat -f -c %T /proc /sys | tr '\\n' ' '", "proc sysfs ")
}

func leakedDirectory(_ *testing.T, m *machine, _ string) string {
	for n := 3; n < 12; n++ {
		m.configure(func(c *specs.Spec) { c.Process.Cwd = "/proc/self/fd/" + strconv.Itoa(n) })
		if out, _ := m.try("cat token"); strings.Contains(out, token) {
			return "descriptor " + strconv.Itoa(n) + " leads to the host"
		}
	}
	return ""
}

func directoryWorks(_ *testing.T, m *machine) {
	m.link("work", "/tmp")
	m.configure(func(c *specs.Spec) { c.Process.Cwd = "/work" })
	m.expect("pwd", "/tmp\n")
	m.configure(func(c *specs.Spec) { c.Process.Cwd = "/made/for/it" })
	m.expect("pwd", "/made/for/it\n")
}

func makeThroughLink(_ *testing.T, m *machine, canary string) string {
	m.link("mnt/link", canary)
	m.tmpfs("/mnt/link/new/directory")
	_, _ = m.try("true")
	return "" // what is made in the canary is found by the test
}

func makeInside(t *testing.T, m *machine) {
	t.Helper()
	m.link("mnt/link", "../var")
	if err := os.MkdirAll(filepath.Join(m.rootfs, "var"), 0o755); err != nil {
		t.Fatal(err)
	}
	m.tmpfs("/mnt/link/new/directory")
	m.expect("grep -c ' /var/new/directory ' /proc/self/mountinfo", "1\n")
}

func maskByLink(_ *testing.T, m *machine, _ string) string {
	m.link("dev/null", "/proc/sys/kernel/core_pattern")
	m.configure(func(c *specs.Spec) {
		c.Mounts = c.Mounts[:1] // an image's own /dev
		c.Linux.MaskedPaths = []string{"/proc/timer_list"}
	})
	if out, err := m.try("stat -c '%t:%T %n' /proc/timer_list"); err == nil && out != "1:3 /proc/timer_list\n" {
		return "masked by " + out
	}
	return ""
}

func maskWorks(_ *testing.T, m *machine) {
	m.expect("stat -c %t:%T /proc/timer_list; echo x >/dev/null; cat /proc/timer_list | wc -c", "1:3\n0\n")
}

func devicesThroughLink(_ *testing.T, m *machine, canary string) string {
	m.link("dev", canary)
	m.configure(func(c *specs.Spec) { c.Mounts = c.Mounts[:1] })
	_, _ = m.try("true")
	return "" // what is made in the canary is found by the test
}

func devicesInside(t *testing.T, m *machine) {
	t.Helper()
	m.link("dev", "devices")
	if err := os.MkdirAll(filepath.Join(m.rootfs, "devices"), 0o755); err != nil {
		t.Fatal(err)
	}
	m.configure(func(c *specs.Spec) { c.Mounts = c.Mounts[:1] })
	m.expect("stat -c %t:%T /devices/zero", "1:5\n")
}

func userOfNobody(_ *testing.T, m *machine, _ string) string {
	m.configure(func(c *specs.Spec) { c.Process.User.UID = 1<<32 - 1 })
	if out, err := m.try("id -u"); err == nil {
		return "it runs as " + out
	}
	return ""
}

func userWorks(_ *testing.T, m *machine) {
	m.configure(func(c *specs.Spec) { c.Process.User = specs.User{UID: 1<<32 - 2, GID: 5} })
	m.expect("grep Uid /proc/self/status", "Uid:\t4294967294\t4294967294\t4294967294\t4294967294\n")
}
