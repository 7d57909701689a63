package serve

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"lade/internal/errdefs"
	"lade/internal/linux/pidfd"
	"lade/internal/linux/poll"
	"lade/internal/linux/pty"
	"lade/internal/linux/scm"
	"lade/internal/logs"
	"lade/internal/shim"
	"lade/internal/shim/wire"
)

// proc is a process that the runtime made: the container's first, or an
// exec's. It owns the process's standard streams and who is attached to them.
type proc struct {
	s    *server
	exec string // the exec's id; "" for the container

	terminal      bool
	width, height uint16
	closeStdin    bool         // when the client that sends it ends
	log           *logs.Writer // nil: its output is not kept

	in      *input // nil: standard input is empty
	outs    []*output
	clients []*client
	console int // listens for the terminal; -1: none
	carrier int // connection on which the terminal comes; -1: none

	begun      bool
	pid, pidfd int // pidfd -1: not begun, or reaped
	started    time.Time
	exit       *shim.Exit
	waiters    []func(wire.Fields, error) // who waits for the exit of an exec
}

// path returns a file of the process in the bundle, as a relative path: it is
// short enough for a socket's address wherever the bundle is.
func (p *proc) path(name string) string {
	if p.exec == "" {
		return name
	}
	return filepath.Join(shim.ExecDir, p.exec, name)
}

func (p *proc) pidPath() string     { return p.path("pid") }
func (p *proc) consolePath() string { return p.path("console.sock") }

// stdio is what the runtime is started with.
type stdio [3]int

func (f stdio) close() {
	for i, fd := range f {
		if fd >= 0 && (i == 0 || fd != f[i-1]) {
			_ = syscall.Close(fd)
		}
	}
}

// open prepares the streams. The caller closes what it returns when the
// runtime has been started.
func (p *proc) open(stdin bool) (stdio, error) {
	null, err := syscall.Open(os.DevNull, syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return stdio{-1, -1, -1}, fmt.Errorf("open %s: %w", os.DevNull, err)
	}
	files := stdio{null, null, null}
	if p.terminal {
		// The terminal is taken as soon as it comes, so that it has its size
		// before the process looks.
		p.console, err = scm.Listen(p.consolePath())
		if err == nil {
			err = p.s.loop.watch(p.console, poll.In, func(poll.Events) { _ = p.takeTerminal() })
		}
		if err != nil {
			files.close()
			p.closeConsole()
		}
		return files, err
	}
	files[1], files[2] = -1, -1
	if stdin {
		var fd int
		if files[0], fd, err = pipe(true); err == nil {
			p.in = newInput(p.s.loop, fd, p.resumeClients)
		}
		_ = syscall.Close(null)
	}
	for i, stream := range []logs.Stream{logs.Stdout, logs.Stderr} {
		if err != nil {
			break
		}
		var fd int
		if fd, files[1+i], err = pipe(false); err == nil {
			p.outs = append(p.outs, &output{p: p, fd: fd, stream: stream})
		}
	}
	if err != nil {
		files.close()
		p.abandon()
	}
	return files, err
}

// pipe makes a pipe of which our end, the second if write, does not block.
func pipe(write bool) (r, w int, err error) {
	var fds [2]int
	if err := syscall.Pipe2(fds[:], syscall.O_CLOEXEC); err != nil {
		return -1, -1, fmt.Errorf("make pipe: %w", err)
	}
	ours := fds[0]
	if write {
		ours = fds[1]
	}
	if err := syscall.SetNonblock(ours, true); err != nil {
		scm.CloseAll(fds[:])
		return -1, -1, fmt.Errorf("make pipe: %w", err)
	}
	return fds[0], fds[1], nil
}

// begin takes up the process that the runtime has made.
func (p *proc) begin() error {
	text, err := os.ReadFile(p.pidPath())
	if err != nil {
		return fmt.Errorf("read the pid file that the runtime should have written: %w", err)
	}
	if p.pid, err = strconv.Atoi(strings.TrimSpace(string(text))); err != nil {
		return fmt.Errorf("read the runtime's pid file: %w", err)
	}
	if p.terminal && p.in == nil {
		// The runtime has sent it before it ended: it is here, or never comes.
		if err := p.takeTerminal(); err != nil {
			return err
		}
	}
	p.closeConsole()
	if p.pidfd, err = pidfd.Open(p.pid); err != nil {
		return err
	}
	if err := p.s.loop.watch(p.pidfd, poll.In, func(poll.Events) { p.s.ended(p) }); err != nil {
		return err
	}
	p.begun = true
	for _, c := range append([]*client(nil), p.clients...) {
		c.begin()
	}
	p.update()
	return nil
}

// takeTerminal receives the terminal, as far as the runtime has sent it.
func (p *proc) takeTerminal() error {
	if p.carrier < 0 {
		conn, err := scm.Accept(p.console)
		if err != nil {
			return fmt.Errorf("take the terminal: the runtime has sent none (%w)", err)
		}
		p.carrier = conn
		if err := p.s.loop.watch(conn, poll.In, func(poll.Events) { _ = p.takeTerminal() }); err != nil {
			return err
		}
	}
	_, files, err := scm.Recv(p.carrier, make([]byte, 4096))
	if errors.Is(err, syscall.EAGAIN) {
		return fmt.Errorf("take the terminal: %w", err)
	}
	p.closeCarrier()
	if err == nil && len(files) == 1 && p.in == nil && pty.IsMaster(files[0]) {
		return p.useTerminal(files[0])
	}
	scm.CloseAll(files)
	return errors.New("take the terminal: the runtime has sent something else")
}

