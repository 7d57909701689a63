package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/moby/moby/api/types/container"

	"lade/api"
	"lade/internal/errdefs"
)

// Filters are the filters of a list: for each key the values of which one must
// match.
type Filters map[string][]string

// query adds the filters to a query in Docker's form, a set in JSON.
func (f Filters) query(q url.Values) error {
	if len(f) == 0 {
		return nil
	}
	sets := map[string]map[string]bool{}
	for k, values := range f {
		sets[k] = map[string]bool{}
		for _, v := range values {
			sets[k][v] = true
		}
	}
	text, err := json.Marshal(sets)
	if err != nil {
		return fmt.Errorf("encode filters: %w", err)
	}
	q.Set("filters", string(text))
	return nil
}

// truth returns a query in which each given name is "1".
func truth(flags map[string]bool) url.Values {
	q := url.Values{}
	for name, on := range flags {
		if on {
			q.Set(name, "1")
		}
	}
	return q
}

// CreateOptions names a container and the platform of its image. Both may be
// empty.
type CreateOptions struct {
	Name     string
	Platform string // such as linux/arm64; empty is the engine's own
}

// CreateContainer makes a container. The error is NotFound if the image is not
// there, and Conflict if the name is taken.
func (c *Client) CreateContainer(ctx context.Context, req container.CreateRequest, o CreateOptions) (container.CreateResponse, error) {
	q := url.Values{}
	if o.Name != "" {
		q.Set("name", o.Name)
	}
	if o.Platform != "" {
		q.Set("platform", o.Platform)
	}
	return get[container.CreateResponse](ctx, c, call{method: http.MethodPost, path: path("containers", "create"), query: q, body: req})
}

// StartContainer starts a container. It is no error if it runs already.
func (c *Client) StartContainer(ctx context.Context, id, detachKeys string) error {
	q := url.Values{}
	if detachKeys != "" {
		q.Set("detachKeys", detachKeys)
	}
	return notModifiedIsFine(c.run(ctx, call{method: http.MethodPost, path: path("containers", id, "start"), query: q}))
}

// StopOptions says how to stop a container.
type StopOptions struct {
	Signal  string // empty: the container's own stop signal
	Timeout *int   // seconds until SIGKILL; nil: the container's own, -1: never
}

func (o StopOptions) query() url.Values {
	q := url.Values{}
	if o.Signal != "" {
		q.Set("signal", o.Signal)
	}
	if o.Timeout != nil {
		q.Set("t", strconv.Itoa(*o.Timeout))
	}
	return q
}

// StopContainer stops a container and returns when it has stopped.
func (c *Client) StopContainer(ctx context.Context, id string, o StopOptions) error {
	return notModifiedIsFine(c.run(ctx, call{method: http.MethodPost, path: path("containers", id, "stop"), query: o.query(), again: true}))
}

// RestartContainer stops a container if it runs, and starts it.
func (c *Client) RestartContainer(ctx context.Context, id string, o StopOptions) error {
	return c.run(ctx, call{method: http.MethodPost, path: path("containers", id, "restart"), query: o.query()})
}

// KillContainer sends a signal, named or numbered, to a container's first
// process. The error is Conflict if the container does not run.
func (c *Client) KillContainer(ctx context.Context, id, signal string) error {
	q := url.Values{}
	if signal != "" {
		q.Set("signal", signal)
	}
	return c.run(ctx, call{method: http.MethodPost, path: path("containers", id, "kill"), query: q})
}

// PauseContainer freezes a container's processes.
func (c *Client) PauseContainer(ctx context.Context, id string) error {
	return c.run(ctx, call{method: http.MethodPost, path: path("containers", id, "pause")})
}

// UnpauseContainer thaws a container's processes.
func (c *Client) UnpauseContainer(ctx context.Context, id string) error {
	return c.run(ctx, call{method: http.MethodPost, path: path("containers", id, "unpause")})
}

// RenameContainer gives a container another name.
func (c *Client) RenameContainer(ctx context.Context, id, name string) error {
	return c.run(ctx, call{method: http.MethodPost, path: path("containers", id, "rename"), query: url.Values{"name": {name}}})
}

