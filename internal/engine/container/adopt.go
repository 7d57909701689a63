package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"lade/internal/engine/container/launch"
	"lade/internal/engine/container/process"
	"lade/internal/engine/container/record"
	"lade/internal/errdefs"
	"lade/internal/ident"
	"lade/internal/image"
	"lade/internal/shim"
)

const (
	adoptTimeout  = 30 * time.Second
	adoptParallel = 16
)

// Adopt makes the service what its records, the shims and the kernel say it
// is: running containers are watched again, ended ones recorded, and what
// belongs to none is removed. The engine before this one may have been killed
// at any point.
func (s *Service) Adopt(ctx context.Context) error {
	all, err := s.records.Load()
	if err != nil {
		return fmt.Errorf("read the records of containers: %w", err)
	}
	found := make([]*container, len(all))
	for i, l := range all {
		found[i] = newContainer(l.Def, l.State)
		found[i].oldBoot = !l.ThisBoot
		s.table.Put(l.Def.ID, l.Def.Name, found[i])
		s.ids.Share(l.Def.IDBase)
		img := image.Image{ID: l.Def.Image.ID, Manifest: l.Def.Image.Manifest}
		img.Config.RootFS.DiffIDs = l.Def.Layers()
		if err := s.cfg.Images.Pin(ctx, l.Def.ID, img); err != nil {
			s.log.Error("keep the image of a container", "container", l.Def.ID, "err", err)
		}
	}
	if err := s.volumes.Recover(ctx, all); err != nil {
		s.log.Error("take over the volumes", "err", err)
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, adoptParallel)
	for i, l := range all {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(ctx, adoptTimeout)
			defer cancel()
			err := s.adopt(ctx, found[i], l)
			if err == nil {
				s.finishUpdate(ctx, found[i])
			} else {
				s.log.Error("adopt a container", "container", l.Def.ID, "err", err)
			}
		})
	}
	wg.Wait()
	return s.sweep(ctx)
}

// adopt finds out how one container is.
func (s *Service) adopt(ctx context.Context, c *container, l record.Loaded) error {
	started := s.begun(c.id)
	if !started && !l.State.Alive() {
		return s.settled(ctx, c, l)
	}
	if s.endKnown(l) {
		return s.foundRecorded(ctx, c, l)
	}
	for started {
		sh, err := s.cfg.Shims.Dial(ctx, s.cfg.Bundle(c.id))
		if errdefs.Is(err, errdefs.NotFound) {
			break
		}
		if err != nil {
			return err // there is one that does not speak: nothing is taken from it
		}
		if now, err := launch.Settle(ctx, sh); err == nil {
			return s.adoptShim(ctx, c, l, sh, now)
		}
		_ = sh.Close() // it leaves
	}
	// The shim is no more. It writes the exit record before it leaves.
	if exit, err := shim.ReadExit(s.cfg.ExitFile(c.id)); err == nil && !exit.ExitedAt.Before(l.State.StartedAt) {
		return s.foundEnded(ctx, c, exit)
	}
	if l.ThisBoot && l.State.Alive() {
		if f := process.Open(l.State); f != nil {
			f.Close()
			s.adopted(ctx, c, l.State, nil)
			return nil
		}
	}
	if !l.State.Alive() { // it died in the middle of a start that nobody was told of
		return errors.Join(s.launcher.Delete(ctx, l.Def), s.cleanup(ctx, l.Def), s.settled(ctx, c, l))
	}
	exit := shim.Exit{Unknown: true, Code: record.ExitUnknown, ExitedAt: time.Now(), Error: "the exit code is unknown: nobody saw the container end"}
	if !l.ThisBoot {
		exit.Error = "the exit code is unknown: the machine stopped while the container ran"
	}
	return s.foundEnded(ctx, c, exit)
}

// begun reports whether a start has left something to be looked at.
func (s *Service) begun(id string) bool {
	for _, path := range []string{s.cfg.Bundle(id), filepath.Join(s.cfg.RuntimeRoot(), id)} {
		if _, err := os.Stat(path); err == nil {
			return true
		}
	}
	return false
}

// endKnown reports whether the end that lies in the container's directory has
// been recorded: only the tidying up may be missing. A start removes what lies
// there before it does anything else.
func (s *Service) endKnown(l record.Loaded) bool {
	if l.State.Status != api.StateExited && l.State.Status != api.StateRestarting {
		return false
	}
	exit, err := shim.ReadExit(s.cfg.ExitFile(l.Def.ID))
	return err == nil && exit.ExitedAt.Equal(l.State.FinishedAt)
}

