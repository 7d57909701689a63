package container

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	api "github.com/moby/moby/api/types/container"

	"lade/internal/engine/container/launch"
	"lade/internal/engine/container/process"
	"lade/internal/engine/container/record"
	"lade/internal/engine/container/request"
	"lade/internal/shim"
)

// cleanupTimeout bounds what is done for a container that has ended.
const cleanupTimeout = time.Minute

// adopted makes the container running in memory, and watches it. sh is nil if
// only the container's process is left.
func (s *Service) adopted(ctx context.Context, c *container, st record.State, sh launch.Shim) {
	r := &run{shim: sh, ended: make(chan struct{})}
	c.mu.Lock()
	c.set(st)
	c.run = r
	c.mu.Unlock()
	ctx = context.WithoutCancel(ctx) // it ends with the container
	s.running.Go(func() { s.watch(ctx, c, r, st) })
	s.running.Go(func() { s.watchHealth(ctx, c, r) })
}

// watch waits for the end of one execution. The shim tells of it; if it died
// before its container, the process itself is the second witness.
func (s *Service) watch(ctx context.Context, c *container, r *run, st record.State) {
	sh := r.shim
	if sh != nil {
		defer sh.Close()
		select {
		case <-sh.Exited():
		case <-sh.Done():
		case <-s.quit:
			return // the shim and its container go on
		}
		if exit, ok := sh.Exit(); ok {
			s.ended(ctx, c, r, exit)
			return
		}
	}
	exit, err := shim.ReadExit(s.cfg.ExitFile(c.id))
	if err != nil {
		c.lostShim()
		if !process.AwaitEnd(s.quit, process.Open(st)) {
			return // the engine ends first
		}
		// The shim may have been writing when we looked.
		if exit, err = shim.ReadExit(s.cfg.ExitFile(c.id)); err != nil {
			exit = shim.Exit{Unknown: true, Code: record.ExitUnknown, ExitedAt: time.Now(), Error: "the exit code is unknown: the container's shim died before the container"}
		}
	}
	s.ended(ctx, c, r, exit)
}

// lostShim notes that no shim serves the container any more.
func (c *container) lostShim() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.run != nil {
		c.run.shim = nil
	}
}

// ended records the end of an execution, and cleans up after it.
func (s *Service) ended(ctx context.Context, c *container, r *run, exit shim.Exit) {
	ctx, cancel := context.WithTimeout(ctx, cleanupTimeout)
	defer cancel()
	c.rec.Lock()
	def, st := c.view()
	st = decide(def, record.After(st, exit))
	if err := s.records.PutState(def, st, record.Ended(def, st)...); err != nil {
		s.log.Error("record the end of a container", "container", c.id, "err", err)
	}
	// Who asked for the exit code has it now; what follows only tidies up.
	c.mu.Lock()
	c.set(st)
	c.wake(api.WaitConditionNextExit, st)
	c.mu.Unlock()
	c.rec.Unlock()

	if err := c.op.lock(ctx); err != nil {
		s.log.Error("clean up after a container", "container", c.id, "err", err)
		close(r.ended)
		return
	}
	defer c.op.unlock()
	early := def.Ephemeral && leavesNothing(def)
	if early {
		if err := s.removeEarly(ctx, c); err != nil {
			s.log.Error("remove a container that ended", "container", c.id, "err", err)
			early = false
		}
	}
	s.awaitShim(ctx, c, r)
	if err := s.cleanup(ctx, def); err != nil {
		s.log.Error("clean up after a container", "container", c.id, "err", err)
	}
	c.mu.Lock()
	if c.run == r {
		c.run = nil
	}
	again := c.state.Status == api.StateRestarting
	c.mu.Unlock()
	close(r.ended)
	if again {
		s.startLater(ctx, c)
	}
	if def.Ephemeral {
		remove := s.removeLocked
		if early {
			remove = s.removeRest
		}
		if err := remove(ctx, c); err != nil {
			s.log.Error("remove a container that ended", "container", c.id, "err", err)
		}
	}
}

// leavesNothing reports whether nobody can tell if a container's cgroups,
// mounts and directories are gone already or go in a moment. Who waits for its
// removal is then not kept waiting for that: it takes longer than most commands
// run. What the host has lent, a file system to be unmounted or a port that the
// next container wants, is given back first.
func leavesNothing(def record.Definition) bool {
	h := def.Host
	if slices.ContainsFunc(def.Mounts, func(m request.Mount) bool { return m.Source != "" }) || len(h.Devices) > 0 ||
		len(h.PortBindings) > 0 || h.PublishAllPorts || h.CgroupParent != "" || h.Privileged || h.NetworkMode.IsUserDefined() {
		return false
	}
	if def.Networks != nil {
		for name, e := range def.Networks.EndpointsConfig {
			if api.NetworkMode(name).IsUserDefined() {
				return false // somebody may remove it next
			}
			if e != nil && (e.IPAMConfig != nil || len(e.MacAddress) > 0) {
				return false // a place in a network that the next one may ask for
			}
		}
	}
	return true
}

// awaitShim waits until the shim has removed the container and left. Where
// there is no shim to do so, it removes the container itself.
func (s *Service) awaitShim(ctx context.Context, c *container, r *run) {
	c.mu.Lock()
	sh, def := r.shim, c.def
	c.mu.Unlock()
	if sh != nil {
		select {
		case <-sh.Done():
			return
		case <-ctx.Done():
		}
	}
	if err := s.launcher.Delete(ctx, def); err != nil {
		s.log.Error("remove a container that its shim left", "container", c.id, "err", err)
	}
}

// cleanup gives back what a container that runs has and one that has ended
// does not: its place in the network and its bundle.
func (s *Service) cleanup(ctx context.Context, def record.Definition) error {
	s.volumes.Unmount(def)
	if s.cfg.Network != nil && launch.WantsBridge(def.Host) {
		if err := s.cfg.Network.Detach(ctx, def.ID); err != nil {
			return fmt.Errorf("leave network %s: %w", def.Host.NetworkMode, err)
		}
	}
	return os.RemoveAll(s.cfg.Bundle(def.ID))
}
