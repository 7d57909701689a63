// Package terminal is what lade needs of a terminal: whether there is one, how
// large it is and when that changes, and raw mode with a way back.
//
// Raw mode is undone by the function that Raw returns. Whoever calls Raw must
// see to it that this happens on every way out, a panic included: a shell that
// is left without echo is worth a bug report.
package terminal

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"

	"golang.org/x/term"
)

// file returns the file behind a stream, if there is one and it is a terminal.
func file(stream any) (*os.File, bool) {
	f, ok := stream.(*os.File)
	if !ok || f == nil || !term.IsTerminal(int(f.Fd())) {
		return nil, false
	}
	return f, true
}

// Is reports whether a stream, a reader or a writer, is a terminal.
func Is(stream any) bool {
	_, ok := file(stream)
	return ok
}

// Size returns the rows and columns of the terminal behind a stream, or false
// if there is none or it does not say.
func Size(stream any) (rows, columns uint, ok bool) {
	f, ok := file(stream)
	if !ok {
		return 0, 0, false
	}
	w, h, err := term.GetSize(int(f.Fd()))
	if err != nil || w <= 0 || h <= 0 {
		return 0, 0, false
	}
	return uint(h), uint(w), true
}

// Raw switches the terminal behind a stream to raw mode: keys come one by one,
// unchanged and without echo, and ^C is a character. The function that it
// returns switches back; it may be called more than once and from anywhere. If
// the stream is no terminal nothing happens.
func Raw(stream any) (restore func(), err error) {
	f, ok := file(stream)
	if !ok {
		return func() {}, nil
	}
	state, err := term.MakeRaw(int(f.Fd()))
	if err != nil {
		return nil, fmt.Errorf("set the terminal to raw mode: %w", err)
	}
	return sync.OnceFunc(func() { _ = term.Restore(int(f.Fd()), state) }), nil
}

// Password reads a line from the terminal behind a stream without showing it.
// leave is called when the person interrupts, after the echo is back.
func Password(stream any, leave func()) (string, error) {
	f, ok := file(stream)
	if !ok {
		return "", errors.New("read a password: the input is no terminal")
	}
	state, err := term.GetState(int(f.Fd()))
	if err != nil {
		return "", fmt.Errorf("read a password: %w", err)
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt)
	read := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-interrupted:
			_ = term.Restore(int(f.Fd()), state)
			leave()
		case <-read:
		}
	}()
	text, err := term.ReadPassword(int(f.Fd()))
	close(read)
	signal.Stop(interrupted)
	<-watched
	if err != nil {
		return "", fmt.Errorf("read a password: %w", err)
	}
	return string(text), nil
}
