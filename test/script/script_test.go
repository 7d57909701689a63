// Package script tests the command line as people use it: each file in testdata
// is a script (txtar) that runs the real programs with an engine of its own,
// which lade starts when it needs one.
//
// Besides testscript's own commands there are
//
//	lade ARGS...            run lade; with ! it must fail
//	exits N CMD ARGS...     run a command, which must end with exit status N
//	retry PATTERN CMD...    run a command until it succeeds and its output matches, for 20 seconds
//	registry [FILE]         start Debian's registry, and set $REGISTRY; FILE has its users (htpasswd)
//	engine kill|stop|pid    send SIGKILL or SIGTERM to the engine and wait for its end, or set $ENGINE_PID
//
// and the conditions [root], [engine] and [kernel:6.12].
package script

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"lade/test/kerneltest"
)

func TestMain(m *testing.M) { kerneltest.Main(m, kerneltest.Options{}) }

func TestScripts(t *testing.T) {
	bin := programs(t)
	testscript.RunT(inTurn{t}, testscript.Params{
		Dir:                "testdata",
		Setup:              func(env *testscript.Env) error { return setup(env, bin) },
		Condition:          condition,
		RequireUniqueNames: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"lade": lade, "exits": exits, "retry": retry, "engine": engine, "registry": registry,
		},
	})
}

// inTurn runs one script after the other: their engines share the machine's one
// bridge.
type inTurn struct{ *testing.T }

// Parallel does nothing.
func (inTurn) Parallel() {}

// Run runs a script.
func (t inTurn) Run(name string, f func(testscript.T)) {
	t.T.Run(name, func(t *testing.T) { f(inTurn{t}) })
}

// Verbose reports whether the tests say what they do.
func (inTurn) Verbose() bool { return testing.Verbose() }

// programs returns the directory that holds Lade's programs: LADE_TEST_BIN, or
// one that is built for this test.
func programs(t *testing.T) string {
	t.Helper()
	if d := os.Getenv("LADE_TEST_BIN"); d != "" {
		return d
	}
	d := t.TempDir()
	c := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", d+"/", "lade/cmd/...")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return d
}

// setup gives a script its own engine's directories, and takes the engine away
// at its end.
func setup(env *testscript.Env, bin string) error {
	dir, err := os.MkdirTemp("", "lade") // a work directory's path is too long for a Unix socket's 108 bytes
	if err != nil {
		return err
	}
	env.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	env.Setenv("BIN", bin)
	env.Setenv("LADE_DATA_ROOT", dir+"/d")
	env.Setenv("LADE_STATE_DIR", dir+"/s")
	env.Setenv("LADE_HOST", "")
	for name, file := range limitFiles() {
		env.Setenv(name, file)
	}
	env.Defer(func() {
		if enginePID(dir+"/s") > 0 {
			c := exec.Command("sh", "-c", bin+"/lade rm -f $("+bin+"/lade ps -aq) >/dev/null")
			c.Env = append(os.Environ(), "LADE_DATA_ROOT="+dir+"/d", "LADE_STATE_DIR="+dir+"/s", "LADE_HOST=")
			_ = c.Run()
		}
		if err := endEngine(dir+"/s", unix.SIGTERM); err != nil {
			env.T().Log(err)
		}
		if env.T().(interface{ Failed() bool }).Failed() {
			log, _ := os.ReadFile(dir + "/s/laded.log")
			env.T().Log("laded.log:\n" + string(log))
		}
		_ = os.RemoveAll(dir)
	})
	return nil
}

// limitFiles says where a container finds its limits in /sys/fs/cgroup, and in
// CGROUP which version this is.
func limitFiles() map[string]string {
	if _, err := os.Stat("/sys/fs/cgroup/memory"); err == nil {
		return map[string]string{
			"CGROUP": "v1", "MEMORY": "memory/memory.limit_in_bytes", "RESERVATION": "memory/memory.soft_limit_in_bytes",
			"PIDS": "pids/pids.max", "CPU": "cpu/cpu.cfs_quota_us", "CPUSET": "cpuset/cpuset.cpus",
		}
	}
	return map[string]string{
		"CGROUP": "v2", "MEMORY": "memory.max", "RESERVATION": "memory.low", "PIDS": "pids.max", "CPU": "cpu.max", "CPUSET": "cpuset.cpus",
	}
}

func condition(cond string) (bool, error) {
	name, version, _ := strings.Cut(cond, ":")
	switch name {
	case "root":
		return os.Geteuid() == 0, nil
	case "engine":
		files, err := filepath.Glob("../../cmd/laded/*.go")
		return len(files) > 0, err
	case "kernel":
		return atLeast(version)
	}
	return false, fmt.Errorf("unknown condition %q", cond)
}

func atLeast(version string) (bool, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return false, err
	}
	var have, want [2]int
	if _, err := fmt.Sscanf(string(bytes.TrimRight(u.Release[:], "\x00")), "%d.%d", &have[0], &have[1]); err != nil {
		return false, err
	}
	if _, err := fmt.Sscanf(version, "%d.%d", &want[0], &want[1]); err != nil {
		return false, err
	}
	return have[0] > want[0] || have[0] == want[0] && have[1] >= want[1], nil
}

func lade(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec("lade", args...)
	if (err != nil) != neg {
		ts.Fatalf("lade %q: %v", args, err)
	}
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits N COMMAND [ARG...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		e, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = e.ExitCode()
	}
	if got != want {
		ts.Fatalf("%q ended with %d, want %d", args[1:], got, want)
	}
}

// retry is for what happens in its own time: another process writes a line, a
// container comes up. There is no event to wait for from the outside.
func retry(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: retry PATTERN COMMAND [ARG...]")
	}
	pattern := regexp.MustCompile(`(?m)` + args[0])
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if ts.Exec(args[1], args[2:]...) == nil && pattern.MatchString(ts.ReadFile("stdout")+ts.ReadFile("stderr")) {
			return
		}
		select {
		case <-deadline:
			ts.Fatalf("%q did not print %q within 20 seconds", args[1:], args[0])
		case <-tick.C:
		}
	}
}

func engine(ts *testscript.TestScript, neg bool, args []string) {
	state := ts.Getenv("LADE_STATE_DIR")
	pid := enginePID(state)
	switch {
	case neg || len(args) != 1:
		ts.Fatalf("usage: engine kill|stop|pid")
	case pid == 0:
		ts.Fatalf("no engine runs")
	case args[0] == "pid":
		ts.Setenv("ENGINE_PID", strconv.Itoa(pid))
	case args[0] == "kill":
		ts.Check(endEngine(state, unix.SIGKILL))
	case args[0] == "stop":
		ts.Check(endEngine(state, unix.SIGTERM))
	}
}

// enginePID asks the kernel who listens on the engine's socket.
func enginePID(state string) int {
	conn, err := net.Dial("unix", state+"/lade.sock")
	if err != nil {
		return 0
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0
	}
	pid := 0
	_ = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	})
	return pid
}

// endEngine sends a signal to the engine and waits until it is gone.
func endEngine(state string, sig unix.Signal) error {
	pid := enginePID(state)
	if pid == 0 {
		return nil
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("open process %d: %w", pid, err)
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil {
		return fmt.Errorf("signal process %d: %w", pid, err)
	}
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 20_000)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		case n == 0:
			return errors.New("the engine does not end")
		default:
			return nil
		}
	}
}
