package dockerapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strconv"

	"github.com/moby/moby/api/types"

	"lade/internal/engine/container"
	"lade/internal/errdefs"
	"lade/internal/logs"
)

// stampFormat is Docker's: nanoseconds with their zeros, so that columns align.
const stampFormat = "2006-01-02T15:04:05.000000000Z07:00"

func (h *Handler) containerLogs(c *call) error {
	o := container.LogsOptions{
		Stdout: c.boolean("stdout"), Stderr: c.boolean("stderr"),
		Follow: c.boolean("follow"), Timestamps: c.boolean("timestamps"), Tail: tail(c.query.Get("tail")),
	}
	if !o.Stdout && !o.Stderr {
		return errdefs.New(errdefs.Invalid, "must specify at least one of 'stdout' or 'stderr'")
	}
	var err error
	if o.Since, err = c.moment("since"); err != nil {
		return err
	}
	if o.Until, err = c.moment("until"); err != nil {
		return err
	}
	after, inside, err := resumedLogs(c.query.Get(resumeLogs))
	if err != nil {
		return err
	}
	o.After = after
	stream, err := h.s.Streams.Logs(c.Context(), c.name, o)
	if err != nil {
		return err
	}
	defer func() { _ = stream.Close() }()
	contentType := types.MediaTypeMultiplexedStream
	if stream.TTY {
		contentType = types.MediaTypeRawStream
	}
	c.w.Header().Set("Content-Type", contentType)
	c.w.WriteHeader(http.StatusOK)
	lw := logWriter{w: c.w, mux: !stream.TTY, stamps: o.Timestamps, inside: inside, last: after, leave: h.leaving.begun}
	err = lw.copy(c.Context(), stream)
	if errors.Is(err, errLeaving) {
		q := maps.Clone(c.query)
		if lw.last != (logs.Position{}) {
			q.Set(resumeLogs, lw.position())
		}
		return h.leaving.carry(c, "/containers/"+stream.ID+"/logs", q)
	}
	return err
}

// tail reads how many lines from the end are wanted. As in Docker, what is no
// number means all of them.
func tail(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return -1
	}
	return n
}

// logWriter writes the entries of a log to a client.
type logWriter struct {
	w      http.ResponseWriter
	mux    bool
	stamps bool
	inside [2]bool       // a line of stdout, stderr, is not at its end yet
	last   logs.Position // behind what was written last
	leave  <-chan struct{}
	buf    []byte
}

// position tells where another handler is to go on.
func (l *logWriter) position() string {
	return fmt.Sprintf("%d.%d.%t.%t", l.last.Segment, l.last.Offset, l.inside[0], l.inside[1])
}

// resumedLogs reads what position has written.
func resumedLogs(s string) (after logs.Position, inside [2]bool, err error) {
	if s == "" {
		return after, inside, nil
	}
	if _, err := fmt.Sscanf(s, "%d.%d.%t.%t", &after.Segment, &after.Offset, &inside[0], &inside[1]); err != nil || after.Offset < 0 {
		return after, inside, errdefs.New(errdefs.Invalid, "invalid value for %q: %q", resumeLogs, s)
	}
	return after, inside, nil
}

// copy writes all of a stream. What has come is flushed whenever the next
// entry is not there at once, so that a follower sees each line as it comes
// and a reader of much is not slowed down.
func (l *logWriter) copy(ctx context.Context, s *container.LogStream) error {
	rc := http.NewResponseController(l.w)
	if err := rc.Flush(); err != nil {
		return err
	}
	// Whether the next entry is there can only be asked of a channel: so a
	// goroutine reads ahead.
	entries := make(chan container.LogEntry, 64)
	var readErr error
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer close(entries)
		for {
			e, err := s.Next(ctx)
			if err != nil {
				if !errors.Is(err, io.EOF) {
					readErr = err
				}
				return
			}
			e.Data = append([]byte(nil), e.Data...) // valid only until the next Next
			select {
			case entries <- e:
			case <-ctx.Done():
				readErr = ctx.Err()
				return
			}
		}
	}()
	defer func() {
		stop()
		<-ended // the stream may be closed only now
	}()
	for {
		var e container.LogEntry
		var ok bool
		select {
		case e, ok = <-entries:
		case <-l.leave:
			return errLeaving
		}
		if !ok {
			return readErr
		}
		if _, err := l.w.Write(l.format(e)); err != nil {
			return err
		}
		l.last = e.End
		if len(entries) == 0 {
			if err := rc.Flush(); err != nil {
				return err
			}
		}
	}
}

// format returns an entry as it goes over the wire. The time stands only at
// the beginning of a line, not in front of each part of a long one.
func (l *logWriter) format(e container.LogEntry) []byte {
	stream := stdout
	if e.Stderr {
		stream = stderr
	}
	n := len(e.Data)
	begins := !l.inside[stream-1]
	l.inside[stream-1] = e.Partial
	var stamp [len(stampFormat) + 2]byte
	line := stamp[:0]
	if l.stamps && begins {
		line = append(e.Time.UTC().AppendFormat(line, stampFormat), ' ')
	}
	l.buf = l.buf[:0]
	if l.mux {
		l.buf = appendHeader(l.buf, stream, len(line)+n)
	}
	l.buf = append(l.buf, line...)
	l.buf = append(l.buf, e.Data...)
	return l.buf
}
