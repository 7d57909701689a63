// Package launch finds the engine, and starts one where there is none.
//
// A dial tries the socket first, which is all that happens as long as an engine
// runs. If nobody answers, laded is started in a session of its own, so that it
// outlives the terminal, and says on a pipe when it serves. Of several lade
// that find no engine at once, one starts it; the others wait for a lock that
// the kernel takes back from whoever dies. An engine that another program
// starts at that moment (systemd, say) wins over ours, which then finds laded's
// own lock taken; we wait for its socket.
package launch

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"lade/api"
	"lade/client"
	"lade/internal/errdefs"
)

// program is the engine's name.
const program = "laded"

// How long an engine may take to serve, and how often a socket is tried that
// belongs to an engine which somebody else started: the kernel does not tell
// when a socket begins to listen.
const (
	readyTimeout = 30 * time.Second
	retryDelay   = 20 * time.Millisecond
)

// Launcher reaches the engine at one socket.
type Launcher struct {
	host     string
	socket   string
	stateDir string
}

// New returns a launcher for a host in the form unix:///path.
func New(host string) (*Launcher, error) {
	socket, err := client.SocketPath(host)
	if err != nil {
		return nil, err
	}
	return &Launcher{host: host, socket: socket, stateDir: client.StateDir()}, nil
}

// Dial connects to the engine if one is there.
func (l *Launcher) Dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", l.socket)
}

// DialOther connects to an engine that is somebody else's to start: it may be
// another machine's, at the end of a forwarded socket.
func (l *Launcher) DialOther(ctx context.Context) (net.Conn, error) {
	conn, err := l.Dial(ctx)
	if nobodyThere(err) {
		err := errdefs.New(errdefs.Unavailable, "no engine answers at %s", l.host)
		return nil, errdefs.Hint(err, "it is not started from here; 'lade --context default' is this machine's own")
	}
	return conn, l.explain(err)
}

// DialOrStart connects to the engine, and starts it first if need be.
func (l *Launcher) DialOrStart(ctx context.Context) (net.Conn, error) {
	conn, err := l.Dial(ctx)
	if !nobodyThere(err) {
		return conn, l.explain(err)
	}
	if err := os.MkdirAll(l.stateDir, 0o700); err != nil {
		return nil, l.cannotStart(err)
	}
	unlock, err := lock(ctx, filepath.Join(l.stateDir, "start.lock"))
	if err != nil {
		return nil, l.cannotStart(err)
	}
	defer unlock()
	if conn, err = l.Dial(ctx); !nobodyThere(err) { // somebody was faster
		return conn, l.explain(err)
	}
	if err := l.start(ctx); err != nil {
		// It may have died because another engine holds the lock.
		if conn, dialErr := l.Dial(ctx); dialErr == nil {
			return conn, nil
		}
		return nil, l.cannotStart(err)
	}
	return l.dialUntilThere(ctx)
}

// dialUntilThere is for the moment after an engine has said that it serves.
func (l *Launcher) dialUntilThere(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	tick := time.NewTicker(retryDelay)
	defer tick.Stop()
	for {
		conn, err := l.Dial(ctx)
		if !nobodyThere(err) {
			return conn, l.explain(err)
		}
		select {
		case <-ctx.Done():
			return nil, l.explain(err)
		case <-tick.C:
		}
	}
}

// nobodyThere reports whether a dial failed because no engine listens.
func nobodyThere(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)
}

// explain adds to an error of a dial what to do about it.
func (l *Launcher) explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrPermission):
		err = errdefs.New(errdefs.Denied, "no permission to use the engine's socket %s", l.socket)
		return errdefs.Hint(err, "run lade as the user that the engine runs as")
	}
	return errdefs.Hint(err, "is %s running? See %s", program, l.logFile())
}

func (l *Launcher) cannotStart(err error) error {
	if errdefs.HintOf(err) != "" {
		return fmt.Errorf("start it: %w", err)
	}
	return errdefs.Hint(fmt.Errorf("start it: %w", err),
		"see %s, or run `%s` in the foreground to watch it", l.logFile(), program)
}

func (l *Launcher) logFile() string { return filepath.Join(l.stateDir, "laded.log") }

// Replace starts the laded beside this program, which takes over from the one
// that runs, and returns when it serves. Where none runs it is started.
func (l *Launcher) Replace(ctx context.Context) error {
	if err := os.MkdirAll(l.stateDir, 0o700); err != nil {
		return l.cannotStart(err)
	}
	unlock, err := lock(ctx, filepath.Join(l.stateDir, "start.lock"))
	if err != nil {
		return l.cannotStart(err)
	}
	defer unlock()
	if err := l.start(ctx, "--follow"); err != nil {
		return l.cannotStart(err)
	}
	return nil
}

// start runs laded and returns when it serves.
func (l *Launcher) start(ctx context.Context, args ...string) error {
	exe, err := find()
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make a pipe: %w", err)
	}
	defer r.Close()
	// The engine outlives the command that started it, and its context.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), exe, args...) //nolint:gosec // find says which
	cmd.Env = append(os.Environ(), api.EnvHost+"="+l.host, api.EnvReadyFD+"=3")
	cmd.ExtraFiles = []*os.File{w}
	cmd.Dir = "/"
	detach(cmd)
	if log, err := os.OpenFile(l.logFile(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600); err == nil {
		defer log.Close()
		cmd.Stdout, cmd.Stderr = log, log
	}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return fmt.Errorf("run %s: %w", exe, err)
	}
	defer func() { _ = cmd.Process.Release() }()
	stop := context.AfterFunc(ctx, func() { _ = r.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	_ = r.SetReadDeadline(time.Now().Add(readyTimeout))
	return l.ready(r)
}

// ready reads what laded says of itself.
func (l *Launcher) ready(r io.Reader) error {
	line, err := bufio.NewReader(io.LimitReader(r, 4096)).ReadString('\n')
	switch {
	case line == api.ReadyOK:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errdefs.New(errdefs.Unavailable, "%s did not serve within %s", program, readyTimeout)
	case strings.TrimSpace(line) != "":
		return errdefs.New(errdefs.Unavailable, "%s", strings.TrimSpace(line))
	}
	if last := lastLine(l.logFile()); last != "" {
		return errdefs.New(errdefs.Unavailable, "%s died: %s", program, last)
	}
	return errdefs.New(errdefs.Unavailable, "%s died before it served", program)
}

// lastLine returns the last line of a file, as far as it is within its last
// kilobyte.
func lastLine(name string) string {
	f, err := os.Open(name)
	if err != nil {
		return ""
	}
	defer f.Close()
	if end, err := f.Seek(0, io.SeekEnd); err != nil || end == 0 {
		return ""
	} else if _, err := f.Seek(max(0, end-1024), io.SeekStart); err != nil {
		return ""
	}
	text, _ := io.ReadAll(io.LimitReader(f, 1024))
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}

// find looks for laded beside this program, then in $PATH.
func find() (string, error) {
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), program)
		if info, err := os.Stat(beside); err == nil && info.Mode().IsRegular() {
			return beside, nil
		}
	}
	path, err := exec.LookPath(program)
	if err != nil {
		return "", errdefs.Hint(errdefs.New(errdefs.NotFound, "no %s beside lade or in $PATH", program),
			"install %s beside lade", program)
	}
	return path, nil
}
