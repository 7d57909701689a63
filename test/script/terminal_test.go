package script

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"lade/test/kerneltest"
	"lade/test/terminal"
)

// start runs lade on a terminal of its own, as a person has it.
func start(t *testing.T, env []string, program string, args ...string) *terminal.Session {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env = env
	return terminal.Start(t, cmd)
}

// settings returns how a session's terminal is set.
func settings(t *testing.T, s *terminal.Session) unix.Termios {
	t.Helper()
	got, err := unix.IoctlGetTermios(s.Fd(), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *got
}

// host is an engine's directories, and the busybox that is bound into
// containers: its shell knows the size of its terminal.
type host struct {
	bin, state, busybox string
	env                 []string
}

func newHost(t *testing.T) host {
	t.Helper()
	kerneltest.Root(t)
	busybox := kerneltest.Busybox(t) + "/bin/busybox"
	dir, err := os.MkdirTemp("", "lade") //nolint:usetesting // TempDir's path is too long for a Unix socket's 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	h := host{bin: programs(t), state: dir + "/s", busybox: busybox}
	h.env = append(os.Environ(), "LADE_DATA_ROOT="+dir+"/d", "LADE_STATE_DIR="+h.state, "LADE_HOST=", "TERM=xterm")
	t.Cleanup(func() {
		if err := endEngine(h.state, unix.SIGTERM); err != nil {
			t.Error(err)
		}
		_ = os.RemoveAll(dir)
	})
	return h
}

func (h host) lade(t *testing.T, args ...string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), h.bin+"/lade", args...)
	c.Env = h.env
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("lade %q: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// shell runs a shell in a container named box.
func (h host) shell(t *testing.T, flags ...string) *terminal.Session {
	t.Helper()
	args := append([]string{"run", "-it", "--name", "box", "--network", "none", "-e", "PS1=box> ", "-v", h.busybox + ":/busybox:ro"}, flags...)
	s := start(t, h.env, h.bin+"/lade", append(args, "lade/toolbox", "/busybox", "sh")...)
	s.See("box> ")
	return s
}

// TestSessionIsThePersons: the terminal's size follows, the detach keys work,
// another terminal takes the session over, and the engine may die meanwhile.
func TestSessionIsThePersons(t *testing.T) {
	h := newHost(t)
	s := h.shell(t)
	before := settings(t, s)
	s.Enter("/busybox stty size\r")
	s.See("24 80")
	s.Resize(33, 101)
	s.Enter("while ! /busybox stty size | grep '33 101'; do :; done; echo saw it\r")
	s.See("saw it\r\n")
	s.Enter("\x10\x11") // ctrl-p ctrl-q
	s.See("detached; 'lade attach")
	if code := s.Exit(); code != 0 {
		t.Errorf("detaching ended with %d", code)
	}
	if got := h.lade(t, "ps", "--format", "{{.Names}}"); got != "box" {
		t.Fatalf("after detaching, ps shows %q", got)
	}
	s = start(t, h.env, h.bin+"/lade", "attach", "box")
	s.Enter("echo again $((40 + 2))\r")
	s.See("again 42")
	if err := endEngine(h.state, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.Enter("echo still $((40 + 3))\r")
	s.See("still 43")
	s.Resize(20, 70) // this starts the next engine
	s.Enter("while ! /busybox stty size | grep '20 70'; do :; done; echo saw that\r")
	s.See("saw that\r\n")
	s.Enter("exit 6\r")
	if code := s.Exit(); code != 6 {
		t.Errorf("exit %d, want the shell's 6", code)
	}
	if cmp.Equal(before, settings(t, s)) {
		t.Error("the test compares nothing: the terminal was never raw")
	}
	h.lade(t, "rm", "box")
}

// TestTerminalIsGivenBack: whatever way lade ends, the terminal is as it was.
func TestTerminalIsGivenBack(t *testing.T) {
	h := newHost(t)
	for _, test := range []struct {
		name string
		args []string
		end  func(s *terminal.Session)
		want int
	}{
		{"the process ends", []string{"/busybox", "sh"}, func(s *terminal.Session) { s.Enter("exit 5\r") }, 5},
		{"the process is killed", []string{"/busybox", "sh"}, func(*terminal.Session) { h.lade(t, "kill", "box") }, 137},
		{"the person detaches", []string{"/busybox", "sh"}, func(s *terminal.Session) { s.Enter("\x10\x11") }, 0},
		{"lade is interrupted three times", []string{"/busybox", "sh", "-c", `trap "echo untouched" INT; echo "box> "; while :; do /busybox sleep 1; done`}, func(s *terminal.Session) {
			// The kernel makes one signal of several that are not taken yet.
			for range 2 {
				s.Signal(syscall.SIGINT)
				s.See("untouched")
			}
			s.Signal(syscall.SIGINT)
		}, 130},
		{"there is no such command", []string{"absent"}, nil, 127},
	} {
		t.Run(test.name, func(t *testing.T) {
			args := []string{"run", "-it", "--name", "box", "--network", "none", "-e", "PS1=box> ", "-v", h.busybox + ":/busybox:ro", "lade/toolbox"}
			s := start(t, h.env, h.bin+"/lade", append(args, test.args...)...)
			if test.end != nil {
				s.See("box> ")
				if settings(t, s).Lflag&unix.ECHO != 0 {
					t.Error("the terminal is not raw in the session")
				}
				test.end(s)
			}
			if code := s.Exit(); code != test.want {
				t.Errorf("exit %d, want %d", code, test.want)
			}
			if got := settings(t, s); got.Lflag&(unix.ECHO|unix.ICANON|unix.ISIG) != unix.ECHO|unix.ICANON|unix.ISIG || got.Oflag&unix.OPOST == 0 {
				t.Errorf("the terminal is left with %+v", got)
			}
			h.lade(t, "rm", "-f", "box")
		})
	}
}