// foundRecorded tidies up after a container whose end was recorded.
func (s *Service) foundRecorded(ctx context.Context, c *container, l record.Loaded) error {
	for {
		sh, err := s.cfg.Shims.Dial(ctx, s.cfg.Bundle(c.id))
		if errdefs.Is(err, errdefs.NotFound) {
			break
		}
		if err != nil {
			return err
		}
		select {
		case <-sh.Done():
		case <-ctx.Done():
		}
		_ = sh.Close()
	}
	return errors.Join(s.launcher.Delete(ctx, l.Def), s.cleanup(ctx, l.Def), s.settled(ctx, c, l))
}

// adoptShim goes on with a shim that answers.
func (s *Service) adoptShim(ctx context.Context, c *container, l record.Loaded, sh launch.Shim, now shim.State) error {
	switch now.Status {
	case shim.StatusRunning, shim.StatusExited:
		st := l.State
		if !st.Alive() || st.PID != now.PID {
			st = record.State{Status: api.StateRunning, PID: now.PID, PIDStart: process.Began(now.PID), StartedAt: now.StartedAt.UTC(), Restarts: st.Restarts, RestartPause: st.RestartPause}
			if l.State.Status == api.StateRestarting {
				st.Restarts++
			}
			if err := s.records.PutState(l.Def, st, record.Event(l.Def, events.ActionStart)); err != nil {
				return err
			}
		}
		s.adopted(ctx, c, st, sh)
		return nil
	default:
		// It waits for a start that will not come: who asked for it is gone.
		if err := launch.EndShim(ctx, sh); err != nil {
			return err
		}
		return errors.Join(s.cleanup(ctx, l.Def), s.settled(ctx, c, l))
	}
}

// foundEnded records the end of a container that ended while no engine ran.
func (s *Service) foundEnded(ctx context.Context, c *container, exit shim.Exit) error {
	c.mu.Lock()
	var happened []events.Message
	if !c.state.Alive() { // nor was it told of that it ran
		happened = append(happened, record.Event(c.def, events.ActionStart))
	}
	c.state = decide(c.def, record.After(c.state, exit))
	st, def := c.state, c.def
	c.mu.Unlock()
	happened = append(happened, record.Ended(def, st)...)
	err := errors.Join(s.records.PutState(def, st, happened...), s.launcher.Delete(ctx, def), s.cleanup(ctx, def))
	if def.Ephemeral {
		err = errors.Join(err, s.removeLocked(ctx, c))
	}
	return err
}

// settled finishes with a container that does not run. One that was to be
// removed when it ended, and has, is removed now.
func (s *Service) settled(ctx context.Context, c *container, l record.Loaded) error {
	if l.Def.Ephemeral && l.State.Status != api.StateCreated {
		return s.removeLocked(ctx, c)
	}
	return nil
}

// sweep removes directories that belong to no container: what is left of one
// whose record was removed first.
func (s *Service) sweep(ctx context.Context) error {
	for _, dir := range []string{s.cfg.Bundle(""), s.cfg.RuntimeRoot(), s.cfg.Data("")} {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("sweep: %w", err)
		}
		for _, e := range entries {
			id := e.Name()
			if _, known := s.table.Get(id); known {
				continue
			}
			if !ident.IsID(id) {
				s.log.Warn("not a container's directory", "path", filepath.Join(dir, id))
				continue
			}
			if err := s.sweepOne(ctx, id); err != nil {
				s.log.Error("remove what belongs to no container", "container", id, "err", err)
			}
		}
	}
	return nil
}

func (s *Service) sweepOne(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, adoptTimeout)
	defer cancel()
	if s.begun(id) {
		if err := s.endShimOf(ctx, id); err != nil {
			return err
		}
		def := record.Definition{ID: id, Host: &api.HostConfig{}}
		if err := s.launcher.Delete(ctx, def); err != nil {
			s.log.Warn("remove a container without a record", "container", id, "err", err)
		}
		if s.cfg.Network != nil {
			if err := s.cfg.Network.Detach(ctx, id); err != nil {
				s.log.Warn("leave the network", "container", id, "err", err)
			}
		}
	}
	return s.removeFiles(ctx, id)
}

// endShimOf ends the shim of an id that belongs to no container, if there is one.
func (s *Service) endShimOf(ctx context.Context, id string) error {
	for {
		sh, err := s.cfg.Shims.Dial(ctx, s.cfg.Bundle(id))
		if errdefs.Is(err, errdefs.NotFound) {
			return nil
		}
		if err == nil {
			err = launch.EndShim(ctx, sh)
		}
		if err != nil {
			return fmt.Errorf("end a shim without a container: %w", err)
		}
	}
}
