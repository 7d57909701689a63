package launch

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
	"lade/internal/engine/container/idrange"
	"lade/internal/engine/container/logdriver"
	"lade/internal/engine/container/pending"
	"lade/internal/engine/container/process"
	"lade/internal/engine/container/record"
	"lade/internal/engine/container/request"
	"lade/internal/engine/container/users"
	"lade/internal/linux/mount"
	"lade/internal/logs"
	"lade/internal/shim"
	"lade/internal/snapshot"
)

// undoTimeout bounds what puts things back after a start that did not succeed.
const undoTimeout = 20 * time.Second

// Wanted is what a start needs of the container's keeper.
type Wanted struct {
	// Clients returns those that are connected before the first byte is written.
	Clients func(context.Context) []shim.Attach
	// Record writes down that the container runs. It comes last: if it fails,
	// the container is ended again.
	Record func(record.State) error
}

// Start takes a container from its definition to a running process. Whatever
// it took is given back if it does not succeed.
func (l *Launcher) Start(ctx context.Context, def record.Definition, w Wanted) (st record.State, _ Shim, err error) {
	var undo undoList
	defer func() {
		if err != nil {
			undo.run(context.WithoutCancel(ctx), l.log.With("container", def.ID))
		}
	}()
	// Nothing of an earlier execution may be taken for this one's.
	if err := removeIfThere(l.cfg.ExitFile(def.ID)); err != nil {
		return st, nil, err
	}
	if err := os.MkdirAll(l.cfg.Data(def.ID), 0o700); err != nil {
		return st, nil, fmt.Errorf("make the container's directory: %w", err)
	}
	undo.add("remove the bundle", func(context.Context) error { return removeBundle(l.cfg.Bundle(def.ID)) })
	root, err := l.prepare(def)
	if err != nil {
		return st, nil, fmt.Errorf("prepare the root file system: %w", err)
	}
	if err := l.makeBundle(def); err != nil {
		return st, nil, err
	}
	bridge := l.cfg.Network != nil && WantsBridge(def.Host)
	clients := w.Clients(ctx)
	sh, err := l.cfg.Shims.Launch(ctx, l.shimConfig(def, root, !bridge), clients) //nolint:contextcheck // a name server has a deadline of its own
	pending.Close(clients)
	if err != nil {
		return st, nil, err
	}
	undo.add("end the shim", func(ctx context.Context) error { return EndShim(ctx, sh) })
	pid, err := l.furnish(ctx, def, &root, sh)
	if err != nil {
		return st, nil, err
	}
	st = record.State{Status: api.StateRunning, PID: pid, PIDStart: process.Began(pid), StartedAt: time.Now().UTC()}
	if bridge {
		undo.add("leave the network", func(ctx context.Context) error { return l.cfg.Network.Detach(ctx, def.ID) })
		if err := l.connect(ctx, def, pid); err != nil {
			return st, nil, err
		}
		if err := sh.Start(ctx); err != nil {
			return st, nil, err
		}
	}
	return st, sh, w.Record(st)
}

// prepare makes the writable layer, unless it is there.
func (l *Launcher) prepare(def record.Definition) (mount.Root, error) {
	size, err := request.StorageSize(def.Host)
	if err != nil {
		return mount.Root{}, err
	}
	return l.cfg.Snapshots.Prepare(def.ID, def.Image.DiffIDs, snapshot.PrepareOptions{
		Volatile: def.Ephemeral, Size: size, UIDMap: idMaps(def.IDBase), GIDMap: idMaps(def.IDBase),
	})
}

// connect gives a container its places in networks, and its addresses their name.
func (l *Launcher) connect(ctx context.Context, def record.Definition, pid int) error {
	addrs, err := l.cfg.Network.Attach(ctx, def, pid)
	if err != nil {
		return err
	}
	return l.NameAddresses(def, addrs)
}

// makeBundle makes what must be there before the shim starts.
func (l *Launcher) makeBundle(def record.Definition) error {
	if err := makeSources(def.Mounts); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(l.cfg.Bundle(def.ID), shim.RootName), 0o700); err != nil {
		return fmt.Errorf("make the bundle: %w", err)
	}
	return nil
}

