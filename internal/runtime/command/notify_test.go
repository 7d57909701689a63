package command_test

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/linux/scm"
	"lade/test/kerneltest"
)

// agent answers the system calls that a filter asks it about.
type agent struct {
	path string
	said chan specs.ContainerProcessState // one for each listener that it is handed
}

// seccompNotification and seccompResponse are struct seccomp_notif and
// struct seccomp_notif_resp.
type seccompNotification struct {
	id         uint64
	pid, flags uint32
	nr         int32
	arch       uint32
	ip         uint64
	args       [6]uint64
}

type seccompResponse struct {
	id    uint64
	val   int64
	errno int32
	flags uint32
}

const (
	notifyRecv = 0xc0502100 // SECCOMP_IOCTL_NOTIF_RECV
	notifySend = 0xc0182101 // SECCOMP_IOCTL_NOTIF_SEND
)

// newAgent starts an agent that fails every call with errno.
func newAgent(t *testing.T, errno unix.Errno) *agent {
	t.Helper()
	a := &agent{path: filepath.Join(t.TempDir(), "agent"), said: make(chan specs.ContainerProcessState, 8)}
	lis, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(unix.Bind(lis, &unix.SockaddrUnix{Name: a.path}), unix.Listen(lis, 8)); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, _, err := unix.Accept4(lis, unix.SOCK_CLOEXEC)
			if err != nil {
				return
			}
			b := make([]byte, 1<<16)
			n, fds, err := scm.Recv(conn, b)
			_ = unix.Close(conn)
			var s specs.ContainerProcessState
			if err != nil || len(fds) != 1 || json.Unmarshal(b[:n], &s) != nil {
				t.Errorf("the agent got %q, %d descriptors, %v", b[:n], len(fds), err)
				continue
			}
			a.said <- s
			go answer(fds[0], errno)
		}
	}()
	t.Cleanup(func() {
		_ = unix.Shutdown(lis, unix.SHUT_RDWR)
		<-done
		_ = unix.Close(lis)
	})
	return a
}

// answer serves one listener until nobody is left who could ask.
func answer(fd int, errno unix.Errno) {
	defer unix.Close(fd)
	for {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(poll, -1); err != nil && !errors.Is(err, unix.EINTR) || poll[0].Revents&unix.POLLHUP != 0 {
			return
		}
		var ask seccompNotification
		if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), notifyRecv, uintptr(unsafe.Pointer(&ask))); e != 0 {
			continue
		}
		reply := seccompResponse{id: ask.id, errno: -int32(errno)}
		_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(fd), notifySend, uintptr(unsafe.Pointer(&reply)))
	}
}

// TestNotify: the agent at listenerPath hears of the container before it is
// started, and of each process that enters it, and decides on their calls.
func TestNotify(t *testing.T) {
	for _, privileges := range []bool{true, false} {
		a := newAgent(t, unix.ENOANO)
		m := newMachine(t, func(c *specs.Spec) {
			c.Root.Readonly = false
			c.Process.NoNewPrivileges = !privileges
			c.Annotations = map[string]string{"com.example.key": "value"}
			c.Linux.Seccomp = &specs.LinuxSeccomp{
				DefaultAction: specs.ActAllow, ListenerPath: a.path, ListenerMetadata: "mine",
				Flags: []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagWaitKillableRecv},
				Syscalls: []specs.LinuxSyscall{{
					// What the runtime's own last steps use can be asked about, too.
					Names: []string{"chmod", "fchmodat", "fchmodat2"}, Action: specs.ActNotify,
				}},
			}
			c.Process.Args = []string{"/bin/sh", "-c", "chmod 700 /tmp 2>&1; sleep 1000"}
		})
		const said = "chmod: /tmp: No anode\n"
		id := m.background("/bin/sh", "-c", "sleep 1000")
		s := <-a.said
		if s.State.ID != id || s.State.Status != specs.StateCreating || s.Pid == 0 || s.Pid != s.State.Pid ||
			s.Metadata != "mine" || len(s.Fds) != 1 || s.Fds[0] != specs.SeccompFdName || s.State.Annotations["com.example.key"] != "value" || s.State.Bundle != m.bundle {
			t.Errorf("the agent is told %+v", s)
		}
		out, err := m.run("exec", id, "chmod", "700", "/tmp")
		if code(err) != 1 || out != said {
			t.Errorf("exec: got %q, %v", out, err)
		}
		if e := <-a.said; e.State.Status != specs.StateRunning || e.State.Pid != s.Pid || e.Pid == s.Pid || e.Pid == 0 {
			t.Errorf("of an exec the agent is told %+v", e)
		}
		if got := m.must("exec", id, "sh", "-c", "ls /proc/self/fd | wc -l"); got != "4\n" {
			t.Errorf("descriptors: %q", got)
		}
		m.configure(func(c *specs.Spec) { c.Linux.CgroupsPath += "-2" })
		m.args("/bin/sh", "-c", "chmod 700 /tmp 2>&1")
		if out, err := m.run("run", "--bundle", m.bundle, kerneltest.ID(t)); code(err) != 1 || out != said {
			t.Errorf("run: got %q, %v", out, err)
		}
	}
}

// TestNotifyNobody: without an agent there is no container, and nothing left.
func TestNotifyNobody(t *testing.T) {
	m := newMachine(t, func(c *specs.Spec) {
		c.Linux.Seccomp = &specs.LinuxSeccomp{
			DefaultAction: specs.ActAllow, ListenerPath: "/nosuch/agent",
			Syscalls: []specs.LinuxSyscall{{Names: []string{"chmod"}, Action: specs.ActNotify}},
		}
	})
	m.args("true")
	out, err := m.run("run", "--bundle", m.bundle, kerneltest.ID(t))
	if code(err) != 1 || !strings.Contains(out, "hand the seccomp listener to /nosuch/agent") || !strings.Contains(out, "no such file") {
		t.Errorf("got %q, %v", out, err)
	}
}
