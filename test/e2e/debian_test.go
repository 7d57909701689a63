package e2e

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"lade/test/terminal"
)

// TestDebian pulls a real Debian from a real registry and does in it what
// people do.
func TestDebian(t *testing.T) {
	r := newRegistry(t)
	h := newHost(t)
	image := r.addr + "/debian:bookworm"
	h.must("pull", image)

	for _, tt := range []struct {
		name, want string
		args       []string
	}{
		{"apt", "apt 2.6", []string{"apt-get", "--version"}},
		{"python", "42", []string{"python3", "-c", "print(6*7)"}},
		{"replaced file", "Lade test image", []string{"cat", "/etc/motd"}},
		{"whiteout", "gone", []string{"sh", "-c", "test -e /etc/apt/trusted.gpg.d || echo gone"}},
		{"opaque directory", "only", []string{"ls", "/usr/share/doc"}},
		{"hard link", "2", []string{"stat", "-c", "%h", "/srv/odd/hardlink"}},
		{"setuid bit", "4755", []string{"stat", "-c", "%a", "/usr/bin/passwd"}},
		{"capabilities", "CapEff:\t00000000a80425fb", []string{"grep", "CapEff", "/proc/self/status"}},
		{"filter", "Seccomp:\t2", []string{"grep", "Seccomp:", "/proc/self/status"}},
		{"process 1", "1", []string{"sh", "-c", "echo $$"}},
		{"own user namespace", "0", []string{"sh", "-c", "awk '{print $1}' /proc/self/uid_map"}},
		{"writable", "x", []string{"sh", "-c", "echo x >/root/f && cat /root/f && chown 1000:1000 /root/f && useradd -m joe && su joe -c true"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := h.with(t)
			got := h.must(append([]string{"run", "--rm", "--network", "none", image}, tt.args...)...)
			if !strings.HasPrefix(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	t.Run("exit codes", func(t *testing.T) { exitCodes(h.with(t), image) })
	t.Run("64 MiB through stdin to stdout", func(t *testing.T) { throughPipe(h.with(t), image) })
	t.Run("signal to a trap", func(t *testing.T) { signalToTrap(h.with(t), image) })
	t.Run("shell with job control", func(t *testing.T) { jobControl(h.with(t), image) })
	t.Run("background", func(t *testing.T) { background(h.with(t), image) })
}

// with returns h for a subtest.
func (h *host) with(t *testing.T) *host {
	t.Helper()
	c := *h
	c.t = t
	return &c
}

func exitCodes(h *host, image string) {
	for _, tt := range []struct {
		code int
		args []string
	}{
		{0, []string{image, "true"}},
		{42, []string{image, "sh", "-c", "exit 42"}},
		// The first process of a namespace ignores its own SIGKILL; under an
		// init the shell is an ordinary one.
		{137, []string{"--init", image, "sh", "-c", "kill -9 $$"}},
		{127, []string{image, "no-such-command"}},
		{127, []string{image, "/no/such/path"}},
		{126, []string{image, "/etc/passwd"}},
		{126, []string{image, "/etc"}},
		{125, []string{"--no-such-flag", image, "true"}},
		{125, []string{"127.0.0.1:1/no/such:image", "true"}},
	} {
		if r := h.lade(append([]string{"run", "--rm", "--network", "none"}, tt.args...)...); r.code != tt.code {
			h.t.Errorf("%q: exit %d, want %d: %s", tt.args, r.code, tt.code, r.stderr)
		}
	}
}

func throughPipe(h *host, image string) {
	data := make([]byte, 64<<20)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(data)
	r := h.ladeIn(bytes.NewReader(data), "run", "--rm", "-i", "--network", "none", image, "cat")
	if r.code != 0 || sha256.Sum256([]byte(r.stdout)) != sha256.Sum256(data) {
		h.t.Errorf("exit %d, %d bytes of %d came back: %s", r.code, len(r.stdout), len(data), r.stderr)
	}
}

func signalToTrap(h *host, image string) {
	c := h.command(h.t.Context(), "run", "--rm", "--network", "none", image, "bash", "-c", "trap 'echo got TERM; exit 7' TERM; echo ready; while :; do sleep 0.05; done")
	out, err := c.StdoutPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		h.t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "ready" {
		h.t.Fatalf("got %q, want ready", lines.Text())
	}
	_ = c.Process.Signal(syscall.SIGTERM)
	if !lines.Scan() || lines.Text() != "got TERM" {
		h.t.Errorf("got %q, want the trap's line", lines.Text())
	}
	_ = c.Wait()
	if code := c.ProcessState.ExitCode(); code != 7 {
		h.t.Errorf("exit %d, want 7", code)
	}
}

func jobControl(h *host, image string) {
	x := terminal.Start(h.t, h.command(h.t.Context(), "run", "--rm", "-it", "--network", "none", "-e", "PS1=ready> ", image, "bash", "--norc"))
	x.See("ready> ")
	x.Enter("stty size\r")
	x.See("24 80")
	x.See("ready> ")
	x.Enter("sleep 1000 &\r")
	x.See("[1] ")
	x.See("ready> ")
	x.Enter("jobs\r")
	x.See("Running")
	x.Enter("sh -c 'echo fore$((1))ground; exec sleep 2000'\r")
	x.See("fore1ground")
	x.Enter("\x1a")
	x.See("Stopped")
	x.See("ready> ")
	x.Enter("kill %1; kill -9 %2; wait; echo all$((2))ended\r")
	x.See("all2ended")
	x.See("ready> ")
	x.Enter("sh -c 'echo busy$((3))now; exec sleep 3000'\r")
	x.See("busy3now")
	x.Enter("\x03")
	x.See("ready> ")
	x.Enter("echo status=$?\r")
	x.See("status=130")
	x.See("ready> ")
	x.Enter("exit 9\r")
	if code := x.Exit(); code != 9 {
		h.t.Errorf("exit %d, want 9", code)
	}
}

func background(h *host, image string) {
	id := h.must("run", "-d", "--network", "none", image, "sh", "-c", "i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; exec sleep 1000")
	c := h.command(h.t.Context(), "logs", "-f", id)
	out, err := c.StdoutPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		h.t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for i := range 2000 {
		if !lines.Scan() || lines.Text() != fmt.Sprintf("line %d", i) {
			h.t.Fatalf("got %q, want line %d", lines.Text(), i)
		}
	}
	if got := h.must("logs", "--tail", "2", id); got != "line 1998\nline 1999" {
		h.t.Errorf("the last two lines are %q", got)
	}
	if got := h.must("ps", "-q", "--no-trunc"); got != id {
		h.t.Errorf("ps shows %q, want %q", got, id)
	}
	h.must("stop", "-t", "0", id)
	if lines.Scan() {
		h.t.Errorf("logs -f goes on with %q", lines.Text())
	}
	if err := c.Wait(); err != nil {
		h.t.Errorf("logs -f: %v", err)
	}
	if got := h.must("wait", id); got != "137" {
		h.t.Errorf("exit code %s, want 137", got)
	}
	h.must("rm", id)
}

// TestDockerCommandLine runs Docker's own command line against the engine.
func TestDockerCommandLine(t *testing.T) {
	docker, err := exec.LookPath("docker")
	if err != nil {
		t.Skip("docker's command line is not installed")
	}
	h := newHost(t)
	run := func(args ...string) string {
		t.Helper()
		c := exec.Command(docker, args...)
		c.Env = append(h.env, "DOCKER_HOST=unix://"+h.dir+"/s/lade.sock")
		out, err := c.CombinedOutput()
		if err != nil {
			t.Errorf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return strings.TrimSpace(string(out))
	}
	run("version")
	run("info")
	if got := run("run", "--rm", "--network", "none", "lade/toolbox", "echo", "hello"); got != "hello" {
		t.Errorf("docker run printed %q", got)
	}
	id := run("run", "-d", "--network", "none", "--name", "web", "lade/toolbox", "sh", "-c", "echo up; sleep 1000")
	if got := run("exec", "web", "echo", "inside"); got != "inside" {
		t.Errorf("docker exec printed %q", got)
	}
	if got := run("logs", "web"); got != "up" {
		t.Errorf("docker logs printed %q", got)
	}
	if got := run("ps", "-q", "--no-trunc"); got != id {
		t.Errorf("docker ps shows %q, want %q", got, id)
	}
	if got := run("inspect", "-f", "{{.State.Status}}", "web"); got != "running" {
		t.Errorf("docker inspect says %q", got)
	}
	run("rm", "-f", "web")
}
