// Package scm speaks over Unix sockets with descriptors in the messages.
//
// All descriptors that it makes or receives are close-on-exec.
package scm

import (
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// MaxFiles is how many descriptors one message may carry.
const MaxFiles = 16

// Cred says who is at the other end of a socket.
type Cred struct{ PID, UID, GID int }

// ErrTruncated says that a message carried more descriptors than MaxFiles.
var ErrTruncated = errors.New("message with too many descriptors")

// Pair returns two connected stream sockets.
func Pair() (a, b int, err error) {
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, -1, fmt.Errorf("create socket pair: %w", err)
	}
	return p[0], p[1], nil
}

// Send writes p, and passes files with its first byte. It may write a part of
// p; the files have gone when it wrote anything. A broken connection is an
// error, never a signal.
func Send(fd int, p []byte, files ...int) (int, error) {
	var oob []byte
	if len(files) > 0 {
		oob = unix.UnixRights(files...)
	}
	for {
		n, err := unix.SendmsgN(fd, p, oob, nil, unix.MSG_NOSIGNAL)
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// Recv reads into p and returns what descriptors came along. At the end of
// the stream n is 0.
func Recv(fd int, p []byte) (n int, files []int, err error) {
	var oob [unix.SizeofCmsghdr + 4*MaxFiles]byte
	var flags, oobn int
	for {
		n, oobn, flags, _, err = unix.Recvmsg(fd, p, oob[:], unix.MSG_CMSG_CLOEXEC)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return 0, nil, err
	}
	files = rights(oob[:oobn])
	if flags&unix.MSG_CTRUNC != 0 {
		CloseAll(files)
		return 0, nil, ErrTruncated
	}
	return n, files, nil
}

func rights(oob []byte) []int {
	if len(oob) == 0 {
		return nil
	}
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	var files []int
	for i := range msgs {
		if fds, err := unix.ParseUnixRights(&msgs[i]); err == nil {
			files = append(files, fds...)
		}
	}
	return files
}

// CloseAll closes descriptors.
func CloseAll(files []int) {
	for _, f := range files {
		_ = unix.Close(f)
	}
}

// Peer returns who connected the socket, or who listens at its other end.
func Peer(fd int) (Cred, error) {
	c, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return Cred{}, fmt.Errorf("ask for the peer: %w", err)
	}
	return Cred{PID: int(c.Pid), UID: int(c.Uid), GID: int(c.Gid)}, nil
}

// Listen makes a listening socket, not blocking, at the relative or absolute
// path name, which only the owner may connect to. What was at name is removed.
func Listen(name string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("create socket: %w", err)
	}
	// The mode of the socket's inode is what fchmod set before bind, so there
	// is no instant in which others could connect.
	err = unix.Fchmod(fd, 0o600)
	if err == nil {
		if err = unix.Unlink(name); errors.Is(err, unix.ENOENT) {
			err = nil
		}
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: name})
	}
	if err == nil {
		err = unix.Listen(fd, 64)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("listen at %s: %w", name, err)
	}
	return fd, nil
}

// Accept returns the next connection to a listening socket, not blocking.
func Accept(fd int) (int, error) {
	for {
		c, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ECONNABORTED) {
			return c, err
		}
	}
}

// Dial connects to the socket at path, however long path is: an address holds
// 107 bytes, so the directory is named by a descriptor.
func Dial(path string) (int, error) {
	dir, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("connect to %s: %w", path, err)
	}
	defer unix.Close(dir)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("create socket: %w", err)
	}
	name := fmt.Sprintf("/proc/self/fd/%d/%s", dir, filepath.Base(path))
	for {
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: name})
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("connect to %s: %w", path, err)
	}
	return fd, nil
}
