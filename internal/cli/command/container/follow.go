package container

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"

	"lade/client"
	"lade/internal/cli/command"
	"lade/internal/errdefs"
)

// follower follows a container's log across restarts of the engine: no line is
// missing and none comes twice. It asks for timestamps even where nobody wants
// to see them. When the stream breaks off, it asks the next engine for all from
// the last timestamp on, and leaves out what it has shown since: as many frames,
// since the engine sends each record of the log as one frame, in their order.
type follower struct {
	env  *command.Env
	c    *client.Client
	id   string
	opts client.LogsOptions // as the person asked

	last   time.Time // the timestamp of the last line that had begun
	shown  int       // frames shown since that timestamp came first
	inside [3]bool   // by stream: the last frame was not the end of its line
	frame  []byte
}

// stampLen is the length of a timestamp and the blank after it: nanoseconds
// with all their zeros, in UTC.
const stampLen = len("2006-01-02T15:04:05.000000000Z ")

// maxFrame bounds what is believed to be a frame.
const maxFrame = 64 << 20

func (f *follower) run(ctx context.Context) error {
	o := f.opts
	o.Timestamps = true
	began := time.Now()
	for attempt := 0; ; attempt++ {
		body, err := f.c.Logs(ctx, f.id, o)
		if err == nil {
			before := f.shown
			err = f.show(body)
			body.Close()
			if f.shown != before {
				attempt = 0
			}
			if err == nil && !f.runs(ctx) {
				return nil // the container ended, and with it its log
			}
			// Otherwise the engine shut down in order.
		}
		lost := err == nil || errors.Is(err, client.ErrConnection)
		if errdefs.Is(err, errdefs.NotFound) && !f.last.IsZero() {
			return errdefs.New(errdefs.NotFound, "the engine was restarted, and container %.12s is gone: the end of its log was not seen", f.id)
		}
		if !lost || attempt >= waitAttempts {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(waitPause << attempt):
		}
		switch {
		case !f.last.IsZero():
			o.Tail, o.Since = "all", fmt.Sprintf("%d.%09d", f.last.Unix(), f.last.Nanosecond())
		case o.Tail == "0": // what came meanwhile is new all the same
			o.Tail, o.Since = "all", fmt.Sprintf("%d.%09d", began.Unix(), began.Nanosecond())
		}
	}
}

func (f *follower) runs(ctx context.Context) bool {
	info, err := f.c.InspectContainer(ctx, f.id)
	return errors.Is(err, client.ErrConnection) || err == nil && info.State != nil && info.State.Running
}

// show shows a stream up to its end. An error of the connection wraps
// client.ErrConnection.
func (f *follower) show(r io.Reader) error {
	skip, again := f.shown, !f.last.IsZero()
	for first := true; ; first = false {
		kind, data, err := f.next(r)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if first && again {
			if at, ok := stamp(data); !ok || !at.Equal(f.last) {
				skip = 0 // what was shown is no longer in the log
			}
		}
		if again && skip > 0 {
			skip--
			continue
		}
		if err := f.write(kind, data); err != nil {
			return err
		}
	}
}

// next reads a frame. One that breaks off was not shown, and comes again.
func (f *follower) next(r io.Reader) (stdcopy.StdType, []byte, error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return 0, nil, io.EOF
		}
		return 0, nil, lostLog(err)
	}
	n := binary.BigEndian.Uint32(head[4:])
	if head[0] > byte(stdcopy.Systemerr) || n > maxFrame {
		return 0, nil, errdefs.New(errdefs.DataLoss, "the engine sent what is no frame of a log")
	}
	if int(n) > cap(f.frame) {
		f.frame = make([]byte, n)
	}
	f.frame = f.frame[:n]
	if _, err := io.ReadFull(r, f.frame); err != nil {
		return 0, nil, lostLog(err)
	}
	return stdcopy.StdType(head[0]), f.frame, nil
}

func lostLog(err error) error {
	return errdefs.New(errdefs.Unavailable, "%w: %w", client.ErrConnection, err)
}

func (f *follower) write(kind stdcopy.StdType, data []byte) error {
	w := f.env.Out
	switch kind {
	case stdcopy.Stderr:
		w = f.env.Err
	case stdcopy.Systemerr:
		return errors.New(string(bytes.TrimSpace(data)))
	case stdcopy.Stdin, stdcopy.Stdout:
	}
	text := data
	if at, ok := stamp(data); ok && !f.inside[kind] {
		if !at.Equal(f.last) {
			f.last, f.shown = at, 0
		}
		if !f.opts.Timestamps {
			text = data[stampLen:]
		}
	}
	f.shown++
	f.inside[kind] = !bytes.HasSuffix(data, []byte("\n"))
	_, err := w.Write(text)
	return err
}

// stamp reads the timestamp at the beginning of a line.
func stamp(line []byte) (time.Time, bool) {
	if len(line) < stampLen || line[stampLen-1] != ' ' {
		return time.Time{}, false
	}
	t, err := time.Parse(time.RFC3339Nano, string(line[:stampLen-1]))
	return t, err == nil
}
