package command_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/test/kerneltest"
)

// Known ways out of a container, each closed. The names are those under which
// they were published; the same weakness in another runtime, mostly.

// TestRuntimeBinary: CVE-2019-5736. A program in the container that is a
// script for /proc/self/exe must not get hold of the runtime's binary.
func TestRuntimeBinary(t *testing.T) {
	m := newMachine(t, func(c *specs.Spec) { c.Root.Readonly = false })
	before := fileID(t, "/proc/self/exe")
	if err := os.WriteFile(filepath.Join(m.rootfs, "bin/script"), []byte("#!/proc/self/exe\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/proc/self/exe", filepath.Join(m.rootfs, "bin/toexe")); err != nil {
		t.Fatal(err)
	}
	for _, program := range []string{"/bin/script", "script", "/bin/toexe", "/proc/self/exe"} {
		m.args(program)
		out, err := m.run("run", "--bundle", m.bundle, kerneltest.ID(t))
		if err == nil {
			t.Errorf("%s runs: %q", program, out)
		}
	}
	// While exec after exec ends in the interpreter above, a watcher tries to
	// open for writing what each new process executes.
	id := m.background("sh", "-c", `while :; do for p in /proc/[0-9]*; do
		case $(readlink $p/exe) in /bin/busybox|"") ;; *) readlink $p/exe >>/seen; echo owned >>$p/exe && echo $p >>/written;; esac
	done; done 2>/dev/null`)
	for range 50 {
		_, _ = m.run("exec", id, "/bin/script")
	}
	if b, err := os.ReadFile(filepath.Join(m.rootfs, "written")); err == nil {
		t.Errorf("written to: %s", b)
	}
	if after := fileID(t, "/proc/self/exe"); after != before {
		t.Errorf("the runtime's binary was %s, is %s", before, after)
	}
	// What can be seen of the runtime is its sealed image, at most.
	if b, err := os.ReadFile(filepath.Join(m.rootfs, "seen")); err == nil {
		for line := range strings.Lines(string(b)) {
			if !strings.HasPrefix(line, "/memfd:lade-runtime") {
				t.Errorf("the container saw %q", line)
			}
		}
	}
}

func fileID(tb testing.TB, path string) string {
	tb.Helper()
	var s unix.Stat_t
	if err := unix.Stat(path, &s); err != nil {
		tb.Fatal(err)
	}
	return fmt.Sprint(s.Dev, s.Ino, s.Size, s.Mtim)
}

// TestWorkingDirectory: CVE-2024-21626. No descriptor leads out.
func TestWorkingDirectory(t *testing.T) {
	m := newMachine(t, nil)
	for n := range 40 {
		for _, dir := range []string{"/proc/self/fd", "/proc/1/fd"} {
			m.configure(func(c *specs.Spec) {
				c.Process.Args = []string{"sh", "-c", "ls .. | head -n 3"}
				c.Process.Cwd = fmt.Sprintf("%s/%d", dir, n)
			})
			if out, err := m.run("run", "--bundle", m.bundle, kerneltest.ID(t)); err == nil {
				t.Fatalf("%s/%d: runs, and prints %q", dir, n, out)
			}
		}
	}
	m.configure(func(c *specs.Spec) { c.Process.Cwd = "/" })
	id := m.background("sleep", "1000")
	for n := range 40 {
		if out, err := m.run("exec", "--cwd", fmt.Sprintf("/proc/self/fd/%d", n), id, "pwd"); err == nil {
			t.Fatalf("exec in descriptor %d runs, and prints %q", n, out)
		}
	}
}

// TestLinksInRoot: CVE-2023-27561, CVE-2019-19921, CVE-2026-41579. An image's
// links at the places of mounts lead nowhere but inside the root.
func TestLinksInRoot(t *testing.T) {
	canary := t.TempDir()
	refused := map[string]bool{"proc": true, "sys": true}
	for _, name := range []string{"proc", "sys", "dev", "etc"} {
		for _, to := range []string{canary, strings.Repeat("../", 30) + canary, "/tmp"} {
			m := newMachine(t, func(c *specs.Spec) {
				c.Root.Readonly = false
				c.Process.Args = []string{"true"}
				c.Mounts = append(c.Mounts, specs.Mount{Destination: "/etc/below", Type: "tmpfs", Source: "tmpfs"})
				if name == "dev" {
					c.Mounts = c.Mounts[:1] // an image's own /dev
				}
			})
			dir := filepath.Join(m.rootfs, name)
			if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(filepath.Join(m.rootfs, canary), 0o755), os.Symlink(to, dir)); err != nil {
				t.Fatal(err)
			}
			out, err := m.run("run", "--bundle", m.bundle, kerneltest.ID(t))
			if (err != nil) != refused[name] {
				t.Errorf("%s -> %s: %v, %s", name, to, err, out)
			}
			if left, _ := os.ReadDir(canary); len(left) > 0 {
				t.Fatalf("%s -> %s: on the host now: %v", name, to, left)
			}
		}
	}
}

