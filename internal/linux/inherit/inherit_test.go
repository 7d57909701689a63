package inherit

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestNothing(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd := f.Fd()
	if _, err := unix.FcntlInt(fd, unix.F_SETFD, 0); err != nil {
		t.Fatal(err)
	}
	if err := Nothing(int(fd) + 1); err != nil {
		t.Fatal(err)
	}
	if flags, _ := unix.FcntlInt(fd, unix.F_GETFD, 0); flags != 0 {
		t.Error("a descriptor below the first was marked")
	}
	if err := Nothing(int(fd)); err != nil {
		t.Fatal(err)
	}
	if flags, _ := unix.FcntlInt(fd, unix.F_GETFD, 0); flags&unix.FD_CLOEXEC == 0 {
		t.Error("the descriptor would be inherited")
	}
}

func TestDiscard(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	old, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD, 200) // as if inherited
	if err != nil {
		t.Fatal(err)
	}
	ours, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 200)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(ours)
	if err := Discard(200); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.FcntlInt(uintptr(old), unix.F_GETFD, 0); err == nil {
		t.Error("what was inherited is still open")
	}
	if _, err := unix.FcntlInt(uintptr(ours), unix.F_GETFD, 0); err != nil {
		t.Errorf("what is ours was closed: %v", err)
	}
}
