package container

import (
	"context"
	"fmt"
	"strconv"
	"syscall"
	"time"

	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"lade/internal/engine/container/launch"
	"lade/internal/engine/container/process"
	"lade/internal/engine/container/record"
	"lade/internal/engine/container/request"
	"lade/internal/errdefs"
)

// killTimeout is how long a container may take to end after SIGKILL: only
// a process that hangs in the kernel takes longer.
const killTimeout = 30 * time.Second

// Kill sends a signal, by name or number; empty means SIGKILL.
func (s *Service) Kill(ctx context.Context, ref, signal string) error {
	sig := int(syscall.SIGKILL)
	if signal != "" {
		var err error
		if sig, err = request.ParseSignal(signal); err != nil {
			return err
		}
	}
	c, err := s.lookup(ref)
	if err != nil {
		return err
	}
	def, st := c.view()
	ends := sig == int(syscall.SIGKILL)
	if own, _, err := request.StopParams(def.Config, "", nil); err == nil && sig == own {
		ends = true
	}
	if ends {
		if done, err := s.giveUp(ctx, c); done || err != nil {
			return err
		}
		if err := s.stopped(c); err != nil {
			return err
		}
	}
	if !st.Alive() {
		return errdefs.New(errdefs.Conflict, "cannot kill container: %s: container %s is not running", ref, def.ID)
	}
	if err := s.signal(ctx, c, sig, "client"); err != nil {
		return fmt.Errorf("cannot kill container: %s: %w", ref, err)
	}
	if r := c.current(); r != nil && st.Status == api.StatePaused && sig == int(syscall.SIGKILL) {
		return s.killRun(ctx, c, r) // it dies when it thaws, which the runtime may have seen to
	}
	return nil
}

// signal sends sig to the container's first process.
func (s *Service) signal(ctx context.Context, c *container, sig int, by string) error {
	c.mu.Lock()
	r, st, def := c.run, c.state, c.def
	var sh launch.Shim
	if r != nil {
		sh = r.shim
	}
	c.mu.Unlock()
	switch {
	case r == nil || !st.Alive():
		return errdefs.New(errdefs.Conflict, "container %s is not running", c.id)
	}
	// Told before it is sent: what it brings about is told at once.
	s.records.Say(record.Event(def, events.ActionKill, "signal", strconv.Itoa(sig)))
	if sh == nil {
		return process.Signal(st, sig)
	}
	return sh.Signal(ctx, sig, by)
}

// Stop asks a container to end, and kills it if it takes too long. One that
// does not run is an error of class NotModified.
func (s *Service) Stop(ctx context.Context, ref string, o StopOptions) error {
	c, err := s.lookup(ref)
	if err != nil {
		return err
	}
	if done, err := s.giveUp(ctx, c); done || err != nil {
		return err
	}
	r := c.current()
	def, st := c.view()
	if r == nil || !st.Alive() {
		return errdefs.New(errdefs.NotModified, "container %s is already stopped", def.Name)
	}
	return s.stopRun(ctx, c, r, o)
}

// stopRun stops one execution of c.
func (s *Service) stopRun(ctx context.Context, c *container, r *run, o StopOptions) error {
	def, st := c.view()
	sig, timeout, err := request.StopParams(def.Config, o.Signal, o.Timeout)
	if err != nil {
		return err
	}
	if err := s.stopped(c); err != nil {
		return err
	}
	if st.Status == api.StatePaused {
		if err := s.Unpause(ctx, c.id); err != nil {
			return err
		}
	}
	// A signal that cannot be sent is no reason to let it run: it is killed below.
	if err := s.signal(ctx, c, sig, "stop"); err != nil {
		s.log.Warn("signal a container", "container", c.id, "err", err)
		timeout = min(timeout, 2*time.Second)
	}
	var expired <-chan time.Time // never, where there is no limit
	if timeout >= 0 {
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		expired = timer.C
	}
	// What was asked for is done, and in no more haste, when the client leaves.
	select {
	case <-r.ended:
	case <-s.quit:
		return errdefs.New(errdefs.Unavailable, "the engine stops; container %s was signalled", c.id)
	case <-expired:
		if err := s.killRun(context.WithoutCancel(ctx), c, r); err != nil {
			return err
		}
	}
	s.records.Say(record.Event(def, events.ActionStop))
	return nil
}

// killRun kills one execution of c and waits for its end.
func (s *Service) killRun(ctx context.Context, c *container, r *run) error {
	ctx, cancel := context.WithTimeout(ctx, killTimeout)
	defer cancel()
	if err := s.stopped(c); err != nil {
		return err
	}
	err := s.signal(ctx, c, int(syscall.SIGKILL), "stop")
	if _, st := c.view(); st.Status == api.StatePaused {
		_ = s.Unpause(ctx, c.id) // a frozen process dies when it thaws
	}
	select {
	case <-r.ended:
		return nil
	case <-ctx.Done():
		if err == nil {
			err = context.Cause(ctx)
		}
		return errdefs.Hint(errdefs.New(errdefs.Unavailable, "container %s does not end after SIGKILL: %w", c.id, err), "a process may hang in the kernel; see its stack under /proc")
	}
}

// Restart stops a container, if it runs, and starts it.
func (s *Service) Restart(ctx context.Context, ref string, o StopOptions) error {
	c, err := s.lookup(ref)
	if err != nil {
		return err
	}
	def, _ := c.view()
	if _, _, err := request.StopParams(def.Config, o.Signal, o.Timeout); err != nil {
		return err
	}
	if _, err := s.giveUp(ctx, c); err != nil {
		return err
	}
	if r := c.current(); r != nil {
		if err := s.stopRun(ctx, c, r, o); err != nil {
			return err
		}
	}
	c, err = s.acquire(ctx, c.id)
	if err != nil {
		return err
	}
	defer c.op.unlock()
	err = s.startLocked(ctx, c)
	if errdefs.Is(err, errdefs.NotModified) {
		return nil // somebody else started it
	}
	if err == nil {
		s.records.Say(record.Event(def, events.ActionRestart))
	}
	return err
}
