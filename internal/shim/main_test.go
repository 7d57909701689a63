package shim_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/linux/pidfd"
	"lade/internal/linux/pty"
	"lade/internal/linux/scm"
	"lade/internal/shim/serve"
	"lade/test/kerneltest"
)

// The test binary plays several parts, by the name that it is run under.
func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case "lade-shim":
		if err := serve.Run(os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	case "fake-runtime":
		os.Exit(fakeRuntime())
	case "engine":
		os.Exit(engine())
	case "hasty":
		os.Exit(hasty())
	}
	kerneltest.Main(m, kerneltest.Options{})
}

// play returns the path under which the test binary plays a part.
func play(tb testing.TB, part string) string {
	tb.Helper()
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	link := filepath.Join(tb.TempDir(), part)
	if err := os.Symlink(self, link); err != nil {
		tb.Fatal(err)
	}
	return link
}

// fake is a run of an OCI runtime that isolates nothing: enough of the command
// line for a shim, without root.
type fake struct {
	root, log, pidFile, console, process, bundle string
	force, slow                                  bool
	words                                        []string // the command and its arguments
}

func fakeRuntime() int {
	f := fake{}
	values := map[string]*string{
		"--root": &f.root, "--log": &f.log, "--log-format": new(string), "--pid-file": &f.pidFile,
		"--console-socket": &f.console, "--process": &f.process, "--bundle": &f.bundle,
	}
	for args := os.Args[1:]; len(args) > 0; args = args[1:] {
		if v := values[args[0]]; v != nil {
			*v, args = args[1], args[1:]
		} else if args[0] == "--force" {
			f.force = true
		} else if args[0] == "--slow-kill" {
			f.slow = true
		} else if !strings.HasPrefix(args[0], "--") {
			f.words = append(f.words, args[0])
		}
	}
	if f.words[0] == "init" {
		return f.init()
	}
	if err := f.run(); err != nil {
		line, _ := json.Marshal(map[string]string{"level": "error", "msg": err.Error(), "time": "now"})
		out, err := os.OpenFile(f.log, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
		if err == nil {
			_, _ = out.Write(append(line, '\n'))
			_ = out.Close()
		}
		return 1
	}
	return 0
}

func (f *fake) state(id string) string { return filepath.Join(f.root, id) }

func (f *fake) run() error {
	id := f.words[1]
	dir := f.state(id)
	switch f.words[0] {
	case "create", "run":
		if err := os.MkdirAll(f.root, 0o700); err != nil {
			return err
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
		var spec specs.Spec
		if err := readJSON(filepath.Join(f.bundle, "config.json"), &spec); err != nil {
			return err
		}
		gate := ""
		if f.words[0] == "create" {
			gate = filepath.Join(dir, "gate")
			if err := syscall.Mkfifo(gate, 0o600); err != nil {
				return err
			}
		}
		pid, err := f.spawn(*spec.Process, gate)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, "pid"), []byte(strconv.Itoa(pid)), 0o600)
	case "exec":
		var p specs.Process
		if err := readJSON(f.process, &p); err != nil {
			return err
		}
		_, err := f.spawn(p, "")
		return err
	case "start":
		return os.WriteFile(filepath.Join(dir, "gate"), []byte("x"), 0)
	case "kill":
		sig, _ := strconv.Atoi(f.words[2])
		return f.kill(dir, syscall.Signal(sig))
	case "delete":
		if f.force {
			_ = f.kill(dir, syscall.SIGKILL)
		}
		if _, err := os.Stat(dir); err != nil {
			return fmt.Errorf("container %s does not exist", id)
		}
		return os.RemoveAll(dir)
	}
	return fmt.Errorf("no command %s", f.words[0])
}

func (f *fake) kill(dir string, sig syscall.Signal) error {
	b, err := os.ReadFile(filepath.Join(dir, "pid"))
	if err != nil {
		return err
	}
	pid, _ := strconv.Atoi(string(b))
	fd, err := pidfd.Open(pid)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err = pidfd.Signal(fd, sig); err == nil && f.slow {
		err = await(fd, unix.POLLHUP)
	}
	return err
}

// await waits for an event of a process: POLLIN, it has ended; POLLHUP, its
// parent has taken note, too (since Linux 6.9).
func await(fd int, event int16) error {
	p := []unix.PollFd{{Fd: int32(fd), Events: event}}
	n, err := unix.Poll(p, int(kerneltest.Patience.Milliseconds()))
	if err == nil && (n != 1 || p[0].Revents&event == 0) {
		err = fmt.Errorf("a process's event %#x does not come: %#x", event, p[0].Revents)
	}
	return err
}

// spawn starts a process with our standard streams, or with a terminal. With a
// gate, it waits there first.
func (f *fake) spawn(p specs.Process, gate string) (int, error) {
	path, err := exec.LookPath(p.Args[0])
	if err != nil {
		return 0, fmt.Errorf("exec: %q: executable file not found in $PATH", p.Args[0])
	}
	files := []*os.File{os.Stdin, os.Stdout, os.Stderr}
	attr := &syscall.SysProcAttr{Setsid: true}
	if p.Terminal {
		master, slave, err := pty.Open()
		if err != nil {
			return 0, err
		}
		if p.ConsoleSize != nil {
			if err := pty.SetSize(int(master.Fd()), uint16(p.ConsoleSize.Width), uint16(p.ConsoleSize.Height)); err != nil {
				return 0, err
			}
		}
		conn, err := scm.Dial(f.console)
		if err != nil {
			return 0, err
		}
		if _, err := scm.Send(conn, []byte("/dev/ptmx"), int(master.Fd())); err != nil {
			return 0, err
		}
		files = []*os.File{slave, slave, slave}
		attr.Setctty = true
	}
	argv := p.Args
	if gate != "" {
		path = "/proc/self/exe"
		argv = append([]string{os.Args[0], "init", gate}, p.Args...)
	}
	c, err := os.StartProcess(path, argv, &os.ProcAttr{Env: append(p.Env, "PATH="+os.Getenv("PATH")), Files: files, Sys: attr})
	if err != nil {
		return 0, err
	}
	return c.Pid, os.WriteFile(f.pidFile, []byte(strconv.Itoa(c.Pid)), 0o600)
}

func (f *fake) init() int {
	if _, err := os.ReadFile(f.words[1]); err != nil {
		return 125
	}
	i := slices.Index(os.Args, f.words[1])
	args := os.Args[i+1:]
	path, _ := exec.LookPath(args[0])
	_ = syscall.Exec(path, args, os.Environ())
	return 126
}

func readJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}
