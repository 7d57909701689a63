package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/atomicfile"
	"lade/internal/errdefs"
	"lade/internal/linux/cgroup"
	"lade/internal/runtime/bundle"
	"lade/internal/runtime/state"
)

// Update changes the resources of a container to what r names; what it leaves
// out stays. Device rules are left alone, even if r has some: they would be
// taken away for a moment, and callers pass on all that they know.
func Update(_ context.Context, store state.Store, id string, r *specs.LinuxResources) error {
	dir, err := store.Open(id)
	if err != nil {
		return err
	}
	if err := dir.Lock(); err != nil {
		return err
	}
	defer dir.Unlock()
	rec, err := dir.Load()
	if err != nil {
		return err
	}
	status, err := dir.Status(rec)
	if err != nil {
		return err
	}
	if status == state.Stopped || status == state.Creating {
		return errdefs.New(errdefs.Conflict, "container not running")
	}
	old, err := resourcesOf(dir, rec)
	if err != nil {
		return err
	}
	change := merge(old, r)
	l, err := cgroup.Detect()
	if err != nil {
		return err
	}
	steps, err := l.Update(rec.Cgroup, change)
	if err != nil {
		return err
	}
	if err := updateUnit(l, rec.Cgroup, change); err != nil {
		return err
	}
	if err := cgroup.Do(steps); err != nil {
		return err
	}
	b, err := json.Marshal(old)
	if err == nil {
		err = atomicfile.Write(resourcesFile(dir), b, atomicfile.Options{Mode: 0o600})
	}
	if err != nil {
		return fmt.Errorf("save the resources: %w", err)
	}
	return nil
}

// resourcesFile holds the resources of a container that has been updated.
func resourcesFile(dir *state.Dir) string { return filepath.Join(dir.Path, "resources.json") }

// resourcesOf returns what a container has been given so far.
func resourcesOf(dir *state.Dir, rec *state.Record) (*specs.LinuxResources, error) {
	b, err := os.ReadFile(resourcesFile(dir))
	if errors.Is(err, fs.ErrNotExist) {
		loaded, err := bundle.Load(rec.Bundle)
		if err != nil {
			return nil, err
		}
		if l := loaded.Config.Linux; l != nil && l.Resources != nil {
			return l.Resources, nil
		}
		return &specs.LinuxResources{}, nil
	}
	r := &specs.LinuxResources{}
	if err == nil {
		err = json.Unmarshal(b, r)
	}
	if err != nil {
		return nil, fmt.Errorf("read the resources: %w", err)
	}
	return r, nil
}

// merge puts what r names into all, and returns the change: the controllers
// that r says anything of, with all that is known of them now, because some
// values of one are only valid together.
func merge(all, r *specs.LinuxResources) *specs.LinuxResources {
	change := &specs.LinuxResources{Unified: r.Unified, HugepageLimits: r.HugepageLimits, Network: r.Network, Rdma: r.Rdma}
	if m := r.Memory; m != nil && *m != (specs.LinuxMemory{}) {
		all.Memory = mergeMemory(all.Memory, m)
		change.Memory = all.Memory
	}
	if c := r.CPU; c != nil && *c != (specs.LinuxCPU{}) {
		all.CPU = mergeCPU(all.CPU, c)
		change.CPU = all.CPU
	}
	if r.Pids != nil && r.Pids.Limit != nil {
		all.Pids = r.Pids
		change.Pids = r.Pids
	}
	if r.BlockIO != nil {
		all.BlockIO = mergeBlockIO(all.BlockIO, r.BlockIO)
		change.BlockIO = r.BlockIO
	}
	return change
}

// set puts a new value, if there is one, over an old.
func set[T any](old **T, v *T) {
	if v != nil {
		*old = v
	}
}

func copied[T any](p *T) *T {
	var v T
	if p != nil {
		v = *p
	}
	return &v
}

func mergeMemory(old, m *specs.LinuxMemory) *specs.LinuxMemory {
	out := copied(old)
	set(&out.Limit, m.Limit)
	set(&out.Swap, m.Swap)
	set(&out.Reservation, m.Reservation)
	set(&out.Swappiness, m.Swappiness)
	set(&out.DisableOOMKiller, m.DisableOOMKiller)
	out.CheckBeforeUpdate = m.CheckBeforeUpdate
	if m.Limit != nil && *m.Limit == -1 && m.Swap == nil {
		out.Swap = nil // a limit on the sum means nothing without one on memory
	}
	return out
}

func mergeCPU(old, c *specs.LinuxCPU) *specs.LinuxCPU {
	out := copied(old)
	set(&out.Shares, c.Shares)
	set(&out.Period, c.Period)
	set(&out.Quota, c.Quota)
	set(&out.Burst, c.Burst)
	set(&out.RealtimePeriod, c.RealtimePeriod)
	set(&out.RealtimeRuntime, c.RealtimeRuntime)
	set(&out.Idle, c.Idle)
	if c.Idle != nil && c.Shares == nil {
		out.Shares = nil // an idle cgroup has no weight, and refuses one
	}
	if c.Cpus != "" {
		out.Cpus = c.Cpus
	}
	if c.Mems != "" {
		out.Mems = c.Mems
	}
	return out
}

func mergeBlockIO(old, b *specs.LinuxBlockIO) *specs.LinuxBlockIO {
	out := copied(old)
	set(&out.Weight, b.Weight)
	set(&out.LeafWeight, b.LeafWeight)
	for _, d := range b.WeightDevice {
		out.WeightDevice = append(slices.DeleteFunc(slices.Clone(out.WeightDevice), func(o specs.LinuxWeightDevice) bool {
			return o.Major == d.Major && o.Minor == d.Minor
		}), d)
	}
	for _, l := range []struct {
		old *[]specs.LinuxThrottleDevice
		new []specs.LinuxThrottleDevice
	}{
		{&out.ThrottleReadBpsDevice, b.ThrottleReadBpsDevice},
		{&out.ThrottleWriteBpsDevice, b.ThrottleWriteBpsDevice},
		{&out.ThrottleReadIOPSDevice, b.ThrottleReadIOPSDevice},
		{&out.ThrottleWriteIOPSDevice, b.ThrottleWriteIOPSDevice},
	} {
		for _, d := range l.new {
			*l.old = append(slices.DeleteFunc(slices.Clone(*l.old), func(o specs.LinuxThrottleDevice) bool {
				return o.Major == d.Major && o.Minor == d.Minor
			}), d)
		}
	}
	return out
}
