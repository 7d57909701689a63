// Package errdefs gives errors a class, and the advice that goes with them.
//
// A class says what kind of trouble an error is, so that a boundary can turn
// it into an HTTP status or an exit code without knowing where it came from.
// A hint is one sentence for the person who reads the message: what to do.
// Both travel through fmt.Errorf's %w. Where a caller must branch on one
// particular case, its package exports a sentinel or a type; errdefs is for
// everything else.
package errdefs

import (
	"context"
	"errors"
	"fmt"
)

// Class is a kind of trouble. The zero Class is Internal: nobody said more.
type Class uint8

// The classes, each with the HTTP status that the engine answers with.
const (
	Internal       Class = iota // 500: a fault of ours, or unknown
	NotFound                    // 404: the named object is not there
	Invalid                     // 400: the request can never work as it stands
	Conflict                    // 409: the object is not in the needed state, or the name is taken
	Denied                      // 403: refused by policy or by the kernel's permissions
	Unauthorized                // 401: no or wrong credentials
	Unavailable                 // 503: a peer or a facility cannot be reached now; trying again may help
	Exhausted                   // 507: no space, no addresses, over a limit
	NotImplemented              // 501: this machine or this version cannot do it
	NotModified                 // 304: already in the wanted state
	Cancelled                   // 499: the caller left or its deadline passed
	DataLoss                    // 500: stored or received bytes are not what they should be
)

var names = [...]string{
	"internal", "not found", "invalid", "conflict", "denied", "unauthorized",
	"unavailable", "exhausted", "not implemented", "not modified", "cancelled", "data loss",
}

// String returns the class in lower-case words.
func (c Class) String() string {
	if int(c) < len(names) {
		return names[c]
	}
	return fmt.Sprintf("class %d", uint8(c))
}

type classed struct {
	error
	class Class
}

func (e *classed) Unwrap() error { return e.error }

type hinted struct {
	error
	hint string
}

func (e *hinted) Unwrap() error { return e.error }

// New returns an error of class c. The format follows fmt.Errorf, %w included.
func New(c Class, format string, args ...any) error {
	return &classed{fmt.Errorf(format, args...), c}
}

// With returns err as an error of class c, or nil if err is nil. The outermost
// class counts.
func With(c Class, err error) error {
	if err == nil {
		return nil
	}
	return &classed{err, c}
}

// ClassOf returns the class of err. An error that was given none is Cancelled
// if it stems from a context, and Internal otherwise.
func ClassOf(err error) Class {
	if e, ok := errors.AsType[*classed](err); ok {
		return e.class
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return Cancelled
	}
	return Internal
}

// Is reports whether err is of class c.
func Is(err error, c Class) bool { return err != nil && ClassOf(err) == c }

// Hint attaches advice to err: a sentence that says what the reader can do,
// without a full stop. It returns nil if err is nil.
func Hint(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &hinted{err, fmt.Sprintf(format, args...)}
}

// HintOf returns the outermost advice attached to err, or "".
func HintOf(err error) string {
	if h, ok := errors.AsType[*hinted](err); ok {
		return h.hint
	}
	return ""
}

// Message returns err's text for a person: the message, and the advice in a
// second sentence where there is one.
func Message(err error) string {
	if err == nil {
		return ""
	}
	if h := HintOf(err); h != "" {
		return err.Error() + "; " + h
	}
	return err.Error()
}
