package serve

import (
	"context"
	"errors"
	"slices"
	"syscall"
	"time"

	"lade/internal/linux/poll"
	"lade/internal/logs"
	"lade/internal/shim"
)

// lingerTime is how long a client that is still connected may take nothing
// before it is given up, once its process has ended.
const lingerTime = 10 * time.Second

// client is a connection that is attached to a process.
type client struct {
	p    *proc
	fd   int // -1: gone
	wish shim.Attach
	keys detacher

	pending []byte       // output that it has yet to take
	replay  *logs.Reader // it gets its output from the log, until it has caught up
	reading bool         // it may still send
	gone    bool         // it takes no more output, but what it sent is still read
	ending  bool         // it is closed when it has taken what is pending
	linger  *timer       // with ending
	sent    int64        // bytes that it has taken
	before  int64        // sent when linger was set
	// lent: whoever handed the connection over still has something to say on
	// it, because the process did not come to be.
	lent bool
}

func newClient(p *proc, a shim.Attach, fd int) (*client, error) {
	c := &client{p: p, fd: fd, wish: a, reading: true}
	if p.terminal {
		c.keys.keys = a.DetachKeys
		if a.DetachKeys == nil {
			c.keys.keys = []byte(shim.DefaultDetachKeys)
		}
	}
	err := syscall.SetNonblock(fd, true)
	if err == nil {
		err = p.s.loop.watch(fd, 0, c.ready)
	}
	if err == nil {
		// So that a descriptor that cannot be waited for is refused here. It
		// is left alone until the process is there.
		err = errors.Join(p.s.loop.set(fd, poll.In), p.s.loop.set(fd, 0))
	}
	if err == nil && a.FromLog && p.log != nil {
		c.replay, err = logs.Open(p.s.cfg.Log.Dir, logs.ReadOptions{Tail: -1, Stdout: a.Stdout, Stderr: a.Stderr})
	}
	if err != nil {
		p.s.loop.forget(fd)
		_ = syscall.Close(fd)
		return nil, err
	}
	return c, nil
}

// begin takes up the client when the process is there.
func (c *client) begin() {
	b := c.wish.Buffered
	c.wish.Buffered = nil
	if len(b) == 0 || c.typed(b) {
		c.flush()
	}
}

// blocking reports whether the process must not print for now.
func (c *client) blocking() bool { return len(c.pending) > 0 && !c.ending && c.replay == nil }

// update sets what is waited for.
func (c *client) update() {
	if c.fd < 0 || !c.p.begun {
		return
	}
	var ev poll.Events
	if c.reading && (!c.wish.Stdin || !c.p.in.full()) {
		ev |= poll.In
	}
	if len(c.pending) > 0 || c.replay != nil {
		ev |= poll.Out
	}
	if !c.reading && !c.gone {
		ev |= poll.HangUp // reported anyway, but 0 would mean not to ask
	}
	if c.p.s.loop.set(c.fd, ev) != nil {
		c.close()
	}
}

func (c *client) ready(ev poll.Events) {
	if ev&(poll.HangUp|poll.Error) != 0 {
		// Nobody takes output any more; input may still be waiting.
		c.gone = true
		c.pending = nil
		c.dropReplay()
		if c.ending || !c.reading {
			c.close()
			return
		}
	}
	if c.reading && (ev&poll.In != 0 || c.gone) && !c.ending {
		if !c.receive() {
			return
		}
	}
	if ev&poll.Out != 0 {
		c.flush()
		return
	}
	c.update()
}

// receive reads what the client sends, and reports whether it is still there.
func (c *client) receive() bool {
	if c.wish.Stdin && c.p.in.full() {
		c.update()
		return true
	}
	buf := c.p.s.typed[:]
	n, again, err := read(c.fd, buf)
	if again {
		if c.gone { // it has hung up and left nothing
			c.inputEnded()
			return c.fd >= 0
		}
		return true
	}
	if err != nil || n == 0 {
		c.gone = c.gone || err != nil
		c.inputEnded()
		return c.fd >= 0
	}
	return c.typed(buf[:n])
}

// typed passes on what the client sent, and reports whether it is still there.
func (c *client) typed(b []byte) bool {
	if !c.wish.Stdin {
		return true
	}
	pass, detach := c.keys.feed(b)
	c.p.in.write(pass)
	if detach {
		c.finish()
		return false
	}
	return c.fd >= 0
}

