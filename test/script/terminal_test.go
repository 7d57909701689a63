package script

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"lade/test/kerneltest"
)

// session is lade on a terminal of its own, as a person has it.
type session struct {
	t             *testing.T
	master, slave *os.File
	cmd           *exec.Cmd
	output        chan string
	seen          string
}

// start runs lade on a terminal of 24 by 80.
func start(t *testing.T, env []string, program string, args ...string) *session {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var n uint32
	err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	if err == nil {
		n, err = unix.IoctlGetUint32(int(master.Fd()), unix.TIOCGPTN)
	}
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	s := &session{t: t, master: master, slave: slave, output: make(chan string, 64)}
	s.resize(24, 80)
	s.cmd = exec.CommandContext(t.Context(), program, args...)
	s.cmd.Env = env
	s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = slave, slave, slave
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(s.output)
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			if err != nil {
				return
			}
			s.output <- string(buf[:n])
		}
	}()
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		_ = slave.Close()
		_ = master.Close()
		for range s.output {
			// Until the reader has ended.
		}
	})
	return s
}

func (s *session) resize(rows, columns uint16) {
	s.t.Helper()
	if err := unix.IoctlSetWinsize(int(s.master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *session) settings() unix.Termios {
	s.t.Helper()
	settings, err := unix.IoctlGetTermios(int(s.slave.Fd()), unix.TCGETS)
	if err != nil {
		s.t.Fatal(err)
	}
	return *settings
}

func (s *session) enter(text string) {
	s.t.Helper()
	if _, err := s.master.WriteString(text); err != nil {
		s.t.Fatal(err)
	}
}

// see waits until the terminal shows text.
func (s *session) see(text string) {
	s.t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		if _, rest, ok := strings.Cut(s.seen, text); ok {
			s.seen = rest
			return
		}
		select {
		case more, open := <-s.output:
			if !open {
				s.t.Fatalf("the terminal closed before %q; it shows %q", text, s.seen)
			}
			s.seen += more
		case <-timeout:
			s.t.Fatalf("no %q on the terminal; it shows %q", text, s.seen)
		}
	}
}

func (s *session) exit() int {
	_ = s.cmd.Wait()
	return s.cmd.ProcessState.ExitCode()
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
func (h host) shell(t *testing.T, flags ...string) *session {
	t.Helper()
	args := append([]string{"run", "-it", "--name", "box", "--network", "none", "-e", "PS1=box> ", "-v", h.busybox + ":/busybox:ro"}, flags...)
	s := start(t, h.env, h.bin+"/lade", append(args, "lade/toolbox", "/busybox", "sh")...)
	s.see("box> ")
	return s
}

// TestSessionIsThePersons: the terminal's size follows, the detach keys work,
// another terminal takes the session over, and the engine may die meanwhile.
func TestSessionIsThePersons(t *testing.T) {
	h := newHost(t)
	s := h.shell(t)
	before := s.settings()
	s.enter("/busybox stty size\r")
	s.see("24 80")
	s.resize(33, 101)
	s.enter("while ! /busybox stty size | grep '33 101'; do :; done; echo saw it\r")
	s.see("saw it\r\n")
	s.enter("\x10\x11") // ctrl-p ctrl-q
	s.see("detached; 'lade attach")
	if code := s.exit(); code != 0 {
		t.Errorf("detaching ended with %d", code)
	}
	if got := h.lade(t, "ps", "--format", "{{.Names}}"); got != "box" {
		t.Fatalf("after detaching, ps shows %q", got)
	}
	s = start(t, h.env, h.bin+"/lade", "attach", "box")
	s.enter("echo again $((40 + 2))\r")
	s.see("again 42")
	if err := endEngine(h.state, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.enter("echo still $((40 + 3))\r")
	s.see("still 43")
	s.resize(20, 70) // this starts the next engine
	s.enter("while ! /busybox stty size | grep '20 70'; do :; done; echo saw that\r")
	s.see("saw that\r\n")
	s.enter("exit 6\r")
	if code := s.exit(); code != 6 {
		t.Errorf("exit %d, want the shell's 6", code)
	}
	if cmp.Equal(before, s.settings()) {
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
		end  func(s *session)
		want int
	}{
		{"the process ends", []string{"/busybox", "sh"}, func(s *session) { s.enter("exit 5\r") }, 5},
		{"the process is killed", []string{"/busybox", "sh"}, func(*session) { h.lade(t, "kill", "box") }, 137},
		{"the person detaches", []string{"/busybox", "sh"}, func(s *session) { s.enter("\x10\x11") }, 0},
		{"lade is interrupted three times", []string{"/busybox", "sh", "-c", `trap "" INT; echo "box> "; while :; do /busybox sleep 1; done`}, func(s *session) {
			// The kernel makes one signal of several that are not taken yet.
			for range 3 {
				_ = s.cmd.Process.Signal(syscall.SIGINT)
				<-time.After(200 * time.Millisecond)
			}
		}, 130},
		{"there is no such command", []string{"absent"}, nil, 127},
	} {
		t.Run(test.name, func(t *testing.T) {
			args := []string{"run", "-it", "--name", "box", "--network", "none", "-e", "PS1=box> ", "-v", h.busybox + ":/busybox:ro", "lade/toolbox"}
			s := start(t, h.env, h.bin+"/lade", append(args, test.args...)...)
			if test.end != nil {
				s.see("box> ")
				if s.settings().Lflag&unix.ECHO != 0 {
					t.Error("the terminal is not raw in the session")
				}
				test.end(s)
			}
			if code := s.exit(); code != test.want {
				t.Errorf("exit %d, want %d", code, test.want)
			}
			if got := s.settings(); got.Lflag&(unix.ECHO|unix.ICANON|unix.ISIG) != unix.ECHO|unix.ICANON|unix.ISIG || got.Oflag&unix.OPOST == 0 {
				t.Errorf("the terminal is left with %+v", got)
			}
			h.lade(t, "rm", "-f", "box")
		})
	}
}
