package command_test

import (
	"os"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// TestStreams: a user who is not root can open its own streams again, and a
// device of the machine that is one of them keeps its owner.
func TestStreams(t *testing.T) {
	m := newMachine(t, func(c *specs.Spec) { c.Process.User = specs.User{UID: 1000, GID: 1000} })
	if got := m.sh("echo out >/dev/stdout; echo err >/dev/stderr"); got != "out\nerr\n" {
		t.Errorf("got %q", got)
	}
	id := m.background("sleep", "1000")
	if got := m.must("exec", id, "sh", "-c", "echo out >/proc/self/fd/1"); got != "out\n" {
		t.Errorf("exec: got %q", got)
	}
	var st unix.Stat_t
	if err := unix.Stat(os.DevNull, &st); err != nil || st.Uid != 0 {
		t.Errorf("%s belongs to %d, %v", os.DevNull, st.Uid, err)
	}
}
