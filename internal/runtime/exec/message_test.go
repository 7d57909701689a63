package exec

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestLastWords: a child that ends with something unread resets the connection.
// What it had said before is heard nevertheless.
func TestLastWords(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, child := fds[0], fds[1]
	defer unix.Close(ours)
	if _, err := unix.Write(ours, []byte("go")); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Write(child, []byte{Ready}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Close(child); err != nil {
		t.Fatal(err)
	}
	for _, want := range []byte{Ready, 0, 0} {
		if m, err := receive(ours); m.kind != want || err != nil {
			t.Errorf("got %q, %v; want %q", m.kind, err, want)
		}
	}
}
