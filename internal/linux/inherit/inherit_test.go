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
