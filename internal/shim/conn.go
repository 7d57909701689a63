package shim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"lade/internal/errdefs"
	"lade/internal/linux/pidfd"
	"lade/internal/linux/scm"
	"lade/internal/shim/wire"
)

// writeTimeout bounds how long a request waits for a shim that does not read.
const writeTimeout = 10 * time.Second

// Conn is a connection to a shim. Its methods may be used from several
// goroutines at once. A method whose context ends leaves its request running.
type Conn struct {
	bundle  string
	f       *os.File
	process *os.File    // pidfd of the shim; nil if there was none
	child   *os.Process // set if the shim is ours to reap
	started int         // its process id, if so

	clients []chan answer // what came of the clients that it was begun with

	hello  chan struct{} // closed when pid is known
	exited chan struct{} // closed when exit is known
	done   chan struct{}

	wmu sync.Mutex // held while a frame is written

	mu      sync.Mutex
	next    uint32                 // guarded by mu; number of the last request
	waiting map[uint32]chan answer // guarded by mu
	broken  error                  // guarded by mu; why no more answers come
	closed  bool                   // guarded by mu
	pid     int                    // written before hello is closed
	exit    Exit                   // written before exited is closed
}

type answer struct {
	fields wire.Fields
	err    error
}

var errLeft = errors.New("shim has left")

// dial connects to a shim that listens.
func dial(ctx context.Context, bundle string) (*Conn, error) {
	fd, err := scm.Dial(filepath.Join(bundle, SocketName))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, errdefs.With(errdefs.NotFound, err)
	}
	if err != nil {
		return nil, err
	}
	var process *os.File
	if peer, err := scm.Peer(fd); err == nil {
		// The peer's id is that of the shim that listens, and a shim that has
		// left accepts nothing: no other process can have taken the id before
		// the greeting below.
		process = openProcess(peer.PID)
	}
	c, err := newConn(bundle, fd, process, nil)
	if err != nil {
		return nil, err
	}
	if err := c.greet(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func openProcess(pid int) *os.File {
	fd, err := pidfd.OpenNonblock(pid)
	if err != nil {
		return nil
	}
	return os.NewFile(uintptr(fd), "shim")
}

func newConn(bundle string, fd int, process *os.File, child *os.Process) (*Conn, error) {
	if err := syscall.SetNonblock(fd, true); err != nil {
		return nil, fmt.Errorf("talk to shim: %w", err)
	}
	c := &Conn{
		bundle: bundle, f: os.NewFile(uintptr(fd), "shim"), process: process, child: child,
		hello: make(chan struct{}), exited: make(chan struct{}), done: make(chan struct{}),
		waiting: map[uint32]chan answer{},
	}
	go c.run()
	return c, nil
}

func (c *Conn) greet(ctx context.Context) error {
	select {
	case <-c.hello:
		return nil
	case <-c.done:
	case <-ctx.Done():
		return fmt.Errorf("greet shim: %w", ctx.Err())
	}
	return errdefs.With(errdefs.NotFound, fmt.Errorf("greet shim: %w", errLeft))
}

// run receives until the connection ends, and then waits for the shim's end.
func (c *Conn) run() {
	err := c.receive()
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		err = errLeft
	}
	c.mu.Lock()
	c.broken = errdefs.With(errdefs.Unavailable, fmt.Errorf("talk to shim: %w", err))
	closed := c.closed
	for _, w := range c.waiting {
		w <- answer{err: c.broken}
	}
	c.waiting = nil
	c.mu.Unlock()
	_ = c.f.Close()
	if closed && c.child == nil {
		return
	}
	// The connection ends before the shim's mounts do: wait for its very end.
	if c.process != nil {
		if raw, err := c.process.SyscallConn(); err == nil {
			_ = raw.Read(func(fd uintptr) bool {
				ended, err := pidfd.Ended(int(fd))
				return ended || err != nil
			})
		}
		_ = c.process.Close()
	}
	if c.child != nil {
		_, _ = c.child.Wait()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		close(c.done)
	}
}

func (c *Conn) receive() error {
	var d wire.Decoder
	buf := make([]byte, 4096)
	for {
		n, err := c.f.Read(buf)
		if err != nil {
			return err
		}
		d.Feed(buf[:n])
		for {
			m, ok, err := d.Next()
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			c.take(m)
		}
	}
}

