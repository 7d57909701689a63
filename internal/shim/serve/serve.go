// Package serve is the shim: what stands beside a container from its making
// to its end.
//
// It is one loop on one thread over everything that can happen: what the
// container prints, what clients type, what the engine asks for, a process's
// end. Nothing in the loop waits for a single one of them, so that a stuck
// client or engine holds up only what must wait for it. The OCI runtime is run
// as a program, and its end is one more event.
//
// A process (proc) has an input, one or two outputs, and clients. Output goes
// to the log and to the clients; when a client does not take it, the process
// is not read from until it does or is gone. When a process ends, what it has
// written is taken, its exit record is written, and only then is it reaped.
//
// The shim is meant to be small: a container's own memory is what the machine
// is for. It therefore avoids packages net and os/exec, keeps its buffers in
// one place, and holds nothing for connections that are idle.
package serve

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"syscall"

	"lade/internal/linux/inherit"
	"lade/internal/linux/pidfd"
	"lade/internal/linux/poll"
	"lade/internal/linux/scm"
	"lade/internal/logs"
	"lade/internal/logs/forward"
	"lade/internal/shim"
)

// Run is the whole life of the shim of a bundle. Whoever launches it holds the
// other end of the socket shim.ControlFD.
func Run(bundle string) error {
	runtime.LockOSThread()
	// What the engine was started with, a pipe of somebody's shell say, must not
	// stay open for as long as the container runs, nor get into it.
	if err := errors.Join(inherit.Discard(shim.ControlFD+1), inherit.Nothing(shim.ControlFD)); err != nil {
		return err
	}
	cfg, err := shim.ReadConfig(bundle)
	if err != nil {
		return err
	}
	// All of the bundle's files are named relative to it from here on.
	if err := os.Chdir(cfg.Bundle); err != nil {
		return fmt.Errorf("enter bundle: %w", err)
	}
	if err := pidfd.BecomeSubreaper(); err != nil {
		return err
	}
	if err := ownMounts(cfg); err != nil {
		return err
	}
	s, err := newServer(cfg)
	if err != nil {
		return err
	}
	defer s.unmount()
	if !cfg.RootComes {
		if err := s.mountRoot(nil); err != nil {
			return err
		}
	}
	defer func() { _ = os.Remove(shim.SocketName) }()
	s.welcome(shim.ControlFD)
	s.check()
	return s.loop.run()
}

func newServer(cfg shim.Config) (*server, error) {
	l, err := newLoop()
	if err != nil {
		return nil, err
	}
	s := &server{
		cfg: cfg, loop: l, status: shim.StatusFresh,
		env:   slices.DeleteFunc(os.Environ(), shim.IsRuntimeSetting),
		peers: map[*peer]bool{}, execs: map[string]*proc{}, jobs: map[int]*job{}, killedBy: map[int]string{},
	}
	if s.log, err = logs.NewWriter(cfg.Log); err != nil {
		return nil, err
	}
	if s.forward, err = forward.Open(cfg.Forward); err != nil {
		return nil, err
	}
	if s.forward != nil {
		s.log.Tee(s.forward.Line)
	}
	s.container = &proc{
		s: s, terminal: cfg.Terminal, width: cfg.ConsoleWidth, height: cfg.ConsoleHeight,
		closeStdin: cfg.StdinOnce, log: s.log, console: -1, carrier: -1, pidfd: -1,
	}
	if err := s.catchSignals(); err != nil {
		return nil, err
	}
	if s.listener, err = scm.Listen(shim.SocketName); err != nil {
		return nil, err
	}
	return s, l.watch(s.listener, poll.In, s.accept)
}

// catchSignals keeps signals from ending the shim, and has orphans reaped. The
// signals are caught and not ignored, because what is ignored stays so in the
// programs that we run.
func (s *server) catchSignals() error {
	w, err := poll.NewWaker()
	if err != nil {
		return err
	}
	c := make(chan os.Signal, 8)
	signal.Notify(c, syscall.SIGCHLD, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2,
		syscall.SIGPIPE, syscall.SIGALRM)
	go func() {
		for sig := range c {
			if sig == syscall.SIGCHLD {
				w.Wake()
			}
		}
	}()
	return s.loop.watch(w.FD(), poll.In, func(poll.Events) {
		w.Drain()
		s.sweep()
	})
}
