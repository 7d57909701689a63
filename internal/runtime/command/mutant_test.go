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

	"lade/internal/gauntlet"
	"lade/internal/runtime/container"
	"lade/internal/runtime/plan"
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
	// black, instead of both, attacks and works through the command line alone:
	// the same attacks are made on any runtime.
	black *gauntlet.Row
}

// borrowed returns the row of the gauntlet with this number and name.
func borrowed(name string, number int) *gauntlet.Row {
	for _, r := range gauntlet.Rows() {
		if r.Number == number && r.Name == name {
			return &r
		}
	}
	panic("the gauntlet has no row " + name)
}

const token = "of the host alone"

func rows() []row {
	return []row{
		{name: "02 CVE-2019-5736 the runtime's image is written to", mutation: container.Mutation{Unsealed: true}, attack: writeImage, works: runWorks},
		{name: "04 CVE-2021-30465 a mount leaves the root by a link", mutation: unresolved("mnt/link"), black: borrowed("a mount leaves the root by a link", 4)},
		{name: "04 CVE-2021-30465 a place is swapped between finding and mounting", mutation: byName("mnt/a"), attack: mountOnSwapped, works: mountInside},
		{name: "08 CVE-2023-27561 CVE-2019-19921 proc is a link", mutation: followed("proc"), black: borrowed("proc is a link", 8)},
		{name: "09 CVE-2024-21626 the directory is a leaked descriptor", mutation: leaking(), black: borrowed("the directory is a leaked descriptor", 9)},
		{name: "10 CVE-2024-45310 directories are made through a link", mutation: unlooked(unresolved("mnt/link")), black: borrowed("directories are made through a link", 10)},
		{name: "10 CVE-2024-45310 a directory is swapped before one is made in it", mutation: byName("mnt/a"), attack: makeInSwapped, works: makeInside},
		{name: "11 CVE-2025-31133 the image's null is not null", mutation: falseNull(), black: borrowed("the image's null is not null", 11)},
		{name: "14 CVE-2026-41579 dev is a link", mutation: unresolved("dev"), black: borrowed("dev is a link", 14)},
		{name: "19 CVE-2024-40635 a user that is none", mutation: container.Mutation{Unchecked: true}, black: borrowed("a user that is none", 19)},
	}
}

// TestGauntlet shows every row green, red without its defence, and its legal
// neighbour at work. Rows of the planner alone stand in its own tests.
func TestGauntlet(t *testing.T) {
	for _, r := range rows() {
		t.Run(r.name, func(t *testing.T) {
			once := func(env ...string) string {
				if r.black != nil {
					return blackBox(t, *r.black, env...)
				}
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
			if r.black != nil {
				blackBoxWorks(t, *r.black)
				return
			}
			r.works(t, newMachine(t, func(c *specs.Spec) { c.Root.Readonly = false }))
		})
	}
}

// itself is the test binary as the gauntlet's runtime.
func itself(t *testing.T, dir string, env ...string) gauntlet.Runtime {
	t.Helper()
	kerneltest.Root(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return gauntlet.Runtime{Path: self, Env: append(env, asRuntime+"=1", canaryIn+"="+filepath.Join(dir, "canary")), Rootfs: gauntlet.Busybox}
}

func blackBox(t *testing.T, row gauntlet.Row, env ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), kerneltest.ID(t))
	harm, err := gauntlet.Attack(t.Context(), itself(t, dir, env...), row, dir)
	if err != nil {
		t.Error(err)
	}
	return harm
}

func blackBoxWorks(t *testing.T, row gauntlet.Row) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), kerneltest.ID(t))
	m, err := gauntlet.New(t.Context(), itself(t, dir), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := row.Works(m); err != nil {
		t.Errorf("what is allowed: %v", err)
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
	}, Facts: func(f *plan.Facts) {
		f.Places = nil // the planner has not looked where links lead, either
	}}
}

// unlooked makes what is missing under the name that the configuration has: the
// runtime does not look where links lead before.
func unlooked(m container.Mutation) container.Mutation {
	m.Facts = func(f *plan.Facts) { f.Places = nil }
	return m
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

func mountInside(t *testing.T, m *machine) {
	t.Helper()
	m.link("var/run", "/run")
	if err := os.MkdirAll(filepath.Join(m.rootfs, "run/place"), 0o755); err != nil {
		t.Fatal(err)
	}
	m.tmpfs("/var/run/place")
	m.expect("grep -c ' /run/place ' /proc/self/mountinfo", "1\n")
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