func (c *Conn) take(m wire.Message) {
	switch m.Kind {
	case wire.Hello:
		if !isClosed(c.hello) {
			c.pid = int(m.Fields.Uint(wire.TagPID))
			close(c.hello)
		}
	case wire.Exited:
		if !isClosed(c.exited) {
			c.exit = ExitFrom(m.Fields.Bytes(wire.TagExit))
			close(c.exited)
		}
	case wire.OK, wire.Failed:
		c.mu.Lock()
		w := c.waiting[m.Request]
		delete(c.waiting, m.Request)
		c.mu.Unlock()
		if w == nil {
			return // its caller has gone
		}
		if m.Kind == wire.Failed {
			w <- answer{err: errorFrom(m.Fields)}
		} else {
			w <- answer{fields: slices.Clone(m.Fields)}
		}
	default: // of a later version
	}
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// call sends a request and waits for its reply.
func (c *Conn) call(ctx context.Context, k wire.Kind, f wire.Fields, files ...*os.File) (wire.Fields, error) {
	w, err := c.send(k, f, files)
	if err != nil {
		return nil, err
	}
	return c.await(ctx, w)
}

func (c *Conn) await(ctx context.Context, w chan answer) (wire.Fields, error) {
	select {
	case a := <-w:
		return a.fields, a.err
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for shim: %w", ctx.Err())
	}
}

// send sends a request; the reply comes on the channel.
func (c *Conn) send(k wire.Kind, f wire.Fields, files []*os.File) (chan answer, error) {
	w := make(chan answer, 1)
	c.mu.Lock()
	if c.broken != nil {
		defer c.mu.Unlock()
		return nil, c.broken
	}
	c.next++
	id := c.next
	c.waiting[id] = w
	c.mu.Unlock()
	if len(files) > 0 {
		f.AddUint(wire.TagFiles, uint64(len(files)))
	}
	frame, err := wire.Message{Kind: k, Request: id, Fields: f}.Append(nil)
	if err != nil {
		err = errdefs.With(errdefs.Invalid, err)
	} else {
		err = withFDs(files, nil, func(fds []int) error { return c.write(frame, fds) })
	}
	if err != nil {
		c.mu.Lock()
		delete(c.waiting, id)
		c.mu.Unlock()
		return nil, fmt.Errorf("talk to shim: %w", err)
	}
	return w, nil
}

// withFDs calls fn with the files' descriptors, which stay open and keep their
// mode meanwhile: File.Fd would make them block.
func withFDs(files []*os.File, fds []int, fn func([]int) error) error {
	if len(files) == 0 {
		return fn(fds)
	}
	raw, err := files[0].SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = raw.Control(func(fd uintptr) { inner = withFDs(files[1:], append(fds, int(fd)), fn) })
	return errors.Join(err, inner)
}

func (c *Conn) write(frame []byte, fds []int) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	raw, err := c.f.SyscallConn()
	if err != nil {
		return err
	}
	if err := c.f.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	var inner error
	begun := false
	err = raw.Write(func(fd uintptr) bool {
		for len(frame) > 0 {
			n, err := scm.Send(int(fd), frame, fds...)
			if errors.Is(err, syscall.EAGAIN) {
				return false
			}
			if inner = err; err != nil {
				return true
			}
			frame, fds, begun = frame[n:], nil, true
		}
		return true
	})
	err = errors.Join(err, inner)
	if err != nil && begun {
		_ = c.f.Close() // half a frame: nothing can follow it
	}
	return err
}

// PID returns the shim's process id. Where the root that it mounted must be
// looked at, /proc/PID/root leads to it.
func (c *Conn) PID() int {
	if c.started != 0 {
		return c.started
	}
	return c.pid
}

// Exited is closed when the container has ended and its exit record is on
// disk. The shim then removes the container and leaves.
func (c *Conn) Exited() <-chan struct{} { return c.exited }

// Exit returns the exit record, once Exited is closed.
func (c *Conn) Exit() (Exit, bool) {
	if !isClosed(c.exited) {
		return Exit{}, false
	}
	return c.exit, true
}

// Done is closed when the shim has left or was killed: not only its connection
// is gone, but its process and its mounts.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Close ends the connection and leaves the shim alone. Done is not closed then.
func (c *Conn) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	c.mu.Unlock()
	if c.child == nil && c.process != nil {
		_ = c.process.Close()
	}
	if err := c.f.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("close connection to shim: %w", err)
	}
	return nil
}
