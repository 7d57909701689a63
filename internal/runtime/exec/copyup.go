package exec

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"lade/internal/runtime/copyup"
)

// copyUp takes a directory and an empty tmpfs from the child, and fills the
// one from the other.
func (c *Child) copyUp(keep uint64) error {
	source, err := c.descriptor()
	if err != nil {
		return err
	}
	defer unix.Close(source)
	target, err := c.descriptor()
	if err != nil {
		return err
	}
	defer unix.Close(target)
	var fs unix.Statfs_t
	if err := unix.Fstatfs(target, &fs); err != nil || fs.Type != unix.TMPFS_MAGIC {
		return errors.Join(errors.New("copy up: the target is no tmpfs"), err)
	}
	o := copyup.Limits()
	o.Mode, o.Owner = keep&unix.STATX_MODE != 0, keep&unix.STATX_UID != 0
	return copyup.Copy(source, target, o)
}

// descriptor takes one descriptor from the child.
func (c *Child) descriptor() (int, error) {
	var b [64]byte
	var control [24]byte // CMSG_SPACE of one descriptor
	for {
		n, oob, flags, _, err := unix.Recvmsg(c.sock, b[:], control[:], unix.MSG_CMSG_CLOEXEC)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ECONNRESET): // see receive
			continue
		case err != nil:
			return -1, fmt.Errorf("hear from the child: %w", err)
		case n == 0:
			return -1, fmt.Errorf("%s: the child ended before it handed on a descriptor", c.prog.Name)
		}
		if m, err := parse(b[:n]); err == nil && m.kind == 'e' {
			return -1, stepError(c.prog, c.low.step(m.op), m.errno)
		}
		messages, err := unix.ParseSocketControlMessage(control[:oob])
		if err != nil || len(messages) != 1 || flags&unix.MSG_CTRUNC != 0 {
			return -1, fmt.Errorf("hear from the child: a packet without a descriptor: %w", errors.Join(err, unix.EBADMSG))
		}
		fds, err := unix.ParseUnixRights(&messages[0])
		if err != nil || len(fds) != 1 {
			return -1, fmt.Errorf("hear from the child: %d descriptors: %w", len(fds), errors.Join(err, unix.EBADMSG))
		}
		return fds[0], nil
	}
}
