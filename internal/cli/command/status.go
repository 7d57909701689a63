package command

import (
	"errors"
	"fmt"
	"strings"
)

// The exit statuses of Docker's command line. Everything else that goes wrong
// is 1, and what a container's process ends with is passed on.
const (
	StatusFailed        = 1
	StatusEngine        = 125 // of run and create: lade or the engine could not
	StatusNotExecutable = 126 // the container's command cannot be executed
	StatusNoCommand     = 127 // the container's command is not there
)

// ExitError is an error that carries an exit status. Without Err nothing is printed.
type ExitError struct {
	Status int
	Err    error
}

// Error returns the message of Err.
func (e *ExitError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit status %d", e.Status)
	}
	return e.Err.Error()
}

// Unwrap returns Err.
func (e *ExitError) Unwrap() error { return e.Err }

// WithStatus returns err as an error that ends lade with status, or nil if err
// is nil. A status that err already has stays.
func WithStatus(status int, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*ExitError](err); ok {
		return err
	}
	return &ExitError{Status: status, Err: err}
}

// ExitStatus returns what lade ends with for an error, nil included.
func ExitStatus(err error) int {
	if err == nil {
		return 0
	}
	if e, ok := errors.AsType[*ExitError](err); ok {
		return e.Status
	}
	return StatusFailed
}

// StartStatus returns the exit status for an error of starting a process in a
// container: what a shell would end with if the command is to blame, and
// otherwise the status given. The engine passes the runtime's message on, and
// the phrases are the kernel's.
func StartStatus(err error, otherwise int) int {
	text := err.Error()
	switch {
	case strings.Contains(text, "executable file not found"), strings.Contains(text, "no such file or directory"):
		return StatusNoCommand
	case strings.Contains(text, "permission denied"), strings.Contains(text, "is a directory"),
		strings.Contains(text, "exec format error"):
		return StatusNotExecutable
	}
	return otherwise
}

// UsageError is an error in how a command was called. It is printed with the
// command's usage line.
type UsageError struct {
	Err error
}

// Error returns the message.
func (e *UsageError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *UsageError) Unwrap() error { return e.Err }
