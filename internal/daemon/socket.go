package daemon

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"lade/internal/errdefs"
	listener "lade/internal/server/socket"
)

// socketPath returns the path of a unix:// address.
func socketPath(host string) (string, error) {
	path, ok := strings.CutPrefix(host, "unix://")
	if !ok || !filepath.IsAbs(path) {
		return "", errdefs.Hint(errdefs.New(errdefs.Invalid, "cannot listen on %q", host), "give unix:// and an absolute path: the engine has no network socket")
	}
	return path, nil
}

// socket is where to listen: at what systemd or another engine passed, or else
// at host.
type socket struct {
	host   string
	passed net.Listener
}

// listen returns the socket that was passed, or makes one.
func (s socket) listen() (net.Listener, error) {
	if s.passed != nil {
		return s.passed, nil
	}
	path, err := socketPath(s.host)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	// This engine holds the lock on its state, but the socket may be elsewhere.
	if c, err := net.Dial("unix", path); err == nil { //nolint:noctx // a local socket answers at once or not at all
		_ = c.Close()
		return nil, errdefs.New(errdefs.Conflict, "listen on %s: another program serves it", path)
	}
	return listener.Listen(path)
}

// activated returns the socket that was passed by systemd's protocol
// (sd_listen_fds(3)), or nil.
func activated() (net.Listener, error) {
	const first = 3
	pid, _ := strconv.Atoi(os.Getenv("LISTEN_PID")) // what is no number is nobody's
	n, _ := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if pid != os.Getpid() || n < 1 {
		return nil, nil
	}
	path := os.Getenv(envSocketPath)
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", envSocketPath} {
		if err := os.Unsetenv(name); err != nil { // they are not meant for children
			return nil, err
		}
	}
	return listener.Inherit(os.NewFile(first, "socket from systemd"), path)
}

// takeLock makes this the only engine of a state directory, for as long as the
// process lives. The file tells who holds it.
//
// wait says to wait for the one that holds it, which is about to leave.
func takeLock(path string, wait bool) (io.Closer, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the engine's state: %w", err)
	}
	how := syscall.LOCK_EX | syscall.LOCK_NB
	if wait {
		how = syscall.LOCK_EX
	}
	err = flock(f, how)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		defer f.Close()
		holder, _ := io.ReadAll(io.LimitReader(f, 64))
		return nil, errdefs.Hint(errdefs.New(errdefs.Conflict, "another engine is running: process %s holds %s", strings.TrimSpace(string(holder)), path), "use it, or stop it first")
	}
	if err == nil {
		if err = f.Truncate(0); err == nil {
			_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock the engine's state: %w", err), f.Close())
	}
	return f, nil
}

// flock takes a lock on f. It waits no longer than an engine may take to leave.
func flock(f *os.File, how int) error {
	taken := make(chan error, 1)
	go func() {
		err := error(syscall.EINTR)
		for errors.Is(err, syscall.EINTR) {
			err = syscall.Flock(int(f.Fd()), how)
		}
		taken <- err
	}()
	select {
	case err := <-taken:
		return err
	case <-time.After(leaveTimeout):
		return errdefs.New(errdefs.Unavailable, "the engine that is to leave did not within %s", leaveTimeout)
	}
}
