package scm

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"lade/test/kerneltest"
)

func TestMain(m *testing.M) { kerneltest.Main(m, kerneltest.Options{}) }

func pair(t *testing.T) (a, b int) {
	t.Helper()
	a, b, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { CloseAll([]int{a, b}) })
	return a, b
}

func TestFilesTravel(t *testing.T) {
	a, b := pair(t)
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd := int(f.Fd())
	if n, err := Send(a, []byte("two"), fd, fd); n != 3 || err != nil {
		t.Fatal(n, err)
	}
	if n, err := Send(a, []byte("none")); n != 4 || err != nil {
		t.Fatal(n, err)
	}
	buf := make([]byte, 100)
	n, files, err := Recv(b, buf)
	if err != nil || string(buf[:n]) != "two" || len(files) != 2 {
		t.Fatalf("%q, files %v, %v", buf[:n], files, err)
	}
	for _, f := range files {
		if flags, err := unix.FcntlInt(uintptr(f), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("flags %x, %v", flags, err)
		}
	}
	CloseAll(files)
	if n, files, err = Recv(b, buf); err != nil || string(buf[:n]) != "none" || files != nil {
		t.Errorf("%q, files %v, %v", buf[:n], files, err)
	}
	_ = unix.Shutdown(a, unix.SHUT_WR)
	if n, _, err := Recv(b, buf); n != 0 || err != nil {
		t.Errorf("at the end: %d, %v", n, err)
	}
}

// More files than fit are refused, and none of them stays open.
func TestTooManyFiles(t *testing.T) {
	a, b := pair(t)
	fds := make([]int, MaxFiles+3)
	for i := range fds {
		fds[i] = a
	}
	if _, err := Send(a, []byte("x"), fds...); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Recv(b, make([]byte, 1)); !errors.Is(err, ErrTruncated) {
		t.Errorf("error %v", err)
	}
}

func TestSendToNobody(t *testing.T) {
	a, b, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer CloseAll([]int{a})
	CloseAll([]int{b})
	if _, err := Send(a, []byte("x")); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("error %v", err)
	}
}

func TestListenDial(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 40))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	if _, err := Dial(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing there: %v", err)
	}
	t.Chdir(dir)
	l, err := Listen("s")
	if err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
	if _, err := Accept(l); !errors.Is(err, syscall.EAGAIN) {
		t.Errorf("nobody waits: %v", err)
	}
	c, err := Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Accept(l)
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range []int{c, s} {
		if cred, err := Peer(fd); err != nil || cred.PID != os.Getpid() || cred.UID != os.Getuid() {
			t.Errorf("peer %+v, %v", cred, err)
		}
	}
	CloseAll([]int{c, s, l})
	if _, err := Dial(path); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("nobody listens: %v", err)
	}
	if l, err = Listen("s"); err != nil {
		t.Errorf("over an old socket: %v", err)
	}
	CloseAll([]int{l})
}
