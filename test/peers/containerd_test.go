package peers

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"lade/test/kerneltest"
)

// newContainerd starts a containerd that ends with the test and holds the
// Debian image. ctr stands for its clients.
func newContainerd(t *testing.T) engine {
	t.Helper()
	dir, err := os.MkdirTemp("", "lc") //nolint:usetesting // TempDir's path is too long for containerd's sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := dir + "/c.sock"
	config := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = %q\n", dir+"/root", dir+"/state", socket)
	if err := os.WriteFile(dir+"/config.toml", []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(installed(t, "containerd"), "--config", dir+"/config.toml", "--log-level", "error")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Signal(syscall.SIGTERM)
		_ = c.Wait()
	})
	e := engine{program: installed(t, "ctr"), global: []string{"--address", socket}, image: "docker.io/library/debian:bookworm"}
	// containerd tells nobody but systemd when it is ready.
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for range 200 {
		if e.do(t, nil, "version").code == 0 {
			break
		}
		<-tick.C
	}
	archive := dir + "/debian.tar"
	if out, err := exec.Command("skopeo", "--insecure-policy", "copy", "--quiet", "oci:"+layout(t), "oci-archive:"+archive+":"+e.image).CombinedOutput(); err != nil {
		t.Fatalf("skopeo: %v\n%s", err, out)
	}
	e.must(t, "image", "import", archive)
	return e
}

func TestContainerd(t *testing.T) {
	e := newContainerd(t)
	runtime := runtimeUnderTest(t)
	run := []string{"run", "--rm", "--runtime", "io.containerd.runc.v2", "--runc-binary", runtime}
	for _, tt := range []struct {
		name  string
		flags []string
		args  []string
		code  int
		want  string
	}{
		{"output", nil, []string{"echo", "hello"}, 0, "hello"},
		{"python", nil, []string{"python3", "-c", "print(6*7)"}, 0, "42"},
		{"exit code", nil, []string{"sh", "-c", "exit 42"}, 42, ""},
		{"filter", []string{"--seccomp"}, []string{"grep", "Seccomp:", "/proc/self/status"}, 0, "Seccomp:\t2"},
		{"working directory", []string{"--cwd", "/tmp"}, []string{"pwd"}, 0, "/tmp"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := append(append(append(append([]string{}, run...), tt.flags...), e.image, kerneltest.ID(t)), tt.args...)
			r := e.do(t, nil, args...)
			if r.code != tt.code || strings.TrimSpace(r.stdout) != tt.want {
				t.Errorf("exit %d, want %d; printed %q, want %q\n%s", r.code, tt.code, r.stdout, tt.want, r.stderr)
			}
		})
	}
	t.Run("life cycle", func(t *testing.T) {
		id := kerneltest.ID(t)
		e.must(t, "run", "--detach", "--runtime", "io.containerd.runc.v2", "--runc-binary", runtime, e.image, id, "sleep", "1000")
		if got := e.must(t, "task", "exec", "--exec-id", "one", id, "echo", "inside"); got != "inside" {
			t.Errorf("exec printed %q", got)
		}
		e.must(t, "task", "pause", id)
		e.must(t, "task", "resume", id)
		if got := e.must(t, "task", "ps", id); !strings.Contains(got, "PID") {
			t.Errorf("ps printed %q", got)
		}
		// Killed with 9: the exit code of delete is the task's.
		if r := e.do(t, nil, "task", "delete", "--force", id); r.code != 137 && r.code != 0 {
			t.Errorf("task delete: exit %d: %s", r.code, r.stderr)
		}
		e.must(t, "container", "delete", id)
	})
}
