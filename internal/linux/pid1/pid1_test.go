package pid1

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"lade/test/kerneltest"
)

// The test binary is the init: with this variable set it behaves as lade-init.
const asInit = "LADE_TEST_PID1"

func TestMain(m *testing.M) {
	if os.Getenv(asInit) == "" {
		os.Exit(m.Run())
	}
	// Orphans come to a subreaper as they come to the first process of a
	// namespace.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code, err := Run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	c := kerneltest.Command(t, os.Args[0], args...)
	c.Env = append(os.Environ(), asInit+"=1")
	return c
}

func TestExitCodes(t *testing.T) {
	for _, tt := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"true"}, 0, ""},
		{[]string{"sh", "-c", "exit 42"}, 42, ""},
		{[]string{"sh", "-c", "kill -KILL $$"}, 137, ""},
		{[]string{"no-such-program"}, NotFound, "not found"},
		{[]string{"/no/such/path"}, NotFound, "no such file"},
		{[]string{"/etc/passwd"}, NotExecutable, "permission denied"},
		{nil, NotFound, "usage"},
	} {
		c := command(t, tt.args...)
		var errs bytes.Buffer
		c.Stderr = &errs
		_ = c.Run()
		if got := c.ProcessState.ExitCode(); got != tt.code || !strings.Contains(errs.String(), tt.says) {
			t.Errorf("%q: exit %d, want %d and a message with %q; it says %q", tt.args, got, tt.code, tt.says, errs.String())
		}
	}
}

func TestPassesSignals(t *testing.T) {
	c := command(t, "bash", "-c", "trap 'echo got USR1' USR1; trap 'echo got TERM; exit 7' TERM; echo ready; while :; do read -t 1 <> <(:); done")
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for _, step := range []struct {
		want string
		send syscall.Signal
	}{{"ready", unix.SIGUSR1}, {"got USR1", unix.SIGTERM}, {"got TERM", 0}} {
		if !lines.Scan() || lines.Text() != step.want {
			t.Fatalf("got %q, want %q", lines.Text(), step.want)
		}
		if step.send != 0 {
			_ = c.Process.Signal(step.send)
		}
	}
	_ = c.Wait()
	if got := c.ProcessState.ExitCode(); got != 7 {
		t.Errorf("exit %d, want 7", got)
	}
}

// TestReapsOrphans leaves an orphan that ends at once, and looks for a zombie.
func TestReapsOrphans(t *testing.T) {
	script := `(sh -c 'echo $PPID; exit' &) ; (true &) ; i=0
while grep -qs "^State:.Z" $(grep -ls "^PPid:.$PPID\$" /proc/[0-9]*/status); do i=$((i+1)); [ $i -lt 1000 ] || { echo zombies; exit 1; }; done; echo clean`
	out, err := command(t, "sh", "-c", script).CombinedOutput()
	if err != nil || !strings.HasSuffix(strings.TrimSpace(string(out)), "clean") {
		t.Errorf("%v: %s", err, out)
	}
}
