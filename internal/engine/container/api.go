package container

import (
	"context"
	"os"
	"time"

	"lade/internal/logs"
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
	After          logs.Position // unless zero: begin behind this, instead of Tail
}

// LogEntry is one line of a log, or a part of a long one.
type LogEntry struct {
	Time    time.Time
	Stderr  bool
	Data    []byte // with its newline, if it had one; valid until the next call of Next
	Partial bool   // the line goes on in the next entry of the same stream
	End     logs.Position
}

// LogStream reads a log. The caller closes it.
type LogStream struct {
	ID string // of the container
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
