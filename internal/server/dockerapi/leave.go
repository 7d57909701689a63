package dockerapi

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime/debug"
	"sync"
)

// Parameters of a request that another handler left: where it stood. They are
// between engines; from a client they do no harm.
const (
	resumeWait = "lade-wait-since"
	resumeLogs = "lade-logs-after"
)

// errLeaving says that another handler is to go on.
var errLeaving = errors.New("the engine leaves")

// A Carrier takes an answer that another handler is to finish: the request, as
// it has to be put to that handler, and the client's connection, on which the
// headers have gone out and the body, in chunks, has not ended.
type Carrier func(method, target string, conn *os.File) error

// leaving is how the answers that last learn that their engine leaves.
type leaving struct {
	begun  chan struct{}  // closed by Leave
	giving sync.WaitGroup // answers that are on their way

	mu sync.Mutex
	to Carrier // set before begun is closed; guarded by mu
}

func newLeaving() *leaving { return &leaving{begun: make(chan struct{})} }

// Leave gives the answers that last, such as followed logs, to another engine's
// handler: see Continue there. It does not wait until they are gone; Left does.
// Other requests go on here.
func (h *Handler) Leave(to Carrier) {
	l := h.leaving
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.to == nil {
		l.to = to
		close(l.begun)
	}
}

// untilLeave returns ctx, which also ends when Leave begins, with errLeaving as
// its cause.
func (l *leaving) untilLeave(ctx context.Context) (until context.Context, stop func()) {
	until, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-l.begun:
			cancel(errLeaving)
		case <-until.Done():
		}
	}()
	return until, func() { cancel(nil) }
}

// Left waits until all answers that Leave made go are given. Requests must have
// ended, or been given, as far as the server knows: see Conns.Drain.
func (h *Handler) Left() { h.leaving.giving.Wait() }

// carry gives the rest of an answer away: path and query are the request that
// goes on where this one stops. A connection that cannot be given is broken off:
// its client must not take half an answer for a whole one.
func (l *leaving) carry(c *call, path string, query url.Values) error {
	if c.ProtoMajor != 1 || !c.ProtoAtLeast(1, 1) {
		return errors.New("carry answer: it has no chunks")
	}
	// Before the connection is no longer the server's.
	l.giving.Add(1)
	defer l.giving.Done()
	rc := http.NewResponseController(c.w)
	if err := rc.Flush(); err != nil {
		return fmt.Errorf("carry answer: %w", err)
	}
	conn, _, err := rc.Hijack()
	if err != nil {
		return fmt.Errorf("carry answer: %w", err)
	}
	defer func() { _ = conn.Close() }()
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return nil
	}
	f, err := u.File()
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	target := url.URL{Path: "/v" + c.version.String() + path, RawQuery: query.Encode()}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.to(c.Method, target.String(), f)
}

// Continue finishes an answer that another engine's handler left, and closes
// the connection. It returns when that is done, the client leaves or ctx ends.
func (h *Handler) Continue(ctx context.Context, method, target string, conn net.Conn) {
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, target, http.NoBody)
	if err != nil {
		h.log.Warn("go on with an answer", "error", err)
		return
	}
	defer h.flight.enter(r)()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	go func() {
		// A client that waits sends nothing: this ends when it leaves.
		_, _ = io.Copy(io.Discard, conn)
		cancel()
	}()
	defer func() {
		if p := recover(); p != nil && p != http.ErrAbortHandler { //nolint:errorlint // it is this value
			h.log.Error("panic", "request", method+" "+r.URL.Path, "panic", p, "stack", string(debug.Stack()))
		}
	}()
	w := &rest{conn: conn, header: http.Header{}}
	if err := h.serve(w, r); err != nil {
		if ctx.Err() == nil {
			h.log.Warn("go on with an answer", "path", r.URL.Path, "error", err)
		}
		return // the connection breaks in the middle of the body
	}
	if !w.given {
		_, _ = io.WriteString(conn, "0\r\n\r\n")
	}
}

// rest writes the rest of an answer whose headers have gone out.
type rest struct {
	conn   net.Conn
	header http.Header
	given  bool // to another
}

func (w *rest) Header() http.Header { return w.header }
func (w *rest) WriteHeader(int)     {}
func (w *rest) Flush()              {}

// Write writes one chunk (RFC 9112, 7.1).
func (w *rest) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	chunk := fmt.Appendf(make([]byte, 0, len(p)+16), "%x\r\n", len(p))
	chunk = append(append(chunk, p...), "\r\n"...)
	if _, err := w.conn.Write(chunk); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Hijack lets an answer that went on here be given to one more engine.
func (w *rest) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	w.given = true
	return w.conn, bufio.NewReadWriter(bufio.NewReader(w.conn), bufio.NewWriter(w.conn)), nil
}