// inputEnded is called when the client sends no more. As with Docker, that
// ends the process's input if it is to be given once; if not, it ends the
// client's session.
func (c *client) inputEnded() {
	c.reading = false
	if c.wish.Stdin {
		if !c.p.closeStdin || c.p.terminal {
			c.finish()
			return
		}
		c.p.in.close()
	}
	if c.gone {
		c.close()
		return
	}
	c.update()
}

// print sends the client what the process printed.
func (c *client) print(s logs.Stream, frame []byte) {
	if c.fd < 0 || c.gone || c.ending || c.replay != nil || !c.wants(s) {
		return
	}
	if !c.wish.Mux {
		frame = frame[muxHead:]
	}
	if len(c.pending) == 0 {
		n, err := write(c.fd, frame)
		if err != nil {
			c.lost()
			return
		}
		c.sent += int64(n)
		if frame = frame[n:]; len(frame) == 0 {
			return
		}
	}
	c.pending = append(c.pending, frame...)
	c.update()
}

func (c *client) wants(s logs.Stream) bool {
	return s == logs.Stdout && c.wish.Stdout || s == logs.Stderr && c.wish.Stderr
}

// lost is called when the client takes no more output.
func (c *client) lost() {
	c.gone, c.pending = true, nil
	c.dropReplay()
	if c.ending || !c.reading || !c.wish.Stdin {
		c.close()
		return
	}
	c.update()
	c.p.update()
}

// flush sends what is pending, and more from the log while there is more.
func (c *client) flush() {
	for {
		n, err := write(c.fd, c.pending)
		if err != nil {
			c.lost()
			return
		}
		c.sent += int64(n)
		c.pending = c.pending[n:]
		if len(c.pending) > 0 {
			break
		}
		c.pending = nil
		if c.replay == nil {
			break
		}
		c.fill()
	}
	if c.ending && len(c.pending) == 0 {
		c.close()
		return
	}
	c.update()
	c.p.update()
}

// fill reads on in the log. When it has caught up, the client is sent the
// lines that are not finished and so not in the log, and then what is printed.
func (c *client) fill() {
	for len(c.pending) < chunk {
		// Without Follow it waits for nothing.
		e, err := c.replay.Next(context.Background())
		if err != nil {
			c.dropReplay()
			for _, s := range []logs.Stream{logs.Stdout, logs.Stderr} {
				if held := c.p.log.Held(s); len(held) > 0 && c.wants(s) {
					c.logged(s, append([]byte(nil), held...))
				}
			}
			return
		}
		c.logged(e.Stream, e.Append(nil))
	}
}

func (c *client) logged(s logs.Stream, line []byte) {
	if c.wish.Mux {
		var h [muxHead]byte
		header(h[:], s, len(line))
		c.pending = append(c.pending, h[:]...)
	}
	c.pending = append(c.pending, line...)
}

func (c *client) dropReplay() {
	if c.replay != nil {
		_ = c.replay.Close()
		c.replay = nil
	}
}

// finish ends the session when the client has taken what there is for it.
func (c *client) finish() {
	if c.fd < 0 || c.ending {
		return
	}
	c.ending, c.reading = true, false
	if c.gone {
		c.close()
		return
	}
	if len(c.pending) > 0 {
		// The socket may well hold it all; then nobody has to wait.
		_ = syscall.SetsockoptInt(c.fd, syscall.SOL_SOCKET, syscall.SO_SNDBUFFORCE, 8*len(c.pending))
	}
	c.flush()
	if c.fd >= 0 {
		c.before = c.sent
		c.linger = c.p.s.loop.after(lingerTime, c.lingered)
	}
}

func (c *client) lingered() {
	c.linger = nil
	if c.sent == c.before {
		c.close()
		return
	}
	c.before = c.sent
	c.linger = c.p.s.loop.after(lingerTime, c.lingered)
}

// close ends the connection.
func (c *client) close() {
	if c.fd < 0 {
		return
	}
	if c.linger != nil {
		c.p.s.loop.stop(c.linger)
	}
	c.dropReplay()
	c.p.s.loop.forget(c.fd)
	// A close with something unread would reset the connection, and the
	// client might lose what it has not read yet.
	if !c.lent {
		_ = syscall.Shutdown(c.fd, syscall.SHUT_WR)
	}
	for range 16 {
		n, again, err := read(c.fd, c.p.s.typed[:])
		if again || err != nil || n == 0 {
			break
		}
	}
	_ = syscall.Close(c.fd)
	c.fd, c.pending = -1, nil
	c.p.clients = slices.DeleteFunc(c.p.clients, func(o *client) bool { return o == c })
	c.p.update()
	c.p.s.check()
}
