package client

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types"
)

// Stream is a connection that an attach or exec call has taken over: what is
// written goes to the process's standard input, what is read is its output.
// The engine hands its end to the container's shim, so that a Stream outlives
// the engine.
type Stream struct {
	conn net.Conn
	r    *bufio.Reader
	mux  bool
}

// Mux reports whether the output is Docker's multiplexed stream, with standard
// output and standard error apart. A terminal's output is raw.
func (s *Stream) Mux() bool { return s.mux }

// Read reads output as it comes, frames included if the stream is multiplexed.
func (s *Stream) Read(p []byte) (int, error) { return s.r.Read(p) }

// Write sends input.
func (s *Stream) Write(p []byte) (int, error) { return s.conn.Write(p) }

// CloseWrite says that there is no more input, and leaves the output open.
func (s *Stream) CloseWrite() error {
	c, ok := s.conn.(interface{ CloseWrite() error })
	if !ok {
		return nil
	}
	return c.CloseWrite()
}

// Close closes both directions.
func (s *Stream) Close() error { return s.conn.Close() }

// Copy copies output to stdout and stderr until the stream ends.
func (s *Stream) Copy(stdout, stderr io.Writer) error {
	var err error
	if s.mux {
		_, err = stdcopy.StdCopy(stdout, stderr, s.r)
	} else {
		_, err = io.Copy(stdout, s.r)
	}
	return err
}

// hijack sends a call and takes over the connection. The call is sent by hand:
// net/http's client keeps a connection for itself in ways that lose half-close.
func (c *Client) hijack(ctx context.Context, r call) (*Stream, error) {
	req, err := r.request(ctx)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "tcp")
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, connectionError(err)
	}
	// A context that ends must end the exchange of headers; later the stream
	// belongs to its holder.
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if err := req.Write(conn); err != nil {
		conn.Close()
		return nil, connectionError(err)
	}
	br := bufio.NewReader(conn)
	resp, err := http.ReadResponse(br, req) //nolint:bodyclose // its body is the stream
	if err != nil {
		conn.Close()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, connectionError(err)
	}
	switch {
	case resp.StatusCode == http.StatusSwitchingProtocols,
		// Servers older than the Upgrade header answer 200 and switch all the same.
		resp.StatusCode == http.StatusOK && resp.ContentLength < 0:
		mux := resp.Header.Get("Content-Type") == types.MediaTypeMultiplexedStream
		return &Stream{conn: conn, r: br, mux: mux}, nil
	case resp.StatusCode < 300:
		err = errors.New("the engine did not hand over the connection")
	default:
		err = answerError(resp)
	}
	conn.Close()
	return nil, err
}
