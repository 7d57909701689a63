// Package daemon constructs the engine's services and connects them. It is the
// only place that knows all of them; Run is written to be read from top to
// bottom.
//
// An engine owns its state directory by a lock, brings what it knows up to
// date with what an engine before it left, and only then answers on its
// socket. It ends at SIGTERM; containers run on.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"lade/internal/atomicfile"
	"lade/internal/daemon/handover"
	"lade/internal/engine/activity"
	"lade/internal/engine/archive"
	"lade/internal/engine/container"
	"lade/internal/engine/container/hostfacts"
	"lade/internal/engine/container/launch"
	"lade/internal/engine/container/request"
	"lade/internal/engine/exec"
	"lade/internal/engine/prune"
	"lade/internal/engine/system"
	"lade/internal/ident"
	"lade/internal/linux/mount"
	"lade/internal/metadata"
	"lade/internal/server/dockerapi"
	"lade/internal/snapshot"
)

// ground is what an engine stands on: the machine, and its state, which is its
// alone.
type ground struct {
	host          hostfacts.Host
	programs      programs
	passed        net.Listener    // from systemd; or nil
	taken         *handover.Taken // from the engine before this one; or nil
	durable, boot *metadata.DB
}

// take takes an engine's ground. What open is given is to be closed with it.
func take(o Options, log *slog.Logger, open *closers) (g ground, err error) {
	if g.passed, err = activated(); err != nil { // before a descriptor of ours can have its number
		return g, err
	}
	// What is wrong with the machine or the programs beside this one is to show
	// before another engine gives way.
	if g.host, err = hostfacts.Detect(); err != nil {
		return g, fmt.Errorf("look at the machine: %w", err)
	}
	if g.programs, err = findPrograms(o.Runtime); err != nil {
		return g, err
	}
	syscall.Umask(0o022) // directories that -v makes are for others too; ours say their mode
	for _, dir := range []string{o.DataRoot, o.StateDir, filepath.Join(o.StateDir, "containers"), filepath.Join(o.StateDir, "runtime")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return g, fmt.Errorf("make the engine's directories: %w", err)
		}
	}
	if g.taken, err = follow(o, log); err != nil {
		return g, err
	}
	if g.taken != nil {
		open.add(g.taken)
	}
	lock, err := takeLock(filepath.Join(o.StateDir, "laded.lock"), g.taken != nil)
	if err != nil {
		return g, err
	}
	open.add(lock)
	if g.durable, err = metadata.Open(filepath.Join(o.DataRoot, "lade.db"), metadata.Options{}); err != nil {
		return g, err
	}
	open.add(g.durable)
	if g.boot, err = metadata.Open(filepath.Join(o.StateDir, "boot.db"), metadata.Options{Boot: true}); err != nil {
		return g, err
	}
	open.add(g.boot)
	return g, nil
}

