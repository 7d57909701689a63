// Package attach connects a person's streams to a container's process: it
// copies input and output, keeps the terminal in raw mode meanwhile, follows
// its size, passes signals on, and sees the keys that detach.
//
// The other end of a stream is the container's shim, not the engine. The engine
// may be killed and replaced; the stream goes on.
package attach

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"

	"lade/client"
	"lade/internal/cli/terminal"
)

// ErrDetached is returned when the person typed the keys that detach.
var ErrDetached = terminal.ErrDetached

// Streams are what to connect. A nil stream is not connected.
type Streams struct {
	In         io.Reader
	Out, Err   io.Writer
	TTY        bool   // the process has a terminal: output is raw, input may be ours
	DetachKeys []byte // looked for in the input of a TTY
}

// Raw puts the terminal behind the input in raw mode if the process has one of
// its own. The caller defers what it returns before doing anything else.
func (s Streams) Raw() (restore func(), err error) {
	if !s.TTY || s.In == nil {
		return func() {}, nil
	}
	return terminal.Raw(s.In)
}

// Copy copies until the process's output ends or the person detaches. The
// terminal must already be raw; restore is called before a panic of a copying
// goroutine ends the program.
func (s Streams) Copy(ctx context.Context, stream *client.Stream, restore func()) error {
	done := make(chan error, 2)
	if s.In != nil {
		go func() {
			defer restoreOnPanic(restore)
			if err := s.send(stream); errors.Is(err, ErrDetached) {
				done <- err
			}
			// Whatever else ends the input leaves the output to come.
		}()
	} else {
		// A process that reads must see the end of an input that nobody feeds.
		_ = stream.CloseWrite()
	}
	go func() {
		defer restoreOnPanic(restore)
		done <- stream.Copy(orDiscard(s.Out), orDiscard(s.Err))
	}()
	select {
	case err := <-done:
		stream.Close()
		return err
	case <-ctx.Done():
		stream.Close()
		return ctx.Err()
	}
}

// send copies input, and says so when there is no more.
func (s Streams) send(stream *client.Stream) error {
	in := s.In
	if s.TTY && len(s.DetachKeys) > 0 {
		in = terminal.NewEscapeReader(in, s.DetachKeys)
	}
	// Hide what *os.File and the connection could do for each other (splice):
	// a terminal's short reads must be passed on at once, and are.
	_, err := io.Copy(struct{ io.Writer }{stream}, struct{ io.Reader }{in})
	if errors.Is(err, ErrDetached) {
		return err
	}
	_ = stream.CloseWrite()
	return err
}

func orDiscard(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}

// restoreOnPanic gives the terminal back and panics on.
func restoreOnPanic(restore func()) {
	if p := recover(); p != nil {
		restore()
		panic(p)
	}
}

// FollowSize calls resize with the size of the terminal behind out, now and
// whenever it changes, until the function that it returns is called. An error
// of resize does not matter: the process may be gone.
func FollowSize(ctx context.Context, out io.Writer, resize func(ctx context.Context, rows, columns uint) error) (stop func()) {
	if !terminal.Is(out) {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	changed := make(chan os.Signal, 1)
	terminal.NotifyResize(changed)
	go func() {
		for {
			if rows, columns, ok := terminal.Size(out); ok {
				_ = resize(ctx, rows, columns)
			}
			select {
			case <-ctx.Done():
				return
			case <-changed:
			}
		}
	}()
	return func() {
		signal.Stop(changed)
		cancel()
	}
}
