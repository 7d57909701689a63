package depend

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"lade/internal/engine/container/record"
	"lade/internal/errdefs"
)

// Containers is what is asked of whoever keeps the containers.
type Containers interface {
	// Look returns what is known of a container, and a channel that is closed
	// when its state changes.
	Look(ref string) (record.Definition, record.State, <-chan struct{}, error)
	// StartFor starts a container for others, which path names.
	StartFor(ctx context.Context, ref string, path []string) error
}

// Check refuses dependencies that make no sense. Containers that are not there
// yet may be depended on: they are looked for at the start.
func Check(all Containers, d record.Definition) error {
	on, err := Parse(d.Host.Annotations)
	if err != nil {
		return err
	}
	return Cycle(d.Name, on, func(ref string) (string, []On) {
		other, _, _, err := all.Look(ref)
		if err != nil {
			return ref, nil
		}
		theirs, _ := Parse(other.Host.Annotations) // checked when it was made
		return other.Name, theirs
	})
}

// First starts what a container depends on, and waits until that is as it is to
// be, or never will. path names those that wait for the container.
func First(ctx context.Context, all Containers, def record.Definition, path []string) error {
	on, err := Parse(def.Host.Annotations)
	if err != nil || len(on) == 0 {
		return err
	}
	path = append(slices.Clone(path), def.Name)
	ids := make([]string, len(on))
	for i, o := range on {
		if ids[i], err = start(ctx, all, o, path); err != nil {
			return fmt.Errorf("start what container %s depends on: %w", def.Name, err)
		}
	}
	for i, o := range on {
		if err := await(ctx, all, o, ids[i]); err != nil {
			return fmt.Errorf("wait for what container %s depends on: %w", def.Name, err)
		}
	}
	return nil
}

func start(ctx context.Context, all Containers, o On, path []string) (id string, err error) {
	def, st, _, err := all.Look(o.Ref)
	if err != nil {
		return "", err
	}
	if slices.Contains(path, def.Name) { // a name has come to mean another one
		return "", errdefs.New(errdefs.Conflict, "containers depend on each other: %s", strings.Join(append(path, def.Name), " -> "))
	}
	if !o.Wants(st) {
		return def.ID, nil
	}
	if err := all.StartFor(ctx, def.ID, path); err != nil && !errdefs.Is(err, errdefs.NotModified) {
		return "", err
	}
	return def.ID, nil
}

func await(ctx context.Context, all Containers, o On, id string) error {
	for {
		def, st, changed, err := all.Look(id)
		if err != nil {
			return err
		}
		met, err := o.Met(def, st)
		if met || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return errdefs.New(errdefs.Cancelled, "container %s is not yet %s: %w", def.Name, o.Until, context.Cause(ctx))
		}
	}
}
