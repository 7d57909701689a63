package container

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/moby/moby/api/types/container"

	"lade/client"
	"lade/internal/cli/attach"
	"lade/internal/cli/command"
	"lade/internal/cli/terminal"
	"lade/internal/errdefs"
)

// session is a person's connection to a container's first process, from before
// the start to the exit code.
type session struct {
	env        *command.Env
	c          *client.Client
	id         string
	streams    attach.Streams
	autoRemove bool
}

// run attaches, starts the container, copies until it ends, and returns its
// exit code as an error. Attaching and waiting come first, so that neither the
// first byte nor the fastest exit is missed.
func (s *session) run(ctx context.Context, sigProxy bool, detachKeys string) error {
	restore, err := s.streams.Raw()
	if err != nil {
		return err
	}
	defer restore()
	started := make(chan struct{})
	if sigProxy {
		stop := s.forward(ctx, started, restore)
		defer stop()
	}
	for attempt := 0; ; attempt++ {
		stream, wait, err := s.begin(ctx, detachKeys)
		if err == nil {
			close(started)
			return s.finish(ctx, stream, wait, restore)
		}
		if !errors.Is(err, client.ErrConnection) || attempt == startAttempts {
			return err
		}
	}
}

// startAttempts is how often a start is tried again with another engine.
const startAttempts = 3

// begin attaches, registers the wait and starts. If the engine dies under the
// start, the container tells whether it was started: then the stream is with
// its shim, and the wait will find that it has to be taken up again.
func (s *session) begin(ctx context.Context, detachKeys string) (*client.Stream, *client.Wait, error) {
	stream, err := s.attach(ctx, detachKeys)
	if err != nil {
		return nil, nil, err
	}
	wait, err := s.c.WaitContainer(ctx, s.id, s.condition(container.WaitConditionNextExit))
	if err != nil {
		stream.Close()
		return nil, nil, err
	}
	err = s.c.StartContainer(ctx, s.id, detachKeys)
	if errors.Is(err, client.ErrConnection) && s.wasStarted(ctx) {
		err = nil
	}
	if err != nil {
		stream.Close()
		wait.Close()
		return nil, nil, &command.ExitError{Status: command.StartStatus(err, command.StatusEngine), Err: err}
	}
	return stream, wait, nil
}

// condition is what to wait for: the removal, where there is one to come, so
// that nothing is left when the command ends.
func (s *session) condition(otherwise container.WaitCondition) container.WaitCondition {
	if s.autoRemove {
		return container.WaitConditionRemoved
	}
	return otherwise
}

// wasStarted asks the next engine whether the last one started the container.
func (s *session) wasStarted(ctx context.Context) bool {
	info, err := s.c.InspectContainer(ctx, s.id)
	return err == nil && info.State != nil && info.State.Status != container.StateCreated
}

// finish copies until the output ends or the person detaches, and returns the
// exit code as an error.
func (s *session) finish(ctx context.Context, stream *client.Stream, wait *client.Wait, restore func()) error {
	err := s.copy(ctx, stream, restore)
	restore()
	if errors.Is(err, attach.ErrDetached) {
		wait.Close()
		s.sayDetached()
		return nil
	}
	// Output that broke off is no reason to hide how the process ended.
	return exit(exitCode(ctx, s.c, s.id, wait, s.condition(container.WaitConditionNotRunning)))
}

// sayDetached leaves the line on which the container's program was writing.
func (s *session) sayDetached() {
	if terminal.Is(s.env.Err) {
		fmt.Fprintf(s.env.Err, "\ndetached; 'lade attach %.12s' comes back\n", s.id)
	}
}

// copy copies until the output ends, and keeps the terminal's size.
func (s *session) copy(ctx context.Context, stream *client.Stream, restore func()) error {
	if s.streams.TTY {
		stop := attach.FollowSize(ctx, s.env.Out, func(ctx context.Context, rows, columns uint) error {
			return s.c.ResizeContainer(ctx, s.id, rows, columns)
		})
		defer stop()
	}
	return s.streams.Copy(ctx, stream, restore)
}

func (s *session) attach(ctx context.Context, detachKeys string) (*client.Stream, error) {
	return s.c.AttachContainer(ctx, s.id, client.AttachOptions{
		Stdin: s.streams.In != nil, Stdout: s.streams.Out != nil, Stderr: s.streams.Err != nil, DetachKeys: detachKeys,
	})
}

// forward passes signals to the container. At the third interrupt lade leaves;
// the container stays, as with Docker.
func (s *session) forward(ctx context.Context, started <-chan struct{}, restore func()) (stop func()) {
	f := attach.Forward{
		Started: started,
		Kill:    func(ctx context.Context, name string) error { return s.c.KillContainer(ctx, s.id, name) },
		GiveUp: func() {
			restore()
			s.env.Leave()
		},
	}
	return f.Signals(ctx)
}

// How often a wait is taken up again with an engine that was restarted, and how
// long to let one come up that somebody else restarts.
const (
	waitAttempts = 8
	waitPause    = 50 * time.Millisecond
)

// exitCode waits for the exit code, across restarts of the engine. If the wait
// breaks off, the next engine is asked (dialling starts one if need be): it has
// adopted the container, or read its exit record. A container that was removed
// meanwhile, by --rm, took its exit code along unless the engine still
// remembers it. again is what to wait for then.
func exitCode(ctx context.Context, c *client.Client, id string, wait *client.Wait, again container.WaitCondition) (int, error) {
	code, err := wait.Result()
	lost := false
	for attempt := 0; errors.Is(err, client.ErrConnection) && attempt < waitAttempts; attempt++ {
		lost = true
		if wait, err = c.WaitContainer(ctx, id, again); err == nil {
			code, err = wait.Result()
			continue
		}
		if !errors.Is(err, client.ErrConnection) {
			break
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(waitPause << attempt):
		}
	}
	if lost && errdefs.Is(err, errdefs.NotFound) {
		return 0, errdefs.New(errdefs.DataLoss,
			"the engine was restarted while container %.12s ended and was removed; its exit code is not known", id)
	}
	if err != nil {
		return code, fmt.Errorf("wait for container %.12s: %w", id, err)
	}
	return code, nil
}

// exit returns an exit code as a command's error.
func exit(code int, err error) error {
	switch {
	case err != nil:
		return err
	case code != 0:
		return &command.ExitError{Status: code}
	}
	return nil
}
