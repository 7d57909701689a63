// Package handover gives an engine's clients from one process to the next: the
// socket that it listens on, and the answers that are not at their end.
//
// The engine that runs offers itself at a socket in its state directory. The one
// that is to follow asks there, and is sent, one message each: the listening
// socket, then any number of answers with their connections, then that this was
// all. Then it waits for the lock on the state directory, as any engine does, and
// says when it serves. Until then the first process is still there, without any
// state in its hands: if the follower dies, it begins again (see Session.Await).
//
// Connections that clients make meanwhile wait in the listening socket.
//
// A message is a packet of JSON, with at most one descriptor. The language is
// frozen from version 1: a type that the other does not know is passed over.
package handover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"lade/internal/errdefs"
)

// Version of the language.
const Version = 1

// maxMessage bounds a packet: an answer's URL is the largest part, and as large
// as a request's head may be.
const maxMessage = 300 << 10

// answerTimeout bounds how long an engine may take to answer the first message.
const answerTimeout = 10 * time.Second

// Types of messages.
const (
	ask      = "ask"      // the follower begins; Version, PID, Program, Root
	refused  = "refused"  // Message says why
	listener = "listener" // Path; the descriptor is the socket
	answer   = "answer"   // Method, Target; the descriptor is the client's connection
	all      = "all"      // that was all; the lock will be free
	serving  = "serving"  // the follower answers clients
)

// message is a packet. Fields are added, never changed.
type message struct {
	Type    string `json:"type"`
	Version int    `json:"version,omitempty"`
	PID     int    `json:"pid,omitempty"`
	Program string `json:"program,omitempty"` // name and version, for people
	Root    string `json:"root,omitempty"`    // the engine's data root
	Message string `json:"message,omitempty"`
	Path    string `json:"path,omitempty"`
	Method  string `json:"method,omitempty"`
	Target  string `json:"target,omitempty"`
}

// link is one end of the conversation.
type link struct {
	mu   sync.Mutex // held while a packet is written
	conn *net.UnixConn
	buf  []byte
}

func (l *link) send(m message, file *os.File) error {
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(data) > maxMessage {
		return fmt.Errorf("message of %d bytes", len(data))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if file == nil {
		_, err = l.conn.Write(data)
		return err
	}
	// Not by Fd, which would make reads and writes of whoever shares the socket
	// wait in the kernel.
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	errControl := raw.Control(func(fd uintptr) {
		_, _, err = l.conn.WriteMsgUnix(data, syscall.UnixRights(int(fd)), nil)
	})
	return errors.Join(errControl, err)
}

// receive returns the next message. io.EOF says that the other end is gone.
func (l *link) receive() (message, *os.File, error) {
	if l.buf == nil {
		l.buf = make([]byte, maxMessage)
	}
	oob := make([]byte, syscall.CmsgSpace(4*4))
	n, oobn, flags, _, err := l.conn.ReadMsgUnix(l.buf, oob)
	if err != nil {
		return message{}, nil, err
	}
	files := rights(oob[:oobn])
	if n == 0 {
		closeAll(files)
		return message{}, nil, io.EOF
	}
	var m message
	if err := json.Unmarshal(l.buf[:n], &m); err != nil || flags&(syscall.MSG_TRUNC|syscall.MSG_CTRUNC) != 0 || len(files) > 1 {
		closeAll(files)
		return message{}, nil, fmt.Errorf("message that is none: %.60q", l.buf[:n])
	}
	if len(files) == 0 {
		return m, nil, nil
	}
	return m, files[0], nil
}

func rights(oob []byte) (files []*os.File) {
	msgs, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for i := range msgs {
		fds, err := syscall.ParseUnixRights(&msgs[i])
		if err != nil {
			continue
		}
		for _, fd := range fds {
			syscall.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "handed over"))
		}
	}
	return files
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// Offer is an engine that may be followed.
type Offer struct {
	l        *net.UnixListener
	sessions chan *Session
	ended    chan struct{}
}

