package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	api "github.com/moby/moby/api/types/container"

	"lade/internal/atomicfile"
	"lade/internal/errdefs"
	"lade/internal/linux/mount"
	"lade/internal/logs"
	"lade/internal/shim"
	"lade/internal/snapshot"

	"lade/internal/engine/container/pending"
	"lade/internal/engine/container/record"
	"lade/internal/engine/container/request"
	"lade/internal/engine/container/users"
)

// startTimeout bounds a start. A start that was asked for goes on when the
// client leaves, so it needs a bound of its own.
const startTimeout = 2 * time.Minute

// undoTimeout bounds what puts things back after a start that did not succeed.
const undoTimeout = 20 * time.Second

// Start starts a container. One that runs is an error of class NotModified.
func (s *Service) Start(ctx context.Context, ref string) error {
	c, err := s.acquire(ctx, ref)
	if err != nil {
		return err
	}
	defer c.op.unlock()
	return s.startLocked(ctx, c)
}

// startLocked starts c, whose operation lock is held.
func (s *Service) startLocked(ctx context.Context, c *container) error {
	def, st := c.view()
	switch st.Status {
	case api.StatePaused:
		return errdefs.New(errdefs.Conflict, "cannot start a paused container, try unpause instead")
	case api.StateRunning:
		return errdefs.New(errdefs.NotModified, "container %s is already running", def.Name)
	case api.StateDead, api.StateRemoving:
		return errdefs.New(errdefs.Conflict, "container is marked for removal and cannot be started")
	default:
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), startTimeout)
	defer cancel()
	err := s.launch(ctx, c, def)
	if err == nil {
		return nil
	}
	s.startFailed(ctx, c, def, err)
	return errdefs.Hint(errdefs.With(classOfStart(err), fmt.Errorf("start container %s: %w", def.Name, err)), "%s", errdefs.HintOf(err))
}

// classOfStart is Invalid for what the image or the request is to blame for.
func classOfStart(err error) errdefs.Class {
	if c := errdefs.ClassOf(err); c != errdefs.Internal {
		return c
	}
	if exitCodeOfStart(err) != 128 {
		return errdefs.Invalid
	}
	return errdefs.Internal
}

// exitCodeOfStart is what a shell would say, by the phrases that OCI runtimes
// use and Docker's client looks for.
func exitCodeOfStart(err error) int {
	text := err.Error()
	for _, p := range []string{"executable file not found", "no such file or directory", "cannot find the file"} {
		if strings.Contains(text, p) {
			return 127
		}
	}
	for _, p := range []string{"permission denied", "not a directory", "is a directory"} {
		if strings.Contains(text, p) {
			return 126
		}
	}
	return 128
}

// startFailed records why a container did not start, lets waiting clients go,
// and removes a container that was to be removed when it ends.
func (s *Service) startFailed(ctx context.Context, c *container, def record.Definition, cause error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	c.mu.Lock()
	c.state.Error = cause.Error()
	c.state.ExitCode = exitCodeOfStart(cause)
	st := c.state
	c.mu.Unlock()
	c.pending.Drop()
	if err := s.records.PutState(def, st); err != nil {
		s.log.Error("record a failed start", "container", def.ID, "err", err)
	}
	if def.Ephemeral {
		if err := s.removeLocked(ctx, c); err != nil {
			s.log.Error("remove a container that did not start", "container", def.ID, "err", err)
		}
	}
}

// launch takes a container from its definition to a running process. Whatever
// it took is given back if it does not succeed.
func (s *Service) launch(ctx context.Context, c *container, def record.Definition) (err error) {
	var undo undoList
	defer func() {
		if err != nil {
			undo.run(context.WithoutCancel(ctx), s.log.With("container", def.ID))
		}
	}()
	// Nothing of an earlier execution may be taken for this one's.
	if err := removeIfThere(s.exitFile(def.ID)); err != nil {
		return err
	}
	if err := os.MkdirAll(s.dataDir(def.ID), 0o700); err != nil {
		return fmt.Errorf("make the container's directory: %w", err)
	}
	undo.add("remove the bundle", func(context.Context) error { return os.RemoveAll(s.bundle(def.ID)) })
	root, err := s.cfg.Snapshots.Prepare(def.ID, def.Image.DiffIDs, snapshot.PrepareOptions{Volatile: def.Ephemeral, UIDMap: idMaps(def.IDBase), GIDMap: idMaps(def.IDBase)})
	if err != nil {
		return fmt.Errorf("prepare the root file system: %w", err)
	}
	if err := s.makeBundle(def); err != nil {
		return err
	}
	bridge := s.cfg.Network != nil && wantsBridge(def.Host)
	clients := c.pending.Take(ctx)
	sh, err := s.cfg.Shims.Launch(ctx, s.shimConfig(def, root, !bridge), clients)
	pending.Close(clients)
	if err != nil {
		return err
	}
	undo.add("end the shim", func(ctx context.Context) error { return endShim(ctx, sh) })
	pid, err := s.furnish(ctx, def, &root, sh)
	if err != nil {
		return err
	}
	st := record.State{Status: api.StateRunning, PID: pid, PIDStart: processStart(pid), StartedAt: time.Now().UTC()}
	if bridge {
		undo.add("leave the network", func(ctx context.Context) error { return s.cfg.Network.Detach(ctx, def.ID) })
		if st.Endpoint, err = s.connect(ctx, def, pid); err != nil {
			return err
		}
		if err := sh.Start(ctx); err != nil {
			return err
		}
	}
	_, old := c.view()
	st.Restarts = old.Restarts
	if err := s.records.PutState(def, st); err != nil {
		return err
	}
	s.adopted(ctx, c, st, sh)
	c.attachLate(ctx, sh)
	return nil
}