func (p *proc) closeCarrier() {
	if p.carrier >= 0 {
		p.s.loop.forget(p.carrier)
		_ = syscall.Close(p.carrier)
		p.carrier = -1
	}
}

func (p *proc) useTerminal(fd int) error {
	if p.width > 0 && p.height > 0 {
		if err := pty.SetSize(fd, p.width, p.height); err != nil {
			scm.CloseAll([]int{fd})
			return err
		}
	}
	// Both directions share the terminal's one open file, but each has its
	// own descriptor and thus its own place in the poller.
	in, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_DUPFD_CLOEXEC, 3)
	if errno != 0 {
		scm.CloseAll([]int{fd})
		return fmt.Errorf("duplicate terminal: %w", errno)
	}
	_ = syscall.SetNonblock(fd, true)
	p.in = newInput(p.s.loop, int(in), p.resumeClients)
	p.outs = []*output{{p: p, fd: fd, stream: logs.Stdout}}
	return nil
}

func (p *proc) closeConsole() {
	p.closeCarrier()
	if p.console >= 0 {
		p.s.loop.forget(p.console)
		_ = syscall.Close(p.console)
		_ = os.Remove(p.consolePath())
		p.console = -1
	}
}

// resize sets the terminal's size, also before there is one.
func (p *proc) resize(width, height uint16) error {
	if !p.terminal {
		return errdefs.New(errdefs.Invalid, "resize: the process has no terminal")
	}
	p.width, p.height = width, height
	for _, o := range p.outs {
		if o.fd >= 0 && width > 0 && height > 0 {
			return pty.SetSize(o.fd, width, height)
		}
	}
	return nil
}

// endStdin ends the standard input behind what clients have sent.
func (p *proc) endStdin() error {
	if p.terminal {
		return errdefs.New(errdefs.Invalid, "close standard input: it is a terminal")
	}
	p.in.close()
	return nil
}

// settle takes the last output, records the exit and reaps. It reports
// whether the process has ended.
func (p *proc) settle() bool {
	st, ok, err := pidfd.Peek(p.pidfd)
	if err == nil && !ok {
		return false
	}
	now := time.Now()
	// All that the process has written is in the pipes by now. Somebody else
	// may hold them open and go on writing, but that is not waited for.
	for _, o := range p.outs {
		o.finish()
	}
	p.in.shut()
	e := shim.Exit{Code: st.Code, Signal: int(st.Signal), StartedAt: p.started, ExitedAt: now}
	if st.Signal != 0 {
		e.Code = 128 + int(st.Signal)
	}
	if err != nil {
		// The runtime made a process that is no descendant of ours.
		e = shim.Exit{Code: 255, Unknown: true, Error: err.Error(), StartedAt: p.started, ExitedAt: now}
	}
	p.exit = &e
	p.s.record(p)
	p.s.loop.forget(p.pidfd)
	_ = syscall.Close(p.pidfd)
	p.pidfd = -1
	_, _, _ = pidfd.Reap(p.pid)
	for _, c := range append([]*client(nil), p.clients...) {
		c.finish()
	}
	return true
}

// abandon gives up the streams of a process that did not come to be, and its
// clients. It returns what the runtime has printed instead of the process.
func (p *proc) abandon() string {
	var said []byte
	buf := make([]byte, 4096)
	for _, o := range p.outs {
		if o.stream == logs.Stderr && o.fd >= 0 {
			if n, again, err := read(o.fd, buf); err == nil && !again {
				said = append(said, buf[:n]...)
			}
		}
		o.close()
	}
	p.in.shut()
	p.closeConsole()
	if p.pidfd >= 0 {
		p.s.loop.forget(p.pidfd)
		_ = syscall.Close(p.pidfd)
		p.pidfd = -1
	}
	for _, c := range append([]*client(nil), p.clients...) {
		c.lent = true
		c.finish()
	}
	return strings.TrimSpace(string(said))
}

// resumeClients reads on from clients, when the process has read.
func (p *proc) resumeClients() {
	for _, c := range append([]*client(nil), p.clients...) {
		c.update()
	}
}

// blocked reports whether a client has yet to take what it was sent.
func (p *proc) blocked() bool {
	for _, c := range p.clients {
		if c.blocking() {
			return true
		}
	}
	return false
}

// update stops or resumes the process's output as its clients demand.
func (p *proc) update() {
	for _, o := range p.outs {
		if p.blocked() {
			o.pause()
		} else {
			o.resume()
		}
	}
}

// deliver passes on what was printed. The frame has room for the
// multiplexer's header in front.
func (p *proc) deliver(stream logs.Stream, frame []byte) {
	p.log.Write(stream, time.Now(), frame[muxHead:])
	for _, c := range append([]*client(nil), p.clients...) {
		c.print(stream, frame)
	}
	p.update()
}

// attach connects a client. It takes fd over, also after an error.
func (p *proc) attach(a shim.Attach, fd int) error {
	if p.exit != nil {
		scm.CloseAll([]int{fd})
		return errdefs.New(errdefs.Conflict, "attach: the process has ended")
	}
	c, err := newClient(p, a, fd)
	if err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	p.clients = append(p.clients, c)
	if p.begun {
		c.begin()
		p.update()
	}
	return nil
}
