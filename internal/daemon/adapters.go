package daemon

import (
	"context"
	"errors"
	"os"

	api "github.com/moby/moby/api/types/container"

	"lade/internal/engine/activity"
	"lade/internal/engine/container"
	"lade/internal/engine/container/launch"
	"lade/internal/engine/exec"
	"lade/internal/linux/mount"
	"lade/internal/shim"
)

// The services do not know each other. What follows gives each the form that
// another asks for.

// shims starts and finds shims for package container/launch.
type shims struct{ program string }

func (s shims) Launch(ctx context.Context, cfg shim.Config, attach []shim.Attach) (launch.Shim, error) {
	c, err := shim.Begin(s.program, cfg, attach)
	if err != nil {
		return nil, err
	}
	if cfg.RootComes {
		return c, nil // Create waits for it
	}
	if err := c.Ready(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (s shims) Dial(ctx context.Context, bundle string) (launch.Shim, error) {
	c, err := shim.Dial(ctx, bundle)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// execTargets finds running containers for package exec.
type execTargets struct{ containers *container.Service }

func (e execTargets) Target(ctx context.Context, ref string) (exec.Target, error) {
	t, err := e.containers.ExecTarget(ctx, ref)
	if err != nil {
		return exec.Target{}, err
	}
	return exec.Target{ID: t.ID, Bundle: t.Bundle, Shim: t.Shim, Ended: t.Ended, Say: t.Say, Process: t.Process}, nil
}

// prunable is the containers for package prune.
type prunable struct{ containers *container.Service }

func (p prunable) Stopped(ctx context.Context) ([]api.Summary, error) {
	return p.containers.List(ctx, container.ListOptions{
		All: true, Size: true, Filters: map[string][]string{"status": {"created", "exited", "dead"}},
	})
}

func (p prunable) Remove(ctx context.Context, id string) error {
	return p.containers.Remove(ctx, id, container.RemoveOptions{})
}

// rootsOf has the engine put roots together, of layers that it mounts once; nil
// on kernels that cannot do so without a place in the mount namespace.
func rootsOf(p *mount.Pool) func(*mount.Root) (*os.File, error) {
	if mount.TryDetachedLayers() != nil {
		return nil
	}
	return p.File
}

// lookInto opens roots for the engine's own eyes. Without mounts in it, a root
// needs no place where it hangs, if the kernel can do so.
func lookInto(p *mount.Pool, scratch string) func(*mount.Root, []mount.ViewMount) (*mount.View, error) {
	detached := mount.TryDetachedLayers() == nil
	return func(r *mount.Root, mounts []mount.ViewMount) (*mount.View, error) {
		if len(mounts) == 0 && detached {
			f, err := p.File(r)
			if err != nil {
				return nil, err
			}
			return mount.FileView(f), nil
		}
		if err := os.MkdirAll(scratch, 0o700); err != nil {
			return nil, err
		}
		return mount.OpenView(func(dir string) (*mount.Detached, error) { return p.Open(r, dir) }, scratch, mounts)
	}
}

// activeContainers is the containers for package activity.
type activeContainers struct{ containers *container.Service }

func (a activeContainers) Find(_ context.Context, ref string) (activity.Target, error) {
	id, name, pid, err := a.containers.First(ref)
	return activity.Target{ID: id, Name: name, PID: pid}, err
}
