package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"lade/internal/daemon/handover"
	"lade/internal/errdefs"
	"lade/internal/server/dockerapi"
	listener "lade/internal/server/socket"
	"lade/internal/version"
)

// How long things may take at an engine's end.
const (
	// shutdownTimeout bounds how long requests may take to end when the engine
	// was told to.
	shutdownTimeout = 5 * time.Second
	// patience bounds it when another engine follows: clients do not know of it,
	// and connections that come meanwhile wait.
	patience = 10 * time.Second
	// silence bounds it for a connection on which nothing was asked.
	silence = time.Second
	// leaveTimeout bounds the whole of it, for the one that waits.
	leaveTimeout = patience + shutdownTimeout + 15*time.Second
)

// envSocketPath tells an engine that runs itself again the name of the socket
// that it passes, which it made.
const envSocketPath = "LADE_SOCKET_PATH"

// front is where clients come in.
type front struct {
	at      socket
	handler *dockerapi.Handler
	root    string          // of the engine's data
	offer   string          // where other engines ask to follow
	taken   *handover.Taken // from the engine before this one; or nil
	log     *slog.Logger
	rests   sync.WaitGroup // answers of the engine before this one
}

func offerPath(o Options) string { return filepath.Join(o.StateDir, "follow.sock") }

// follow asks the engine that runs for its clients, if it is to. It returns nil
// if there is no such engine.
func follow(o Options, log *slog.Logger) (*handover.Taken, error) {
	if !o.Follow {
		return nil, nil
	}
	taken, err := handover.Ask(offerPath(o), "laded "+version.Version, o.DataRoot)
	if errdefs.Is(err, errdefs.NotFound) {
		log.Info("there is no engine to follow")
		return nil, nil
	}
	return taken, err
}

// follower is the engine that takes over, and the socket that it was given.
type follower struct {
	*handover.Session
	socket *os.File
	path   string
}

// serve answers requests until ctx ends or another engine follows, which it returns.
func (f *front) serve(ctx context.Context, ready func()) (*follower, error) {
	listener, err := f.listen()
	if err != nil {
		return nil, err
	}
	requests, leave := context.WithCancel(context.WithoutCancel(ctx))
	defer leave()
	server := dockerapi.Server(requests, f.handler, f.log)
	var conns dockerapi.Conns
	server.ConnState = conns.Note
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	offer, err := handover.NewOffer(f.offer)
	if err != nil {
		_ = server.Close()
		return nil, err
	}
	defer offer.Close()
	f.goOn(requests)
	f.log.Info("the engine answers", "socket", listener.Addr().String(), "pid", os.Getpid())
	ready()
	var next *follower
	for next == nil && ctx.Err() == nil {
		select {
		case err := <-served:
			return nil, fmt.Errorf("serve: %w", err)
		case <-ctx.Done():
		case s := <-offer.Asked():
			next = f.give(listener, s)
		}
	}
	end := shutdownTimeout
	if next != nil {
		end = patience
	}
	over, cancel := context.WithTimeout(context.WithoutCancel(ctx), end)
	defer cancel()
	if next != nil {
		_ = listener.Close()
		// The server knows of a connection only some time after it accepted it.
		f.log.Debug("the socket is given", "accept", <-served)
		f.handler.Leave(next.Answer)
		_ = conns.Drain(over, server, silence)
	} else {
		leave() // clients that follow or wait would hold the engine
	}
	if err := server.Shutdown(over); err != nil {
		f.log.Warn("requests were cut off", "err", err)
		leave()
		_ = server.Close()
	}
	f.rests.Wait()
	f.handler.Left()
	if next != nil {
		if err := next.All(); err != nil {
			f.log.Warn("the other engine is gone", "err", err) // Run looks after it
		}
	}
	return next, nil
}

// listen returns the socket of the engine before this one, or makes one.
func (f *front) listen() (net.Listener, error) {
	if f.taken == nil {
		return f.at.listen()
	}
	socket := f.taken.Listener
	f.taken.Listener = nil // Inherit closes it
	return listener.Inherit(socket, f.taken.Path)
}

// goOn finishes the answers of the engine before this one, which may leave.
func (f *front) goOn(ctx context.Context) {
	if f.taken == nil {
		return
	}
	for _, a := range f.taken.Answers {
		f.rests.Go(func() { f.handler.Continue(ctx, a.Method, a.Target, a.Conn) })
	}
	f.taken.Answers = nil
	if err := f.taken.Serving(); err != nil {
		f.log.Warn("the engine before this one does not listen", "err", err)
	}
}

// give gives another engine the socket. It returns
// nil if that one cannot have them: then nothing has changed.
func (f *front) give(l net.Listener, s *handover.Session) *follower {
	if s.Root != f.root {
		s.Refuse(fmt.Sprintf("the engine that runs has the data root %s, not %s", f.root, s.Root))
		return nil
	}
	socket, path, err := listener.Hand(l)
	if err == nil {
		err = s.Listener(socket, path)
	}
	if err != nil {
		f.log.Warn("give the socket to another engine", "program", s.Program, "pid", s.PID, "err", err)
		s.Refuse("the engine that runs cannot give its socket away")
		return nil
	}
	f.log.Info("another engine takes over", "program", s.Program, "pid", s.PID)
	listener.Disown(l)
	return &follower{s, socket, path}
}

// Run runs an engine until ctx ends, or until another has taken over. ready is
// called once the engine answers.
func Run(ctx context.Context, o Options, log *slog.Logger, ready func()) error {
	next, err := run(ctx, o, log, ready)
	if next == nil {
		return err
	}
	if err != nil {
		log.Error("leave", "err", err) // and still: nothing of the state is in our hands
	}
	wait, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	err = next.Await(wait)
	if err == nil {
		log.Info("the other engine serves: this one leaves", "pid", next.PID)
		return nil
	}
	if ctx.Err() != nil {
		return nil // both were told to end
	}
	log.Error("the engine that was to take over does not serve: this one goes on", "err", err)
	_ = next.Close()
	return again(next.socket, next.path)
}

// again begins this program again, with a socket passed to it as systemd would.
// It returns only if it cannot.
func again(socket *os.File, path string) error {
	args := make([]string, 0, len(os.Args))
	for _, a := range os.Args {
		if a != "--follow" && a != "--follow=true" {
			args = append(args, a)
		}
	}
	env := append(os.Environ(), "LISTEN_FDS=1", "LISTEN_PID="+strconv.Itoa(os.Getpid()), envSocketPath+"="+path)
	const first = 3
	n, err := syscall.Dup(int(socket.Fd())) // without close-on-exec
	if err == nil && n != first {
		err = syscall.Dup3(n, first, 0)
	}
	if err != nil {
		return fmt.Errorf("go on: %w", err)
	}
	// Not by its name, where the program of the other engine may be by now.
	return fmt.Errorf("go on: %w", syscall.Exec("/proc/self/exe", args, env)) //nolint:gosec // this very program
}
