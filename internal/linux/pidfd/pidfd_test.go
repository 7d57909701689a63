package pidfd

import (
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"lade/test/kerneltest"
)

func TestMain(m *testing.M) { kerneltest.Main(m, kerneltest.Options{}) }

func spawn(t *testing.T, script string) (pid, fd int) {
	t.Helper()
	pid, err := syscall.ForkExec("/bin/sh", []string{"sh", "-c", script}, &syscall.ProcAttr{Env: os.Environ()})
	if err != nil {
		t.Fatal(err)
	}
	if fd, err = OpenNonblock(pid); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	return pid, fd
}

// end waits for the process without reaping it.
func end(t *testing.T, fd int) Status {
	t.Helper()
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	if n, err := unix.Poll(p, int(kerneltest.Patience.Milliseconds())); n != 1 || err != nil {
		t.Fatalf("the process does not end: %d, %v", n, err)
	}
	if over, err := Ended(fd); !over || err != nil {
		t.Fatalf("ended: %v, %v", over, err)
	}
	st, ok, err := Peek(fd)
	if err != nil || !ok {
		t.Fatalf("peek: %v, %v", ok, err)
	}
	return st
}

func TestStatus(t *testing.T) {
	for _, tt := range []struct {
		script string
		want   Status
	}{
		{"exit 0", Status{}},
		{"exit 255", Status{Code: 255}},
		{"kill -15 $$", Status{Signal: syscall.SIGTERM}},
	} {
		pid, fd := spawn(t, tt.script)
		tt.want.PID = pid
		if st := end(t, fd); st != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.script, st, tt.want)
		}
		if st, ok, err := PeekAny(); err != nil || !ok || st != tt.want {
			t.Errorf("%s: any: %+v, %v, %v", tt.script, st, ok, err)
		}
		if st, ok, err := Reap(pid); err != nil || !ok || st != tt.want {
			t.Errorf("%s: reap: %+v, %v, %v", tt.script, st, ok, err)
		}
		if _, ok, err := Peek(fd); err == nil {
			t.Errorf("%s: peek after reaping: %v", tt.script, ok)
		}
		if _, ok, err := PeekAny(); ok || err != nil {
			t.Errorf("%s: any, without children: %v, %v", tt.script, ok, err)
		}
	}
}

func TestRunning(t *testing.T) {
	pid, fd := spawn(t, "exec sleep 1000")
	if over, err := Ended(fd); over || err != nil {
		t.Errorf("ended: %v, %v", over, err)
	}
	if _, ok, err := Peek(fd); ok || err != nil {
		t.Errorf("peek: %v, %v", ok, err)
	}
	if _, ok, err := Reap(pid); ok || err != nil {
		t.Errorf("reap: %v, %v", ok, err)
	}
	if err := Signal(fd, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if st := end(t, fd); st.Signal != syscall.SIGKILL {
		t.Errorf("status %+v", st)
	}
	_, _, _ = Reap(pid)
	if err := Signal(fd, syscall.SIGKILL); err == nil {
		t.Error("a signal reached a process that is gone")
	}
}
