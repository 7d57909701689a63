package plan

import (
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/runtime/plan/idmap"
	"lade/internal/runtime/plan/mountopt"
	"lade/internal/runtime/plan/step"
	"lade/internal/runtime/program"
)

// checkIDMap refuses a mapped mount for which there is no mapping.
func (b *builder) checkIDMap(i int, m *specs.Mount, o mountopt.Options) error {
	if !o.IDMap {
		return nil
	}
	if b.f.Rootless {
		return errdefs.New(errdefs.Invalid, "mounts[%d]: id-mapped mounts are not supported for rootless containers", i)
	}
	uids, gids := b.idMappings(m)
	if len(uids)+len(gids) == 0 && b.joins[unix.CLONE_NEWUSER] != "" {
		return nil // that of the user namespace that is joined
	}
	if len(uids) == 0 || len(gids) == 0 {
		return errdefs.New(errdefs.Invalid, "mounts[%d]: idmap mount without UID/GID mappings, and the container has no user namespace of its own", i)
	}
	return nil
}

// idMappings returns a mount's mappings; without any, those of the container.
func (b *builder) idMappings(m *specs.Mount) (uids, gids []specs.LinuxIDMapping) {
	if len(m.UIDMappings)+len(m.GIDMappings) > 0 {
		return m.UIDMappings, m.GIDMappings
	}
	return b.cfg.Linux.UIDMappings, b.cfg.Linux.GIDMappings
}

// mapTree are the runtime's steps that show a tree with mapped ids. The kernel
// is told a mapping by a user namespace that has it; mounts with the same one
// share it.
func (b *builder) mapTree(i int, m *specs.Mount, o mountopt.Options, tree program.Slot) []program.Step {
	if !o.IDMap {
		return nil
	}
	uids, gids := b.idMappings(m)
	u, g := idmap.Lines(uids), idmap.Lines(gids)
	var steps []program.Step
	ns, ok := b.mapped[u+"/"+g]
	if u+g == "" {
		ns, ok = nsSlot(unix.CLONE_NEWUSER), true
	}
	if !ok {
		ns = program.Slot("idmap" + strconv.Itoa(i))
		if b.mapped == nil {
			b.mapped = map[string]program.Slot{}
		}
		b.mapped[u+"/"+g] = ns
		steps = append(steps, program.Step{
			Call: "user_namespace", Yield: ns, Why: "an idmapped mount is told its mapping by a user namespace",
			Args: []program.Arg{program.String(u), program.String(g)},
		})
	}
	flags := uint64(unix.AT_EMPTY_PATH)
	if o.IDMapRec {
		flags |= unix.AT_RECURSIVE
	}
	return append(steps, program.Step{
		Call: "idmap_mount", Why: step.Field("mounts", i) + ": idmap", Say: "map the ids of the mount at " + m.Destination,
		Args: []program.Arg{program.FD(tree), program.FD(ns), program.Flags(flags, step.AtFlags)},
	})
}
