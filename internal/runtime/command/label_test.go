package command_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/runtime/container"
	"lade/internal/runtime/plan"
	"lade/internal/runtime/program"
	"lade/test/kerneltest"
)

// fakeIn names a directory that stands for what this kernel may lack: an LSM's
// attributes and resctrl. It proves what is written and when, not what an LSM
// makes of it.
const fakeIn = "LADE_TEST_FAKE"

// faked is a runtime on such a machine.
func faked(dir string) container.Mutation {
	return container.Mutation{
		Facts: func(f *plan.Facts) { f.AppArmor, f.SELinux, f.Resctrl = true, true, filepath.Join(dir, "resctrl") },
		Program: func(p *program.Program) {
			real := false
			program.Walk(p.Child, func(s *program.Step) {
				for i := range s.Args {
					if name, ok := strings.CutPrefix(s.Args[i].S, "/proc/self/attr/"); ok {
						s.Args[i] = program.String(filepath.Join(dir, filepath.Base(name)))
						real = true
					}
				}
				// What follows such an open verifies that it is on procfs.
				if real && s.Call == "check" {
					s.Args, real = program.Check("never", 0, 0, 1), false
				}
			})
		},
	}
}

func fakeMachine(t *testing.T, change func(*specs.Spec)) (*machine, string) {
	t.Helper()
	dir := t.TempDir()
	for _, f := range []string{"exec", "keycreate", "resctrl/gold/tasks", "resctrl/gold/schemata", "resctrl/gold/mon_groups/x"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, f)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, f), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	m := newMachine(t, change)
	m.env = append(m.env, fakeIn+"="+dir)
	return m, dir
}

// TestLabels: the labels reach the attribute of the process, and where the
// kernel has no LSM the container does not run without them.
func TestLabels(t *testing.T) {
	read := func(dir, name string) string {
		b, _ := os.ReadFile(filepath.Join(dir, name))
		return string(b)
	}
	t.Run("AppArmor", func(t *testing.T) {
		m, dir := fakeMachine(t, func(c *specs.Spec) { c.Process.ApparmorProfile = "strict" })
		if got := m.sh("ls /proc/self/fd | wc -l"); got != "4\n" {
			t.Errorf("descriptors: %q", got)
		}
		if got := read(dir, "exec"); got != "exec strict" {
			t.Errorf("written: %q", got)
		}
	})
	t.Run("SELinux", func(t *testing.T) {
		m, dir := fakeMachine(t, func(c *specs.Spec) { c.Process.SelinuxLabel = "u:r:t:s0:c1,c2" })
		m.sh("true")
		if e, k := read(dir, "exec"), read(dir, "keycreate"); e != "u:r:t:s0:c1,c2" || k != e {
			t.Errorf("written: %q, %q", e, k)
		}
	})
	t.Run("no LSM", func(t *testing.T) {
		for want, change := range map[string]func(*specs.Spec){
			"apparmor is disabled or not supported": func(c *specs.Spec) { c.Process.ApparmorProfile = "strict" },
			"selinux is disabled or not supported":  func(c *specs.Spec) { c.Process.SelinuxLabel = "u:r:t:s0" },
			"mountLabel":                            func(c *specs.Spec) { c.Linux.MountLabel = "u:r:t:s0" },
		} {
			if b, err := os.ReadFile("/sys/module/apparmor/parameters/enabled"); err == nil && b[0] == 'Y' && strings.Contains(want, "apparmor") {
				continue
			}
			m := newMachine(t, change)
			m.args("true")
			if out, err := m.run("run", "--bundle", m.bundle, kerneltest.ID(t)); code(err) != 1 || !strings.Contains(out, want) {
				t.Errorf("got %q, %v; want %q", out, err, want)
			}
		}
	})
}

// TestIntelRdt: the process joins its class before its program runs; a class
// with a name is left as it was, what was made is removed.
func TestIntelRdt(t *testing.T) {
	m, dir := fakeMachine(t, func(c *specs.Spec) {
		c.Linux.IntelRdt = &specs.LinuxIntelRdt{ClosID: "gold", L3CacheSchema: "L3:0=f", Schemata: []string{"MB:0=20"}}
	})
	id := m.background("sleep", "1000")
	pid := strings.Split(m.namespace(id, "net"), "/")[2]
	for name, want := range map[string]string{"tasks": pid, "schemata": "L3:0=f\nMB:0=20\n"} {
		if b, err := os.ReadFile(filepath.Join(dir, "resctrl/gold", name)); err != nil || string(b) != want {
			t.Errorf("%s holds %q, %v; want %q", name, b, err, want)
		}
	}
	m.must("delete", "--force", id)
	if _, err := os.Stat(filepath.Join(dir, "resctrl/gold/tasks")); err != nil {
		t.Errorf("a class of others is gone: %v", err)
	}
	m.configure(func(c *specs.Spec) { c.Linux.IntelRdt = &specs.LinuxIntelRdt{ClosID: "nosuch"} })
	m.args("true")
	if out, err := m.run("run", "--bundle", m.bundle, kerneltest.ID(t)); code(err) != 1 || !strings.Contains(out, "which must be there where no schema is given") {
		t.Errorf("got %q, %v", out, err)
	}
	// This directory is no resctrl, so that joining the class that is made fails;
	// then it is to be gone again.
	m.configure(func(c *specs.Spec) { c.Linux.IntelRdt = &specs.LinuxIntelRdt{} })
	own := kerneltest.ID(t)
	if out, err := m.run("run", "--bundle", m.bundle, own); code(err) != 1 || !strings.Contains(out, own+"/tasks") {
		t.Errorf("got %q, %v", out, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "resctrl", own)); err == nil {
		t.Error("the class that was made is left")
	}
}
