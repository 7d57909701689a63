package exec

import (
	"encoding/binary"
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// message is one packet from a child: a milestone, a report ('e'), or 0 when
// there will be no more.
type message struct {
	kind  byte
	errno syscall.Errno
	op    uint64
}

func receive(fd int) (message, error) {
	var b [64]byte
	for {
		n, err := unix.Read(fd, b[:])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ECONNRESET):
			return message{}, nil
		case err != nil:
			return message{}, err
		case n == 1:
			return message{kind: b[0]}, nil
		case n == 24 && binary.LittleEndian.Uint64(b[:]) == magic:
			return message{
				kind: 'e', op: binary.LittleEndian.Uint64(b[16:]),
				errno: syscall.Errno(binary.LittleEndian.Uint64(b[8:])),
			}, nil
		case n == 0:
			return message{}, nil
		default:
			return message{}, errors.New("a packet that is no report")
		}
	}
}

func milestone(m byte) string {
	switch m {
	case Ready:
		return "ready"
	case Created:
		return "created"
	}
	return "executed"
}
