package exec_test

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"lade/internal/runtime/exec"
	"lade/internal/runtime/program"
)

func clone(flags uint64) program.Step {
	return program.Step{Call: "clone3", Args: []program.Arg{program.Int(flags)}}
}

func execve(argv ...string) program.Step {
	return program.Step{Call: "execve", Args: []program.Arg{program.String(argv[0]), program.Strings(argv), program.Strings(os.Environ())}}
}

func run(t *testing.T, p *program.Program) (syscall.WaitStatus, error) {
	t.Helper()
	c, err := exec.Start(p, exec.Options{})
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if err := c.Executed(); err != nil {
		c.Kill()
		return 0, err
	}
	return c.Wait()
}

func executing() program.Step {
	return program.Step{Call: "write", Args: []program.Arg{program.FD(program.Report), program.Bytes([]byte{exec.Executing}, "executing"), program.Int(1)}}
}

func cloexec() program.Step {
	return program.Step{Call: "close_range", Args: []program.Arg{program.Int(3), program.Int(^uint32(0)), program.Int(4)}}
}

func TestExecutes(t *testing.T) {
	status, err := run(t, &program.Program{Name: "t", Clone: clone(0), Child: []program.Step{
		executing(), cloexec(), execve("/bin/sh", "-c", "exit 7"),
	}})
	if err != nil || status.ExitStatus() != 7 {
		t.Fatalf("got status %#x, %v", status, err)
	}
}

func TestReportsTheStep(t *testing.T) {
	_, err := run(t, &program.Program{Name: "t", Clone: clone(0), Child: []program.Step{
		{Call: "chdir", Args: []program.Arg{program.String("/nowhere")}, Tolerate: []syscall.Errno{syscall.ENOENT}, Why: "tolerated"},
		{Call: "chdir", Args: []program.Arg{program.String("/nope")}, Why: "process.cwd"},
		execve("/bin/true"),
	}})
	e, ok := errors.AsType[*exec.StepError](err)
	if !ok || e.Errno != syscall.ENOENT || !strings.Contains(err.Error(), `chdir("/nope"): no such file or directory (process.cwd)`) {
		t.Fatalf("got %v", err)
	}
}