// UpdateContainer gives a container other limits and another restart policy.
// What is zero stays as it is.
func (c *Client) UpdateContainer(ctx context.Context, id string, u container.UpdateConfig) (container.UpdateResponse, error) {
	return get[container.UpdateResponse](ctx, c, call{method: http.MethodPost, path: path("containers", id, "update"), body: u})
}

// RemoveOptions says what goes with a container.
type RemoveOptions struct {
	Force   bool // kill it first if it runs
	Volumes bool // its anonymous volumes go too
}

// RemoveContainer removes a container. The error is Conflict if it runs.
func (c *Client) RemoveContainer(ctx context.Context, id string, o RemoveOptions) error {
	q := truth(map[string]bool{"force": o.Force, "v": o.Volumes})
	return c.run(ctx, call{method: http.MethodDelete, path: path("containers", id), query: q})
}

// ResizeContainer sets the size of a container's terminal.
func (c *Client) ResizeContainer(ctx context.Context, id string, height, width uint) error {
	return c.run(ctx, call{method: http.MethodPost, path: path("containers", id, "resize"), query: size(height, width), again: true})
}

func size(height, width uint) url.Values {
	return url.Values{"h": {strconv.FormatUint(uint64(height), 10)}, "w": {strconv.FormatUint(uint64(width), 10)}}
}

// InspectContainer returns all that the engine knows of a container.
func (c *Client) InspectContainer(ctx context.Context, id string) (container.InspectResponse, error) {
	return get[container.InspectResponse](ctx, c, call{method: http.MethodGet, path: path("containers", id, "json")})
}

// InspectContainerRaw is InspectContainer with the answer as it came, so that
// fields this client does not know are kept.
func (c *Client) InspectContainerRaw(ctx context.Context, id string, withSize bool) (json.RawMessage, error) {
	return get[json.RawMessage](ctx, c, call{method: http.MethodGet, path: path("containers", id, "json"), query: truth(map[string]bool{"size": withSize})})
}

// ListOptions says which containers to list.
type ListOptions struct {
	All     bool // also those that do not run
	Limit   int  // the newest so many, running or not; 0 is no limit
	Size    bool // measure the disk space too
	Filters Filters
}

// ListContainers returns containers, the newest first.
func (c *Client) ListContainers(ctx context.Context, o ListOptions) ([]container.Summary, error) {
	q := truth(map[string]bool{"all": o.All, "size": o.Size})
	if o.Limit > 0 {
		q.Set("limit", strconv.Itoa(o.Limit))
	}
	if err := o.Filters.query(q); err != nil {
		return nil, err
	}
	return get[[]container.Summary](ctx, c, call{method: http.MethodGet, path: path("containers", "json"), query: q})
}

// LogsOptions says which part of a container's log to read. Times are Docker's:
// seconds since 1970 with a fraction, empty for no bound.
type LogsOptions struct {
	Stdout, Stderr bool
	Follow         bool
	Timestamps     bool
	Details        bool
	Tail           string // how many lines from the end, or "all"
	Since, Until   string
}

