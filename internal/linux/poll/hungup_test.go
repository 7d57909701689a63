package poll

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestHungUp(t *testing.T) {
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(p[0]), "here")
	defer f.Close()
	if HungUp(f) {
		t.Error("a fresh connection is hung up")
	}
	if err := unix.Shutdown(p[1], unix.SHUT_WR); err != nil {
		t.Fatal(err)
	}
	if HungUp(f) {
		t.Error("a peer that only reads is hung up")
	}
	unix.Close(p[1])
	if !HungUp(f) {
		t.Error("a peer that left is not hung up")
	}
}