// furnish makes what a container needs, while its shim starts, and then the
// container. It returns the first process.
func (l *Launcher) furnish(ctx context.Context, def record.Definition, r *mount.Root, sh Shim) (int, error) {
	if err := l.WriteFiles(def); err != nil {
		return 0, err
	}
	root, err := l.openRoot(def, r, sh)
	if err != nil {
		return 0, err
	}
	defer root.Close()
	if err := l.writeConfig(def, root); err != nil {
		return 0, err
	}
	mounts, err := l.openHanded(def)
	defer closeAll(mounts)
	if err != nil {
		return 0, err
	}
	if err := l.makeWays(def, root); err != nil {
		return 0, err
	}
	if l.cfg.Roots == nil {
		return sh.Create(ctx, nil, mounts...) // it has its root
	}
	return sh.Create(ctx, root, mounts...)
}

// openRoot opens the root of a container that is being made.
func (l *Launcher) openRoot(def record.Definition, r *mount.Root, sh Shim) (*os.File, error) {
	if l.cfg.Roots == nil {
		return users.MountedRoot(sh.PID(), l.cfg.Bundle(def.ID))
	}
	root, err := l.cfg.Roots(r)
	if err != nil {
		return nil, fmt.Errorf("prepare the root file system: %w", err)
	}
	return root, nil
}

// writeConfig writes the OCI configuration into the bundle. The image's users
// are looked up in the root.
func (l *Launcher) writeConfig(def record.Definition, root *os.File) error {
	who, err := users.Resolve(root, def.Config.User, def.Host.GroupAdd)
	if err != nil {
		return err
	}
	config, err := l.ociConfig(def, who)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(config)
	if err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(l.cfg.Bundle(def.ID), "config.json"), raw, atomicfile.Options{})
}

func (l *Launcher) shimConfig(def record.Definition, root mount.Root, now bool) shim.Config {
	rt := l.Runtime(def.Host.Runtime)
	info := logdriver.Info{
		ID: def.ID, ContainerName: def.Name, ImageID: def.Image.ID.String(), ImageName: def.Image.Asked,
		Entrypoint: strings.Join(request.Command(def.Config), " "), Env: def.Config.Env, Labels: def.Config.Labels,
	}
	forward, err := logdriver.Forward(def.Host.LogConfig, info, filepath.Dir(l.cfg.LogDir(def.ID)))
	if err != nil {
		// A name that could be looked up at create cannot be now. The container's
		// own log is what counts.
		l.cfg.Log.Warn("the container's log is not forwarded", "container", def.ID, "err", err)
	}
	return shim.Config{
		Version: 1, ID: def.ID, Bundle: l.cfg.Bundle(def.ID), Runtime: rt.Program, RuntimeArgs: rt.Args, RuntimeRoot: l.cfg.RuntimeRoot(),
		Root: &root, RootComes: l.cfg.Roots != nil, Terminal: def.Config.Tty, Stdin: def.Config.OpenStdin, StdinOnce: def.Config.StdinOnce, StartNow: now,
		Log:          logs.Config{Dir: l.cfg.LogDir(def.ID), MaxBytes: logdriver.Bytes(def.Host.LogConfig), None: def.Host.LogConfig.Type == logdriver.None},
		Forward:      forward,
		ExitFile:     l.cfg.ExitFile(def.ID),
		ConsoleWidth: uint16(min(def.Host.ConsoleSize[1], 1<<16-1)), ConsoleHeight: uint16(min(def.Host.ConsoleSize[0], 1<<16-1)),
	}
}

// ExitCode is what a shell would say, by the phrases that OCI runtimes
// use and Docker's client looks for.
func ExitCode(err error) int {
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

// idMaps returns the mapping of a user namespace at base; nil for none.
func idMaps(base uint32) []mount.IDMap {
	if base == 0 {
		return nil
	}
	return []mount.IDMap{{Container: 0, Host: base, Size: idrange.Size}}
}

// WantsBridge reports whether a container has a place in a network of its own.
func WantsBridge(h *api.HostConfig) bool {
	return !h.NetworkMode.IsNone() && !h.NetworkMode.IsHost() && !h.NetworkMode.IsContainer()
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
