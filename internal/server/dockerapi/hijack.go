package dockerapi

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"

	"github.com/moby/moby/api/types"

	"lade/internal/errdefs"
)

// takeover turns a request into a session: it answers with the headers that
// end HTTP on this connection, and gives the connection away.
//
// The service that takes the session gets a file: a duplicate of the client's
// Unix socket where there is one, and otherwise one end of a socket pair whose
// other end is copied to and from the connection here. With the Unix socket,
// nothing of this process stands between the client and whoever holds the
// file. Our own descriptor is only closed, never shut down: shutdown would end
// the session in every process that shares the socket.
type takeover struct {
	c *call
	// conn is the connection after a takeover; nil before, and when the
	// session goes through a socket pair.
	conn net.Conn
	mux  bool
	done bool
}

// hijack is what services are given to call once the request is known to be
// good. tty says that the output is a terminal's: raw, not multiplexed.
func (t *takeover) hijack(tty bool) (*os.File, []byte, error) {
	if t.done {
		return nil, nil, errors.New("take over connection: it was taken already")
	}
	t.mux = !tty
	conn, buf, err := http.NewResponseController(t.c.w).Hijack()
	if errors.Is(err, http.ErrNotSupported) { // HTTP/2
		f, err := t.stream()
		return f, nil, err
	}
	if err != nil {
		return nil, nil, fmt.Errorf("take over connection: %w", err)
	}
	t.done = true
	f, buffered, err := t.own(conn, buf.Reader)
	if err != nil {
		_ = conn.Close()
		return nil, nil, fmt.Errorf("take over connection: %w", err)
	}
	return f, buffered, nil
}

// own answers on a connection that is ours now, and returns the session's
// file and what the client sent ahead.
func (t *takeover) own(conn net.Conn, r *bufio.Reader) (*os.File, []byte, error) {
	head := "HTTP/1.1 200 OK\r\nContent-Type: " + types.MediaTypeRawStream + "\r\n\r\n"
	if t.c.Header.Get("Upgrade") != "" {
		head = "HTTP/1.1 101 UPGRADED\r\nContent-Type: " + t.contentType() + "\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
	}
	if _, err := io.WriteString(conn, head); err != nil {
		return nil, nil, err
	}
	u, ok := conn.(*net.UnixConn)
	if !ok {
		ours, theirs, err := socketPair()
		if err != nil {
			return nil, nil, err
		}
		go bridge(ours, r, conn, func() { _ = conn.Close() })
		return theirs, nil, nil
	}
	// r may hold input that came right behind the request.
	buffered, err := r.Peek(r.Buffered())
	if err != nil {
		return nil, nil, err
	}
	f, err := u.File()
	if err != nil {
		return nil, nil, err
	}
	t.conn = conn
	return f, append([]byte(nil), buffered...), nil
}

// contentType tells a client how to read what follows.
func (t *takeover) contentType() string {
	if t.mux {
		return types.MediaTypeMultiplexedStream
	}
	return types.MediaTypeRawStream
}

// stream makes a session of a request whose connection carries others too: the
// body is its input, the answer its output. It lasts until the handler ends,
// which finish waits for.
func (t *takeover) stream() (*os.File, error) {
	rc := http.NewResponseController(t.c.w)
	_ = rc.EnableFullDuplex() // HTTP/2 is always so, and says that it knows no such thing
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	t.done = true
	t.c.w.Header().Set("Content-Type", t.contentType())
	t.c.w.WriteHeader(http.StatusOK)
	_ = rc.Flush()
	ended := make(chan struct{})
	go bridge(ours, t.c.Body, newFlusher(t.c.w), func() { close(ended) })
	t.conn = waitCloser{ended: ended, ours: ours, gone: t.c.Context().Done()}
	return theirs, nil
}

// waitCloser stands for a session that lives within a handler: closing it
// waits for its end.
type waitCloser struct {
	net.Conn
	ended <-chan struct{}
	gone  <-chan struct{}
	ours  net.Conn
}

func (w waitCloser) Close() error {
	select {
	case <-w.ended:
	case <-w.gone:
	}
	return w.ours.Close()
}

// finish ends this process's part in a session. An error of the service that
// comes after the headers went out can only be told in the stream.
func (t *takeover) finish(err error) error {
	if !t.done {
		return err
	}
	if t.conn == nil {
		return nil
	}
	if err != nil {
		text := []byte(errdefs.Message(err) + "\r\n")
		if t.mux {
			text = frame(stderr, text)
		}
		if _, plain := t.conn.(waitCloser); !plain {
			_, _ = t.conn.Write(text)
		}
	}
	_ = t.conn.Close()
	return nil
}

// bridge copies between a session's end of a socket pair and its client, each
// direction until its own end: a client that has no more input still gets the
// output. After both, or as soon as there is no more output, it calls end.
func bridge(ours *net.UnixConn, from io.Reader, to io.Writer, end func()) {
	var once sync.Once
	stop := func() {
		once.Do(func() {
			_ = ours.Close()
			end()
		})
	}
	go func() {
		if _, err := io.Copy(ours, from); err != nil {
			stop() // the client is gone, or the session is
			return
		}
		_ = ours.CloseWrite()
	}()
	_, _ = io.Copy(to, ours)
	stop()
}

// socketPair returns the two ends of a new stream socket.
func socketPair() (*net.UnixConn, *os.File, error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	a := os.NewFile(uintptr(fds[0]), "session")
	b := os.NewFile(uintptr(fds[1]), "session")
	c, err := net.FileConn(a) // duplicates
	_ = a.Close()
	if err != nil {
		_ = b.Close()
		return nil, nil, err
	}
	return c.(*net.UnixConn), b, nil
}