// TestSwappedMountpoint: CVE-2021-30465, CVE-2024-45310. Somebody swaps a
// directory for a link to the host while a mount is made below it.
func TestSwappedMountpoint(t *testing.T) {
	canary, shared := t.TempDir(), t.TempDir()
	m := newMachine(t, func(c *specs.Spec) {
		c.Root.Readonly = false
		c.Process.Args = []string{"true"}
		c.Mounts = append(c.Mounts,
			specs.Mount{Destination: "/shared", Type: "bind", Source: shared, Options: []string{"rbind"}},
			specs.Mount{Destination: "/shared/a/new/place", Type: "tmpfs", Source: "tmpfs"},
		)
	})
	a, b := filepath.Join(shared, "a"), filepath.Join(shared, "b")
	if err := errors.Join(os.Mkdir(a, 0o755), os.Symlink(strings.Repeat("../", 30)+canary, b)); err != nil {
		t.Fatal(err)
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				_ = unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
			}
		}
	}()
	rounds := 100
	if testing.Short() {
		rounds = 10
	}
	for range rounds {
		_, _ = m.run("run", "--bundle", m.bundle, kerneltest.ID(t))
		if left, _ := os.ReadDir(canary); len(left) > 0 {
			t.Fatalf("on the host now: %v", left)
		}
	}
	close(stop)
	<-done
}

// TestMaskedByHostNull: CVE-2025-31133. What masks a path is the host's
// /dev/null, whatever the image has at that place.
func TestMaskedByHostNull(t *testing.T) {
	m := newMachine(t, func(c *specs.Spec) {
		c.Mounts = c.Mounts[:1] // an image's own /dev
		c.Linux.MaskedPaths = []string{"/proc/timer_list"}
	})
	null := filepath.Join(m.rootfs, "dev/null")
	if err := os.Symlink("/proc/sys/kernel/core_pattern", null); err != nil {
		t.Fatal(err)
	}
	if got := m.sh("stat -c '%t:%T' /proc/timer_list"); got != "1:3\n" {
		t.Errorf("masked by %q", got)
	}
}

// TestUsers: CVE-2024-40635, CVE-2026-30892. Numbers that are none.
func TestUsers(t *testing.T) {
	m := newMachine(t, nil)
	id := m.background("sleep", "1000")
	for _, u := range []string{"4294967296", "4294967295", "-1", "0x0", "+0", " 0", "0 ", "00", "1000:", ":0", "1000:4294967295", "1e3", "root", "٣"} {
		if out, err := m.run("exec", "--user", u, id, "id"); code(err) != 255 || strings.Contains(out, "uid=") {
			t.Errorf("--user %q: %q, %v", u, out, err)
		}
	}
}

// TestTerminal takes a terminal over the console socket, for a container and
// for a process in it.
func TestTerminal(t *testing.T) {
	m := newMachine(t, func(c *specs.Spec) {
		c.Process.Terminal = true
		c.Process.ConsoleSize = &specs.Box{Height: 33, Width: 99}
	})
	socket := filepath.Join(t.TempDir(), "console.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	id := kerneltest.ID(t)
	m.args("sh", "-c", "tty; stty size; stat -c %t:%T /dev/console; readlink /proc/self/fd/0; exec sleep 1000")
	m.must("run", "--detach", "--console-socket", socket, "--bundle", m.bundle, id)
	master := acceptMaster(t, l)
	want := "/dev/pts/0\r\n33 99\r\n88:0\r\n/dev/pts/0\r\n"
	if got := readUntil(t, master, len(want)); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	m.must("exec", "--tty", "--detach", "--console-socket", socket, id, "sh", "-c", "tty; exec sleep 1000")
	second := acceptMaster(t, l)
	if got := readUntil(t, second, 12); got != "/dev/pts/1\r\n" {
		t.Errorf("exec: got %q", got)
	}
	// Ctrl-C reaches the processes of the terminal, and no other.
	if _, err := second.Write([]byte{3}); err != nil {
		t.Fatal(err)
	}
	kerneltest.Eventually(t, "the process on the second terminal ends", func() bool {
		return strings.Count(m.must("ps", "--format", "json", id), ",") == 0
	})
	if got := m.status(id); got != "running" {
		t.Errorf("the container is %s", got)
	}
	m.must("delete", "--force", id)
	_, err = m.run("run", "--detach", "--bundle", m.bundle, kerneltest.ID(t))
	if err == nil {
		t.Error("a terminal without a console socket is accepted")
	}
}

func acceptMaster(t *testing.T, l *net.UnixListener) *os.File {
	t.Helper()
	_ = l.SetDeadline(time.Now().Add(5 * time.Second))
	c, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	control := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := c.ReadMsgUnix(make([]byte, 64), control)
	if err != nil {
		t.Fatal(err)
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil || len(messages) != 1 {
		t.Fatalf("%d messages, %v", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		t.Fatal(err)
	}
	_ = unix.SetNonblock(fds[0], true)
	f := os.NewFile(uintptr(fds[0]), "master")
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func readUntil(t *testing.T, f *os.File, n int) string {
	t.Helper()
	_ = f.SetDeadline(time.Now().Add(5 * time.Second))
	var got []byte
	b := make([]byte, 256)
	for len(got) < n {
		k, err := f.Read(b)
		if err != nil {
			t.Logf("read: %v", err)
			break
		}
		got = append(got, b[:k]...)
	}
	return string(got)
}
