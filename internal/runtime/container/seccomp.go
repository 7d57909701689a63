package container

import (
	"encoding/json"
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/runtime/exec"
	"lade/internal/runtime/state"
)

// handOn hands the seccomp listener of a process to the socket that the
// configuration names, with word of whose it is.
func handOn(c *specs.LinuxSeccomp, rec *state.Record, status state.Status, fd, pid int) error {
	s := StateOf(rec, status)
	msg, err := json.Marshal(specs.ContainerProcessState{
		Version: specs.Version, Fds: []string{specs.SeccompFdName}, Pid: pid, Metadata: c.ListenerMetadata,
		State: specs.State{Version: s.Version, ID: s.ID, Status: specs.ContainerState(s.Status), Pid: s.PID, Bundle: s.Bundle, Annotations: s.Annotations},
	})
	if err != nil {
		return err
	}
	conn, err := exec.Connect(c.ListenerPath, unix.SOCK_STREAM)
	if err != nil {
		return fmt.Errorf("failed to connect with seccomp agent specified in the seccomp profile: %w", err)
	}
	defer unix.Close(conn)
	if err := unix.Sendmsg(conn, msg, unix.UnixRights(fd), nil, unix.MSG_NOSIGNAL); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}
