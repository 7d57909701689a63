// Package client talks to Lade's engine.
//
// A Client holds one address, the engine's Unix socket, and has one method for
// each call of the Docker Engine API that Lade's command line needs, and for
// Lade's own calls. It speaks HTTP/1.1 and Docker's wire types
// (github.com/moby/moby/api); it keeps no state besides idle connections, and
// its methods may be called from many goroutines.
//
// Errors carry a class of internal/errdefs, made from the status of the answer,
// and the engine's message. An error that stems from the connection, and not
// from the engine's answer, wraps ErrConnection: the engine may have been
// restarted, and the caller may ask again where that makes sense.
//
// Attach and exec take over their connection and become a Stream. Nothing here
// starts an engine or prints; a caller that wants an engine started on demand
// passes its own dial function to NewWithDialer. Only calls that change nothing,
// or nothing more the second time, are sent again when the engine went away
// before it answered: what became of the others, nobody knows.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"lade/api"
	"lade/internal/errdefs"
)

// APIVersion is the version of the Docker Engine API that the client speaks.
const APIVersion = "1.51"

// ErrConnection is wrapped by every error that comes from the connection: the
// engine is not there, or it went away before it had answered.
var ErrConnection = errors.New("the engine does not answer")

// maxErrorBody bounds how much of an error's body is read.
const maxErrorBody = 64 << 10

// Dialer connects to the engine.
type Dialer func(ctx context.Context) (net.Conn, error)

// Client is a connection to an engine.
type Client struct {
	dial Dialer
	http *http.Client
	host string
}

// DefaultHost returns where the engine listens unless a person says otherwise:
// $LADE_HOST, or the socket lade.sock in the state directory.
func DefaultHost() string {
	if h := os.Getenv(api.EnvHost); h != "" {
		return h
	}
	return "unix://" + filepath.Join(StateDir(), "lade.sock")
}

// StateDir returns the directory in which the engine keeps what need not
// survive a reboot: $LADE_STATE_DIR, /run/lade for root, and
// $XDG_RUNTIME_DIR/lade for others.
func StateDir() string {
	switch dir := os.Getenv(api.EnvStateDir); {
	case dir != "":
		return dir
	case os.Geteuid() <= 0: // -1 where there are no user IDs
		return "/run/lade"
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return filepath.Join(dir, "lade")
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("lade-%d", os.Geteuid()))
}

// SocketPath returns the file of a host in the form unix:///path.
func SocketPath(host string) (string, error) {
	path, ok := strings.CutPrefix(host, "unix://")
	if !ok || !strings.HasPrefix(path, "/") {
		err := errdefs.New(errdefs.Invalid, "host %q: want unix:///path/of/the.sock", host)
		return "", errdefs.Hint(err, "lade reaches its engine through a Unix socket only; set %s or --host to one", api.EnvHost)
	}
	return path, nil
}

// New returns a client of the engine at host, in the form unix:///path. It does
// not connect yet.
func New(host string) (*Client, error) {
	path, err := SocketPath(host)
	if err != nil {
		return nil, err
	}
	c := NewWithDialer(func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	})
	c.host = host
	return c, nil
}

// NewWithDialer returns a client that connects by dial.
func NewWithDialer(dial Dialer) *Client {
	t := &http.Transport{
		DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		DisableCompression: true,
	}
	return &Client{dial: dial, http: &http.Client{Transport: t}}
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// path returns the versioned path of a Docker endpoint, its parts escaped. The
// slashes of an image's name stay, as every other client of Docker's API sends
// them.
func path(parts ...string) string {
	var b strings.Builder
	b.WriteString("/v" + APIVersion)
	for _, p := range parts {
		b.WriteString("/" + strings.ReplaceAll(url.PathEscape(p), "%2F", "/"))
	}
	return b.String()
}

// call is one request: everything but the method and the path may be absent.
type call struct {
	method, path string
	query        url.Values
	body         any // an io.Reader is sent as it is, anything else as JSON
	header       http.Header
	again        bool // may be sent again as if it were a GET: doing it twice is doing it once
}

// How often a call is sent again that may be. An engine that dies
// takes connections until the kernel is done with it, so the pauses grow.
const (
	getAttempts = 5
	getPause    = 5 * time.Millisecond
)

// do sends a call and returns the answer if its status is 2xx, or else an
// error with a class. The caller closes the body.
func (c *Client) do(ctx context.Context, r call) (*http.Response, error) {
	for attempt := 0; ; attempt++ {
		resp, err := c.once(ctx, r)
		broken := errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.EOF)
		if r.method != http.MethodGet && !r.again || !broken || !errors.Is(err, ErrConnection) || attempt == getAttempts {
			return resp, err
		}
		select {
		case <-ctx.Done():
			return nil, connectionError(ctx.Err())
		case <-time.After(getPause << attempt):
		}
	}
}

