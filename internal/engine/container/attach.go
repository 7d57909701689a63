package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/moby/moby/api/types/events"

	"lade/internal/engine/container/launch"
	"lade/internal/engine/container/record"
	"lade/internal/engine/container/request"
	"lade/internal/errdefs"
	"lade/internal/shim"
)

// Attach connects a client to a container's streams. On a container that does
// not run it takes the client in advance: it is connected before the first
// byte can be written. Attach returns when the stream is handed over, or,
// where there is only a log to send, when it is sent.
func (s *Service) Attach(ctx context.Context, ref string, o AttachOptions, hijack Hijack) error {
	c, err := s.lookup(ref)
	if err != nil {
		return err
	}
	def, st := c.view()
	keys, err := request.DetachKeys(o.DetachKeys)
	if err != nil {
		return err
	}
	onlyLog := o.Logs && (!o.Stream || !st.Alive())
	if o.Stream && !onlyLog {
		// The client may ask for the start as soon as it has its answer.
		arrived := c.pending.Announce()
		defer arrived()
	}
	f, buffered, err := hijack(def.Config.Tty)
	if err != nil {
		return err
	}
	a := shim.Attach{
		File: f, Buffered: buffered, Stdin: o.Stdin && def.Config.OpenStdin, Stdout: o.Stdout, Stderr: o.Stderr,
		Mux: !def.Config.Tty, FromLog: o.Logs && o.Stream,
	}
	if def.Config.Tty {
		a.DetachKeys = keys
	}
	if onlyLog {
		defer f.Close()
		return s.sendLog(ctx, ref, o, def.Config.Tty, f)
	}
	if !o.Stream {
		return f.Close()
	}
	sh := c.shimNow()
	s.records.Say(record.Event(def, events.ActionAttach))
	if sh == nil {
		c.pending.Add(a)
		return nil
	}
	err = sh.Attach(ctx, a)
	if err != nil && c.shimNow() != sh {
		err = nil // it ended meanwhile: there is nothing more to come
	}
	return errors.Join(err, f.Close())
}

// shimNow returns the shim to talk to, or nil where the container does not run.
func (c *container) shimNow() launch.Shim {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.run == nil || !c.state.Alive() {
		return nil
	}
	return c.run.shim
}

// attachLate connects the clients that came too late to be there at the start
// and too early to find the container running.
func (c *container) attachLate(ctx context.Context, sh launch.Shim) {
	for _, a := range c.pending.Now() {
		_ = sh.Attach(ctx, a) // it sees its connection end
		_ = a.File.Close()
	}
}

// sendLog writes a log to an attached client in the form of its stream.
func (s *Service) sendLog(ctx context.Context, ref string, o AttachOptions, tty bool, f *os.File) error {
	l, err := s.Logs(ctx, ref, LogsOptions{Stdout: o.Stdout, Stderr: o.Stderr, Tail: -1})
	if err != nil {
		return err
	}
	defer l.Close()
	for {
		e, err := l.Next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := f.Write(frame(e, tty)); err != nil {
			return err
		}
	}
}

// frame is an entry as Docker's stream has it: 8 bytes with the stream's number
// and the length before it, unless there is a terminal.
func frame(e LogEntry, tty bool) []byte {
	if tty {
		return e.Data
	}
	kind := byte(1)
	if e.Stderr {
		kind = 2
	}
	n := len(e.Data)
	return append([]byte{kind, 0, 0, 0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, e.Data...)
}

// Resize gives a container's terminal another size.
func (s *Service) Resize(ctx context.Context, ref string, height, width uint) error {
	c, err := s.lookup(ref)
	if err != nil {
		return err
	}
	sh := c.shimNow()
	if sh == nil {
		return errdefs.New(errdefs.Conflict, "container %s is not running", c.id)
	}
	if height > 1<<16-1 || width > 1<<16-1 {
		return errdefs.New(errdefs.Invalid, "invalid terminal size %dx%d", width, height)
	}
	if err := sh.Resize(ctx, "", uint16(width), uint16(height)); err != nil {
		return err
	}
	def, _ := c.view()
	s.records.Say(record.Event(def, events.ActionResize, "height", fmt.Sprint(height), "width", fmt.Sprint(width)))
	return nil
}