// NewOffer listens at path, where nobody does: the engine has the lock on the
// directory that it is in.
func NewOffer(path string) (*Offer, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("offer the engine to a follower: %w", err)
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err == nil {
		err = os.Chmod(path, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("offer the engine to a follower: %w", err)
	}
	o := &Offer{l: l, sessions: make(chan *Session), ended: make(chan struct{})}
	go o.accept()
	return o, nil
}

// Asked yields a follower, the first that asks.
func (o *Offer) Asked() <-chan *Session { return o.sessions }

// Close withdraws the offer.
func (o *Offer) Close() error {
	close(o.ended)
	return o.l.Close()
}

func (o *Offer) accept() {
	for {
		conn, err := o.l.AcceptUnix()
		if err != nil {
			return
		}
		go o.greet(&link{conn: conn})
	}
}

// greet hears what a follower wants.
func (o *Offer) greet(l *link) {
	_ = l.conn.SetDeadline(time.Now().Add(answerTimeout))
	m, f, err := l.receive()
	if f != nil {
		_ = f.Close()
	}
	if err != nil || m.Type != ask {
		_ = l.conn.Close()
		return
	}
	_ = l.conn.SetDeadline(time.Time{})
	s := &Session{link: l, PID: m.PID, Program: m.Program, Root: m.Root}
	select {
	case o.sessions <- s:
	case <-o.ended:
		s.Refuse("the engine is ending")
	}
}

// Session is an engine's conversation with its follower.
type Session struct {
	link    *link
	PID     int    // of the follower, as it says
	Program string // as it says
	Root    string // its data root
}

// Refuse ends the conversation, and tells the follower why.
func (s *Session) Refuse(why string) {
	_ = s.link.send(message{Type: refused, Message: why}, nil)
	_ = s.link.conn.Close()
}

// Listener gives the socket that clients connect to; path is its name, if that
// is to be removed with it.
func (s *Session) Listener(f *os.File, path string) error {
	return s.link.send(message{Type: listener, Path: path}, f)
}

// Answer gives an answer that is not at its end.
func (s *Session) Answer(method, target string, conn *os.File) error {
	return s.link.send(message{Type: answer, Method: method, Target: target}, conn)
}

// All says that this was all.
func (s *Session) All() error { return s.link.send(message{Type: all}, nil) }

// Await waits until the follower serves. An error says that it will not: then
// its predecessor has to go on.
func (s *Session) Await(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { _ = s.link.conn.SetDeadline(time.Unix(1, 0)) })()
	for {
		m, f, err := s.link.receive()
		if f != nil {
			_ = f.Close()
		}
		if err != nil {
			return fmt.Errorf("wait until process %d serves: %w", s.PID, err)
		}
		if m.Type == serving {
			return nil
		}
	}
}

// Close ends the conversation.
func (s *Session) Close() error { return s.link.conn.Close() }

// Answer is one that an engine did not finish.
type Answer struct {
	Method, Target string
	Conn           net.Conn
}

// Taken is what a follower was given.
type Taken struct {
	link     *link
	Listener *os.File
	Path     string // of the listener, if it has one that is to be removed with it
	Answers  []Answer
}

// Ask asks the engine at path for its clients, as program with a data root. If
// there is none, the error is of class NotFound.
func Ask(path, program, root string) (*Taken, error) {
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, errdefs.New(errdefs.NotFound, "no engine offers itself at %s", path)
	}
	if err != nil {
		return nil, fmt.Errorf("follow the engine at %s: %w", path, err)
	}
	t := &Taken{link: &link{conn: conn}}
	err = t.link.send(message{Type: ask, Version: Version, PID: os.Getpid(), Program: program, Root: root}, nil)
	for done := false; err == nil && !done; {
		done, err = t.next()
	}
	if err == nil && t.Listener == nil {
		err = errors.New("it gave no socket")
	}
	if err != nil {
		_ = t.Close()
		return nil, fmt.Errorf("follow the engine at %s: %w", path, err)
	}
	return t, nil
}

// next takes one message.
func (t *Taken) next() (done bool, err error) {
	m, f, err := t.link.receive()
	if err != nil {
		return false, err
	}
	switch {
	case m.Type == refused:
		return false, errdefs.New(errdefs.Conflict, "%s", m.Message)
	case m.Type == all:
		return true, nil
	case f == nil:
		return false, nil
	case m.Type == listener && t.Listener == nil:
		t.Listener, t.Path = f, m.Path
		return false, nil
	case m.Type == answer:
		if c, err := net.FileConn(f); err == nil {
			t.Answers = append(t.Answers, Answer{m.Method, m.Target, c})
		}
	}
	return false, f.Close()
}

// Serving says that clients are answered. The predecessor ends then.
func (t *Taken) Serving() error { return t.link.send(message{Type: serving}, nil) }

// Close lets go of what was given and ends the conversation. The answers are
// not broken off here if they were set to nil.
func (t *Taken) Close() error {
	err := t.link.conn.Close()
	if t.Listener != nil {
		err = errors.Join(err, t.Listener.Close())
	}
	for _, a := range t.Answers {
		err = errors.Join(err, a.Conn.Close())
	}
	return err
}
