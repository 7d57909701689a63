package peers

import (
	"os/exec"
	"strings"
	"testing"
)

// newPodman returns a Podman with its own storage that holds the Debian image.
func newPodman(t *testing.T, runtime string) engine {
	t.Helper()
	dir := t.TempDir()
	e := engine{program: installed(t, "podman"), image: "localhost/debian:bookworm"}
	e.global = []string{
		"--root", dir + "/root", "--runroot", dir + "/run", "--tmpdir", dir + "/tmp", "--runtime", runtime,
		"--cgroup-manager", "cgroupfs", "--events-backend", "none", "--storage-driver", "overlay",
	}
	// Podman raises limits that a host without CAP_SYS_RESOURCE refuses.
	e.run = []string{"--network", "none", "--ulimit", "nofile=1024:2048", "--ulimit", "nproc=4096:8192"}
	archive := dir + "/debian.tar"
	if out, err := exec.Command("skopeo", "--insecure-policy", "copy", "--quiet", "oci:"+layout(t), "oci-archive:"+archive+":"+e.image).CombinedOutput(); err != nil {
		t.Fatalf("skopeo: %v\n%s", err, out)
	}
	e.must(t, "load", "--quiet", "--input", archive)
	t.Cleanup(func() {
		e.must(t, "rm", "--all", "--force", "--time", "0")
		e.must(t, "rmi", "--all", "--force")
		// The storage's own mount on itself.
		_ = exec.Command("umount", dir+"/root/overlay").Run()
	})
	return e
}

func (e engine) podmanRun(args ...string) []string {
	return append(append([]string{"run", "--rm"}, e.run...), args...)
}

func TestPodman(t *testing.T) {
	e := newPodman(t, runtimeUnderTest(t))
	for _, tt := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"output", []string{e.image, "echo", "hello"}, 0, "hello"},
		{"python", []string{e.image, "python3", "-c", "print(6*7)"}, 0, "42"},
		{"exit code", []string{e.image, "sh", "-c", "exit 42"}, 42, ""},
		{"missing command", []string{e.image, "absent"}, 127, ""},
		{"not executable", []string{e.image, "/etc/passwd"}, 126, ""},
		{"user", []string{"--user", "1000:1000", e.image, "id", "-u"}, 0, "1000"},
		{"environment", []string{"--env", "A=b", e.image, "sh", "-c", "echo $A"}, 0, "b"},
		{"hostname", []string{"--hostname", "box", e.image, "hostname"}, 0, "box"},
		{"memory limit", []string{"--memory", "64m", e.image, "sh", "-c", "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null | head -n 1"}, 0, "67108864"},
		{"read-only root", []string{"--read-only", e.image, "sh", "-c", "touch /x 2>/dev/null || echo refused"}, 0, "refused"},
		{"terminal", []string{"--tty", e.image, "tty"}, 0, "/dev/pts/0"},
		{"user namespace", []string{"--uidmap", "0:100000:65536", "--gidmap", "0:100000:65536", e.image, "cat", "/proc/self/uid_map"}, 0, "0     100000      65536"},
		{"capabilities", []string{"--cap-drop", "all", e.image, "grep", "CapEff", "/proc/self/status"}, 0, "CapEff:\t0000000000000000"},
		{"init", []string{"--pid", "private", e.image, "sh", "-c", "echo $$"}, 0, "1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := e.do(t, nil, e.podmanRun(tt.args...)...)
			if r.code != tt.code || strings.TrimSpace(r.stdout) != tt.want {
				t.Errorf("exit %d, want %d; printed %q, want %q\n%s", r.code, tt.code, r.stdout, tt.want, r.stderr)
			}
		})
	}
	t.Run("stdin", func(t *testing.T) {
		r := e.do(t, strings.NewReader("through"), e.podmanRun("--interactive", e.image, "cat")...)
		if r.code != 0 || r.stdout != "through" {
			t.Errorf("exit %d, %q, %s", r.code, r.stdout, r.stderr)
		}
	})
	t.Run("life cycle", func(t *testing.T) {
		id := e.must(t, append(append([]string{"run", "--detach"}, e.run...), e.image, "sh", "-c", "trap 'exit 7' TERM; echo up; while :; do sleep 0.1; done")...)
		if got := e.must(t, "exec", id, "echo", "inside"); got != "inside" {
			t.Errorf("exec printed %q", got)
		}
		if r := e.do(t, nil, "exec", id, "sh", "-c", "exit 3"); r.code != 3 {
			t.Errorf("exec: exit %d, want 3", r.code)
		}
		if r := e.do(t, nil, "exec", id, "absent"); r.code != 127 {
			t.Errorf("exec of what is not there: exit %d, want 127: %s", r.code, r.stderr)
		}
		e.must(t, "pause", id)
		e.must(t, "unpause", id)
		e.must(t, "stop", id)
		if got := e.must(t, "wait", id); got != "7" {
			t.Errorf("exit code %s, want 7", got)
		}
		if got := e.must(t, "logs", id); got != "up" {
			t.Errorf("logs: %q", got)
		}
	})
}