// Logs returns a container's log: multiplexed, or raw if the container has a
// terminal. The caller closes it.
func (c *Client) Logs(ctx context.Context, id string, o LogsOptions) (io.ReadCloser, error) {
	q := truth(map[string]bool{"stdout": o.Stdout, "stderr": o.Stderr, "follow": o.Follow, "timestamps": o.Timestamps, "details": o.Details})
	for name, v := range map[string]string{"tail": o.Tail, "since": o.Since, "until": o.Until} {
		if v != "" {
			q.Set(name, v)
		}
	}
	resp, err := c.do(ctx, call{method: http.MethodGet, path: path("containers", id, "logs"), query: q})
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// Wait is a wait that the engine has registered: whatever happens from now on
// is not missed.
type Wait struct {
	body io.ReadCloser
}

// WaitContainer registers a wait for a condition, and returns when it stands.
func (c *Client) WaitContainer(ctx context.Context, id string, condition container.WaitCondition) (*Wait, error) {
	q := url.Values{}
	if condition != "" {
		q.Set("condition", string(condition))
	}
	resp, err := c.do(ctx, call{method: http.MethodPost, path: path("containers", id, "wait"), query: q, again: true}) //nolint:bodyclose // Wait closes it
	if err != nil {
		return nil, err
	}
	return &Wait{resp.Body}, nil
}

// Result waits for the condition and returns the exit code. The error wraps
// ErrConnection if the engine left meanwhile. Result is called once.
func (w *Wait) Result() (int, error) {
	defer w.body.Close()
	var r container.WaitResponse
	if err := json.NewDecoder(w.body).Decode(&r); err != nil {
		return 0, bodyError(call{method: http.MethodPost, path: "wait"}, err)
	}
	switch {
	case r.Error == nil || r.Error.Message == "":
		return int(r.StatusCode), nil
	case r.StatusCode < 0: // it shuts down in order, and has no code to give
		return 0, errdefs.New(errdefs.Unavailable, "%w: %s", ErrConnection, r.Error.Message)
	}
	return int(r.StatusCode), errors.New(r.Error.Message)
}

// Close gives a wait up.
func (w *Wait) Close() error { return w.body.Close() }

// AttachOptions says what to connect to a container's process.
type AttachOptions struct {
	Stdin, Stdout, Stderr bool
	Logs                  bool   // what was written before comes first
	DetachKeys            string // empty: ctrl-p,ctrl-q
}

// AttachContainer connects to a container's process, also before it is
// started: then nothing of its output is missed.
func (c *Client) AttachContainer(ctx context.Context, id string, o AttachOptions) (*Stream, error) {
	q := truth(map[string]bool{"stream": true, "stdin": o.Stdin, "stdout": o.Stdout, "stderr": o.Stderr, "logs": o.Logs})
	if o.DetachKeys != "" {
		q.Set("detachKeys", o.DetachKeys)
	}
	return c.hijack(ctx, call{method: http.MethodPost, path: path("containers", id, "attach"), query: q})
}

// Explain returns every step that the kernel is asked to take for a container,
// in one of the formats of package api. The caller closes it.
func (c *Client) Explain(ctx context.Context, id, format string) (io.ReadCloser, error) {
	resp, err := c.do(ctx, call{
		method: http.MethodGet, path: api.ExplainPath(url.PathEscape(id)), query: url.Values{"format": {format}},
	})
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// CreateExec prepares a process in a running container and returns its ID.
func (c *Client) CreateExec(ctx context.Context, id string, req container.ExecCreateRequest) (string, error) {
	r, err := get[container.ExecCreateResponse](ctx, c, call{method: http.MethodPost, path: path("containers", id, "exec"), body: req})
	return r.ID, err
}

// StartExec starts a prepared process and connects to it.
func (c *Client) StartExec(ctx context.Context, execID string, req container.ExecStartRequest) (*Stream, error) {
	return c.hijack(ctx, call{method: http.MethodPost, path: path("exec", execID, "start"), body: req})
}

// StartExecDetached starts a prepared process and lets it go.
func (c *Client) StartExecDetached(ctx context.Context, execID string, tty bool) error {
	return c.run(ctx, call{
		method: http.MethodPost, path: path("exec", execID, "start"), body: container.ExecStartRequest{Detach: true, Tty: tty},
	})
}

// ResizeExec sets the size of a process's terminal.
func (c *Client) ResizeExec(ctx context.Context, execID string, height, width uint) error {
	return c.run(ctx, call{method: http.MethodPost, path: path("exec", execID, "resize"), query: size(height, width)})
}

// InspectExec returns how a process is, and its exit code once it has one.
func (c *Client) InspectExec(ctx context.Context, execID string) (container.ExecInspectResponse, error) {
	return get[container.ExecInspectResponse](ctx, c, call{method: http.MethodGet, path: path("exec", execID, "json")})
}

// Why returns in words how a container is, and how it came to that.
func (c *Client) Why(ctx context.Context, id string) (io.ReadCloser, error) {
	resp, err := c.do(ctx, call{method: http.MethodGet, path: "/lade/containers/" + url.PathEscape(id) + "/why"})
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}
