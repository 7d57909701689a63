package container

import (
	"context"
	"os"
	"time"

	api "github.com/moby/moby/api/types/container"

	"lade/internal/errdefs"
)

// StopOptions says how a container is stopped.
type StopOptions struct {
	// Signal is sent first; empty means the container's own, then SIGTERM.
	Signal string
	// Timeout is how many seconds the container may take before it is killed:
	// nil means the container's own, then ten; negative means forever.
	Timeout *int
}

// RemoveOptions says what is removed with a container.
type RemoveOptions struct {
	Force   bool // kill it first if it runs
	Volumes bool // and its anonymous volumes
}

// ListOptions says which containers are listed.
type ListOptions struct {
	All     bool                // also those that do not run
	Limit   int                 // only so many, the newest; 0 means all
	Size    bool                // fill in the sizes
	Filters map[string][]string // Docker's filters, by key
}

// LogsOptions says which lines of a log are read.
type LogsOptions struct {
	Stdout, Stderr bool
	Follow         bool // go on until the container ends
	Timestamps     bool // carried for the caller: entries always have their time
	Tail           int  // only the last lines; negative means all
	Since, Until   time.Time
}

// LogEntry is one line of a log, or a part of a long one.
type LogEntry struct {
	Time    time.Time
	Stderr  bool
	Data    []byte // with its newline, if it had one; valid until the next call of Next
	Partial bool   // the line goes on in the next entry of the same stream
}

// LogStream reads a log. The caller closes it.
type LogStream struct {
	// TTY is set if the container has a terminal: its output is not
	// multiplexed then.
	TTY   bool
	next  func(ctx context.Context) (LogEntry, error)
	close func() error
}

// Next returns the next entry; io.EOF after the last.
func (s *LogStream) Next(ctx context.Context) (LogEntry, error) { return s.next(ctx) }

// Close releases the stream.
func (s *LogStream) Close() error { return s.close() }

// AttachOptions says which streams a client is connected to.
type AttachOptions struct {
	Stdin, Stdout, Stderr bool
	Stream                bool   // connect to the running process
	Logs                  bool   // first send what is in the log
	DetachKeys            string // Docker's notation; empty means ctrl-p,ctrl-q
}

// Hijack takes the client's connection out of the hands of the protocol that
// brought the request. A service calls it once, when nothing can be refused
// any more; tty says which form the stream will have. The file is the
// service's from then on. Bytes that were read too early are in buffered.
type Hijack = func(tty bool) (f *os.File, buffered []byte, err error)

// Service is the engine's containers: it creates, starts, watches and removes
// them. Its methods may be called concurrently; none waits for a container
// other than its own.
type Service struct{}

// Create checks a request and records a container. It does not start it. A
// missing image is an error of class NotFound.
func (s *Service) Create(ctx context.Context, name string, req api.CreateRequest, platform string) (api.CreateResponse, error) {
	return api.CreateResponse{}, todo("create")
}

// Start starts a container. One that runs is an error of class NotModified.
func (s *Service) Start(ctx context.Context, ref string) error { return todo("start") }

// Stop asks a container to end, and kills it if it takes too long. One that
// does not run is an error of class NotModified.
func (s *Service) Stop(ctx context.Context, ref string, o StopOptions) error { return todo("stop") }

// Restart stops a container, if it runs, and starts it.
func (s *Service) Restart(ctx context.Context, ref string, o StopOptions) error {
	return todo("restart")
}

// Kill sends a signal, by name or number; empty means SIGKILL.
func (s *Service) Kill(ctx context.Context, ref, signal string) error { return todo("kill") }

// Pause freezes a container's processes.
func (s *Service) Pause(ctx context.Context, ref string) error { return todo("pause") }

// Unpause lets them go on.
func (s *Service) Unpause(ctx context.Context, ref string) error { return todo("unpause") }

// Remove removes a container and all that belongs to it.
func (s *Service) Remove(ctx context.Context, ref string, o RemoveOptions) error {
	return todo("remove")
}

// Rename gives a container another name.
func (s *Service) Rename(ctx context.Context, ref, name string) error { return todo("rename") }

// Wait returns a channel on which one answer arrives when the condition
// holds. No change after Wait has returned is missed.
func (s *Service) Wait(ctx context.Context, ref string, cond api.WaitCondition) (<-chan api.WaitResponse, error) {
	return nil, todo("wait")
}

// Inspect returns all that is known about a container.
func (s *Service) Inspect(ctx context.Context, ref string, size bool) (api.InspectResponse, error) {
	return api.InspectResponse{}, todo("inspect")
}

// List returns containers, the newest first.
func (s *Service) List(ctx context.Context, o ListOptions) ([]api.Summary, error) {
	return nil, todo("list")
}

// Logs opens a container's log.
func (s *Service) Logs(ctx context.Context, ref string, o LogsOptions) (*LogStream, error) {
	return nil, todo("logs")
}

// Attach connects a client to a container's streams. On a container that does
// not run it takes the client in advance: it is connected before the first
// byte can be written. Attach returns when the stream is handed over, or,
// where there is only a log to send, when it is sent.
func (s *Service) Attach(ctx context.Context, ref string, o AttachOptions, hijack Hijack) error {
	return todo("attach")
}

// Resize gives a container's terminal another size.
func (s *Service) Resize(ctx context.Context, ref string, height, width uint) error {
	return todo("resize")
}

// Explain returns the program with which the runtime would start a container,
// as text or JSON by format.
func (s *Service) Explain(ctx context.Context, ref, format string) ([]byte, error) {
	return nil, todo("explain")
}

func todo(what string) error {
	return errdefs.New(errdefs.NotImplemented, "%s container: not yet", what)
}