func (c *Client) once(ctx context.Context, r call) (*http.Response, error) {
	req, err := r.request(ctx)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, connectionError(err)
	}
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, answerError(resp)
}

// run sends a call whose answer has no body that matters.
func (c *Client) run(ctx context.Context, r call) error {
	resp, err := c.do(ctx, r)
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, resp.Body) // so that the connection can be used again
	return resp.Body.Close()
}

// get sends a call and decodes the JSON that answers it.
func get[T any](ctx context.Context, c *Client, r call) (T, error) {
	var v T
	resp, err := c.do(ctx, r)
	if err != nil {
		return v, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil {
		return v, bodyError(r, err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	return v, nil
}

func (r call) request(ctx context.Context) (*http.Request, error) {
	var body io.Reader
	header := r.header
	if header == nil {
		header = http.Header{}
	}
	switch b := r.body.(type) {
	case nil:
	case io.Reader:
		body = b
	default:
		text, err := json.Marshal(b)
		if err != nil {
			return nil, fmt.Errorf("encode %s %s: %w", r.method, r.path, err)
		}
		body = bytes.NewReader(text)
		header.Set("Content-Type", "application/json")
	}
	u := "http://lade" + r.path
	if len(r.query) > 0 {
		u += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, u, body)
	if err != nil {
		return nil, fmt.Errorf("make request %s %s: %w", r.method, r.path, err)
	}
	req.Header = header
	return req, nil
}

// connectionError gives a class to what net/http reports, and drops its
// prefix: the made-up URL means nothing to a person.
func connectionError(err error) error {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		err = ue.Err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return errdefs.With(errdefs.Cancelled, err)
	}
	return errdefs.New(errdefs.Unavailable, "%w: %w", ErrConnection, err)
}

// bodyError tells an answer that breaks off from one that is not JSON.
func bodyError(r call, err error) error {
	_, syntax := errors.AsType[*json.SyntaxError](err)
	_, kind := errors.AsType[*json.UnmarshalTypeError](err)
	if syntax || kind {
		return fmt.Errorf("decode the answer to %s %s: %w", r.method, r.path, err)
	}
	return connectionError(err)
}

// answerError turns an answer that is not a success into an error.
func answerError(resp *http.Response) error {
	class := classOf(resp.StatusCode)
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	var body struct {
		Message string `json:"message"`
	}
	switch {
	case json.Unmarshal(text, &body) == nil && body.Message != "":
		return errdefs.New(class, "%s", strings.TrimSpace(body.Message))
	case class == errdefs.NotModified:
		return errdefs.New(class, "it is already so")
	case len(bytes.TrimSpace(text)) > 0 && resp.Header.Get("Content-Type") != "text/html":
		return errdefs.New(class, "%s", bytes.TrimSpace(text))
	}
	return errdefs.New(class, "the engine answered %s", resp.Status)
}

func classOf(status int) errdefs.Class {
	switch status {
	case http.StatusNotFound:
		return errdefs.NotFound
	case http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusMethodNotAllowed:
		return errdefs.Invalid
	case http.StatusConflict:
		return errdefs.Conflict
	case http.StatusForbidden:
		return errdefs.Denied
	case http.StatusUnauthorized:
		return errdefs.Unauthorized
	case http.StatusServiceUnavailable, http.StatusBadGateway, http.StatusGatewayTimeout:
		return errdefs.Unavailable
	case http.StatusInsufficientStorage:
		return errdefs.Exhausted
	case http.StatusNotImplemented:
		return errdefs.NotImplemented
	case http.StatusNotModified:
		return errdefs.NotModified
	case 499:
		return errdefs.Cancelled
	}
	return errdefs.Internal
}
