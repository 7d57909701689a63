package container

import "context"

// NewLogStream returns a stream over two functions: next returns io.EOF after
// the last entry; closed is called once, by Close.
func NewLogStream(tty bool, next func(ctx context.Context) (LogEntry, error), closed func() error) *LogStream {
	return &LogStream{TTY: tty, next: next, close: closed}
}