// run runs an engine until ctx ends, or another follows: then it returns that
// one, with all state on disk and let go of. ready is called once the engine answers.
func run(ctx context.Context, o Options, log *slog.Logger, ready func()) (next *follower, err error) {
	var open closers
	defer func() { err = errors.Join(err, open.close()) }()
	g, err := take(o, log, &open)
	if err != nil {
		return nil, err
	}
	happens, err := openEvents(o, g.durable, g.boot, log)
	if err != nil {
		return nil, err
	}
	open.add(happens)

	// Images.
	shared := new(mount.Pool)
	open.add(shared)
	layers, err := snapshot.Open(o.DataRoot, snapshot.Options{Removed: shared.Forget})
	if err != nil {
		return nil, err
	}
	images, err := newImages(o, g.programs.toolbox, g.durable, layers, log)
	if err != nil {
		return nil, err
	}
	open.add(images.store)

	volumes, err := newVolumes(o, g.durable, happens, log)
	if err != nil {
		return nil, err
	}

	// Networks. Without the rights to make them, containers have none.
	networks, err := newEndpoints(o, g, happens, log, &open)
	if err != nil {
		log.Warn("containers have no networks", "err", err)
	}

	// Containers, and what is done in them.
	config := container.Config{
		Config: launch.Config{
			Paths:     launch.Paths{DataDir: o.DataRoot, StateDir: o.StateDir},
			Snapshots: layers, Shims: shims{g.programs.shim}, Roots: rootsOf(shared), Look: lookInto(shared, filepath.Join(o.StateDir, "view")),
			CDI: o.devices(), Runtimes: g.programs.runtimes, Init: g.programs.init, Host: g.host, Log: log,
		},
		Volumes: containerVolumes{volumes}, Durable: g.durable, Boot: g.boot, Images: images, Events: happens,
	}
	if networks != nil {
		config.Network, config.Networks = networks, networks
	}
	containers, err := container.New(config)
	if err != nil {
		return nil, err
	}
	open.add(containers)
	images.containers = containers
	execs := exec.New(exec.Config{Containers: execTargets{containers}, StateDir: o.StateDir, DetachKeys: request.DetachKeys})

	// What an engine before this one left.
	if err := containers.Adopt(ctx); err != nil {
		return nil, err
	}
	if networks != nil {
		networks.recover(ctx, containers, log)
	}
	containers.Resume(ctx)
	images.sweep(ctx)

	sys, err := newSystem(o, g.host, g.programs, images, containers)
	if err != nil {
		return nil, err
	}
	disk := newDisk(o, images, containers, volumes)
	doing, err := activity.New(activeContainers{containers})
	if err != nil {
		return nil, err
	}
	told := toldImages{images, happens}
	services := dockerapi.Services{
		Lifecycle: containers, States: containers, Streams: containers, Execs: execs,
		Images: told, Archives: told, Registries: toldRegistries{images.registries, happens},
		System: sys, Disk: disk, Check: newCheck(images, disk, log), Prune: prune.New(prunable{containers}), Volumes: volumes, Files: archive.New(trees{containers}),
		Commit: newCommit(images, containers), Contents: newContents(images), Activity: doing, Events: happens, Log: log,
	}
	if networks != nil {
		services.Networks, services.Rules = networkAPI{networks.Service, containers}, networks
	}
	f := front{at: socket{o.Host, g.passed}, handler: dockerapi.New(services), root: o.DataRoot, offer: offerPath(o), taken: g.taken, log: log} //nolint:contextcheck // routes have their requests' contexts
	return f.serve(ctx, ready)
}

func newSystem(o Options, host hostfacts.Host, p programs, images *images, containers *container.Service) (*system.Service, error) {
	id, err := engineID(filepath.Join(o.DataRoot, "engine-id"))
	if err != nil {
		return nil, err
	}
	kind, why := images.layers.Kind()
	cfg := system.Config{
		ID: id, DataDir: o.DataRoot, Init: filepath.Base(p.init), Runtimes: map[string]string{}, Default: p.runtimes[0].Name,
		Layers: string(kind), LayersWhy: why, CgroupVersion: "1", UserNamespaces: host.UserNamespaces,
		Containers: func(context.Context) (system.Counts, error) {
			running, paused, stopped := containers.Counts()
			return system.Counts{Running: running, Paused: paused, Stopped: stopped}, nil
		},
		Images: images.count,
	}
	cfg.CDIDirs, cfg.Devices = describedDevices(o.devices())
	for _, r := range p.runtimes {
		cfg.Runtimes[r.Name] = r.Program
	}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		cfg.CgroupVersion = "2"
	}
	return system.New(cfg), nil
}

// engineID returns the engine's id, which is made once for a data root.
func engineID(path string) (string, error) {
	raw, err := os.ReadFile(path)
	if id := strings.TrimSpace(string(raw)); err == nil && ident.IsID(id) {
		return id, nil
	}
	id := ident.New()
	return id, atomicfile.Write(path, []byte(id+"\n"), atomicfile.Options{})
}

// closers are closed in the reverse order.
type closers []io.Closer

func (c *closers) add(x io.Closer) { *c = append(*c, x) }

func (c *closers) close() error {
	var errs []error
	for _, x := range slices.Backward(*c) {
		errs = append(errs, x.Close())
	}
	return errors.Join(errs...)
}
