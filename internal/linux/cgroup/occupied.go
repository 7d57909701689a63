package cgroup

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"lade/internal/errdefs"
)

// CheckFree verifies that no other process lives where the group is to be
// made: limits and kill would be theirs, too. Nor may it be frozen, or the
// container would never get to its program. What is not there yet is free.
func (g Group) CheckFree() error {
	for _, d := range g.Dirs {
		b, err := readFile(d.Path + "/cgroup.procs")
		if err != nil {
			if gone(err) == nil {
				continue
			}
			return fmt.Errorf("look into the container's cgroup: %w", err)
		}
		if len(bytes.TrimSpace(b)) > 0 {
			return errdefs.Hint(errdefs.New(errdefs.Conflict, "container's cgroup is not empty: processes are in %s", d.Path),
				"give each container a linux.cgroupsPath of its own")
		}
		if frozen, err := d.frozen(); err == nil && frozen {
			return errdefs.New(errdefs.Conflict, "container's cgroup unexpectedly frozen: %s", d.Path)
		}
	}
	return nil
}

// Below returns the group with some of its directories replaced by ones below
// them, which must exist. Each of paths is a path for all hierarchies, or
// controllers, a colon and the path for those.
func (g Group) Below(paths []string) (Group, error) {
	out := g
	out.Dirs = slices.Clone(g.Dirs)
	for _, p := range paths {
		controllers, sub, some := strings.Cut(p, ":")
		if !some {
			sub = p
		}
		if slices.Contains(strings.Split(sub, "/"), "..") {
			return out, errdefs.New(errdefs.Invalid, "bad sub cgroup path: %s", sub)
		}
		if !some {
			for i := range out.Dirs {
				out.Dirs[i].Path = filepath.Join(g.Dirs[i].Path, sub)
			}
			continue
		}
		for c := range strings.SplitSeq(controllers, ",") {
			i := slices.IndexFunc(g.Dirs, func(d Dir) bool { return slices.Contains(d.Controllers, c) })
			if i < 0 {
				return out, errdefs.New(errdefs.Invalid, "unknown controller %s: the container has no cgroup of it", c)
			}
			out.Dirs[i].Path = filepath.Join(g.Dirs[i].Path, sub)
		}
	}
	return out, nil
}
