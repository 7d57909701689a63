// Package socket is the Unix socket on which the engine answers: who may connect
// to it, and how it passes from one engine to the next.
package socket

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
)

// Listen returns a listener on a new Unix socket at path, in place of one that
// may be there: that nobody serves it must be known to the caller. The socket
// has mode 0600 before it has its name, and Guard stands behind it. Closing
// the listener removes it.
func Listen(path string) (net.Listener, error) {
	// A socket is made with the mode that the umask leaves, and the umask is
	// the whole process's. So it gets its mode under another name: always the
	// same, so that what a process left that died here is replaced.
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path))
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: tmp, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	l.SetUnlinkOnClose(false)
	err = os.Chmod(tmp, 0o600)
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		_ = l.Close()
		_ = os.Remove(tmp)
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	info, err := os.Lstat(path)
	if err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return Guard(&named{UnixListener: l, path: path, made: info}), nil
}

// Inherit returns a listener on a socket that another process made: f, which
// it closes. Unless path is empty, the listener removes it when it is closed, as
// one of Listen does.
func Inherit(f *os.File, path string) (net.Listener, error) {
	defer func() { _ = f.Close() }()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("listen on a socket that was passed: %w", err)
	}
	u, ok := l.(*net.UnixListener)
	if !ok {
		_ = l.Close()
		return nil, errors.New("listen on a socket that was passed: it is no Unix socket")
	}
	u.SetUnlinkOnClose(false)
	if path == "" {
		return Guard(u), nil
	}
	info, err := os.Lstat(path)
	if err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("listen on a socket that was passed: %w", err)
	}
	return Guard(&named{UnixListener: u, path: path, made: info}), nil
}

// Hand returns the socket of a listener of this package, for a process that goes
// on to serve it, and the path that is to be removed with it. Once that process
// has it, Disown tells the listener.
func Hand(l net.Listener) (f *os.File, path string, err error) {
	g, ok := l.(*guarded)
	if !ok {
		return nil, "", errors.New("hand over the socket: not one of ours")
	}
	switch u := g.Listener.(type) {
	case *named:
		f, err = u.File()
		return f, u.path, err
	case *net.UnixListener:
		f, err = u.File()
		return f, "", err
	}
	return nil, "", errors.New("hand over the socket: it is no Unix socket")
}

// Disown has the close of a listener leave its socket's path alone.
func Disown(l net.Listener) {
	if g, ok := l.(*guarded); ok {
		if n, ok := g.Listener.(*named); ok {
			n.disowned.Store(true)
		}
	}
}

// named is a listener that removes its socket when it is closed, but not the
// one that another process has put in its place.
type named struct {
	*net.UnixListener
	path     string
	made     os.FileInfo
	disowned atomic.Bool // another process removes it
}

// Addr returns the socket by its name; the listener below knows its first one.
func (n *named) Addr() net.Addr { return &net.UnixAddr{Name: n.path, Net: "unix"} }

func (n *named) Close() error {
	if now, err := os.Lstat(n.path); !n.disowned.Load() && err == nil && os.SameFile(now, n.made) {
		_ = os.Remove(n.path)
	}
	return n.UnixListener.Close()
}

// Guard returns l, which accepts Unix connections from processes of this
// process's user and of root alone. The mode of the socket says the same; a
// socket that systemd made, or a mode that somebody changed, does not open the
// engine to others. Who may speak to the engine is root on this machine.
func Guard(l net.Listener) net.Listener { return &guarded{l} }

type guarded struct{ net.Listener }

func (g *guarded) Accept() (net.Conn, error) {
	for {
		c, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if err := checkPeer(c); err != nil {
			slog.Warn("connection refused", "error", err)
			_ = c.Close()
			continue
		}
		return c, nil
	}
}

func checkPeer(c net.Conn) error {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return errors.New("check peer: not a Unix connection")
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return fmt.Errorf("check peer: %w", err)
	}
	var cred *syscall.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err := errors.Join(err, credErr); err != nil {
		return fmt.Errorf("check peer: %w", err)
	}
	if cred.Uid != 0 && int(cred.Uid) != os.Geteuid() {
		return fmt.Errorf("check peer: process %d is of user %d, want %d or root", cred.Pid, cred.Uid, os.Geteuid())
	}
	return nil
}
