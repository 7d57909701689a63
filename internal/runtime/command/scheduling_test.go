package command_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"lade/test/kerneltest"
)

// TestScheduling: what the process is told about CPUs, disks and the kernel.
func TestScheduling(t *testing.T) {
	m := newMachine(t, func(c *specs.Spec) {
		c.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux32}
		c.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedBatch, Nice: 7}
		c.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 6}
		c.Process.ExecCPUAffinity = &specs.CPUAffinity{Initial: "0", Final: "0"}
	})
	const script = "cat /proc/self/personality; awk '{print $19, $41}' /proc/self/stat; ionice -p $$"
	const want = "00000008\n7 3\nbest-effort: prio 6\n"
	if got := m.sh(script); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	id := m.background("sleep", "1000")
	if got := m.must("exec", id, "sh", "-c", script+"; grep Cpus_allowed_list /proc/self/status"); got != want+"Cpus_allowed_list:\t0\n" {
		t.Errorf("exec: got %q", got)
	}
}

// TestActivation: sockets of systemd come before those of --preserve-fds.
func TestActivation(t *testing.T) {
	m := newMachine(t, nil)
	m.args("sh", "-c", `cat <&3; cat <&4; echo "$LISTEN_FDS $LISTEN_PID $LISTEN_FDNAMES"`)
	dir := t.TempDir()
	var files []*os.File
	for _, name := range []string{"one\n", "two\n"} {
		file := filepath.Join(dir, "f")
		if err := os.WriteFile(file, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		_ = os.Remove(file)
		files = append(files, f)
	}
	for pid, want := range map[string]string{"$$": "one\ntwo\n1 1 web\n", "1": "one\n"} {
		for _, f := range files {
			_, _ = f.Seek(0, 0)
		}
		cmd := m.command("run", "--preserve-fds", "1", "--bundle", m.bundle, kerneltest.ID(t))
		// The pid is known to the process itself only.
		cmd.Args = append([]string{"sh", "-c", `export LISTEN_FDS=1 LISTEN_FDNAMES=web LISTEN_PID=` + pid + `; exec "$0" "$@"`, cmd.Path}, cmd.Args[1:]...)
		cmd.Path = "/bin/sh"
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd.Args[3] = self
		cmd.ExtraFiles = files
		out, err := cmd.Output()
		if got := string(out); pid == "$$" && got != want || pid == "1" && got[:min(4, len(got))] != want {
			t.Errorf("LISTEN_PID=%s: got %q, want %q, %v", pid, out, want, err)
		}
	}
}

func TestUpdate(t *testing.T) {
	m := newMachine(t, nil)
	id := m.background("sleep", "1000")
	cmd := m.command("update", "--resources", "-", id)
	cmd.Stdin = strings.NewReader(`{"memory":{"limit":67108864},"pids":{"limit":9}}`)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got := m.must(append([]string{"exec", id, "cat"}, limitFiles()...)...); got != "9\n67108864\n" {
		t.Errorf("got %q", got)
	}
}