// connect gives a container its place in the network, and the place its name.
func (s *Service) connect(ctx context.Context, def record.Definition, pid int) (*Endpoint, error) {
	e, err := s.cfg.Network.Attach(ctx, def.ID, pid)
	if err != nil {
		return nil, fmt.Errorf("connect to network %s: %w", def.Host.NetworkMode, err)
	}
	return &e, s.nameAddress(def, e)
}

// makeBundle makes what must be there before the shim starts.
func (s *Service) makeBundle(def record.Definition) error {
	if err := makeSources(def.Mounts); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(s.bundle(def.ID), shim.RootName), 0o700); err != nil {
		return fmt.Errorf("make the bundle: %w", err)
	}
	return nil
}

// furnish makes what a container needs, while its shim starts, and then the
// container. It returns the first process.
func (s *Service) furnish(ctx context.Context, def record.Definition, r *mount.Root, sh Shim) (int, error) {
	if err := s.writeFiles(def); err != nil {
		return 0, err
	}
	root, err := s.openRoot(def, r, sh)
	if err != nil {
		return 0, err
	}
	defer root.Close()
	if err := s.writeConfig(def, root); err != nil {
		return 0, err
	}
	if s.cfg.Roots == nil {
		return sh.Create(ctx, nil) // it has its root
	}
	return sh.Create(ctx, root)
}

// openRoot opens the root of a container that is being made.
func (s *Service) openRoot(def record.Definition, r *mount.Root, sh Shim) (*os.File, error) {
	if s.cfg.Roots == nil {
		return users.MountedRoot(sh.PID(), s.bundle(def.ID))
	}
	root, err := s.cfg.Roots(r)
	if err != nil {
		return nil, fmt.Errorf("prepare the root file system: %w", err)
	}
	return root, nil
}

// writeConfig writes the OCI configuration into the bundle. The image's users
// are looked up in the root.
func (s *Service) writeConfig(def record.Definition, root *os.File) error {
	who, err := users.Resolve(root, def.Config.User, def.Host.GroupAdd)
	if err != nil {
		return err
	}
	config, err := s.ociConfig(def, who)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(config)
	if err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(s.bundle(def.ID), "config.json"), raw, atomicfile.Options{})
}

func (s *Service) shimConfig(def record.Definition, root mount.Root, now bool) shim.Config {
	rt := s.runtime(def.Host.Runtime)
	size, _ := request.LogSize(def.Host.LogConfig) // checked at create
	return shim.Config{
		Version: 1, ID: def.ID, Bundle: s.bundle(def.ID), Runtime: rt.Program, RuntimeArgs: rt.Args, RuntimeRoot: s.runtimeRoot(),
		Root: &root, RootComes: s.cfg.Roots != nil, Terminal: def.Config.Tty, Stdin: def.Config.OpenStdin, StdinOnce: def.Config.StdinOnce, StartNow: now,
		Log:          logs.Config{Dir: s.logDir(def.ID), MaxBytes: size, None: def.Host.LogConfig.Type == "none"},
		ExitFile:     s.exitFile(def.ID),
		ConsoleWidth: uint16(min(def.Host.ConsoleSize[1], 1<<16-1)), ConsoleHeight: uint16(min(def.Host.ConsoleSize[0], 1<<16-1)),
	}
}

// checkSources refuses a missing source of --mount, as Docker does at create.
func checkSources(mounts []request.Mount) error {
	for _, m := range mounts {
		if m.Source == "" || m.MakeSource {
			continue
		}
		if _, err := os.Stat(m.Source); errors.Is(err, fs.ErrNotExist) {
			return errdefs.New(errdefs.Invalid, "invalid mount config for type %q: bind source path does not exist: %s", m.Type, m.Source)
		}
	}
	return nil
}

// makeSources makes the missing directories that -v names.
func makeSources(mounts []request.Mount) error {
	for _, m := range mounts {
		if m.Source == "" || !m.MakeSource {
			continue
		}
		if _, err := os.Stat(m.Source); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := os.MkdirAll(m.Source, 0o755); err != nil {
			return errdefs.New(errdefs.Invalid, "make the source of mount %s: %w", m.Target, err)
		}
	}
	return nil
}

// endShim kills what a shim has started, and waits until the shim has left.
// Before Create, a shim leaves when its connection ends; after it, when the
// container has ended or was never made.
func endShim(ctx context.Context, sh Shim) error {
	process := openPID(sh.PID())          // before the id can come to mean another one
	_ = sh.Signal(ctx, sigkill, "engine") // there may be no process yet
	_ = sh.Close()
	if !awaitEnd(ctx.Done(), process) {
		return errdefs.New(errdefs.Unavailable, "the shim does not leave: %w", context.Cause(ctx))
	}
	return nil
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
