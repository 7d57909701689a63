package archive

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"
	"syscall"

	"lade/internal/errdefs"
	"lade/internal/linux/fsat"
)

// Kind says how a path has changed. The numbers are those of Docker's API.
type Kind uint8

// The kinds of changes.
const (
	Modified Kind = iota
	Added
	Deleted
)

// Change is one path that has changed.
type Change struct {
	Path string
	Kind Kind
}

// Diff compares what a container has written, the upper directory of an
// overlay, with the image below it; IDs are those of the container, as the
// image has its own. Mount points that the runtime made are no change of the
// container's: stubs are their paths.
func Diff(ctx context.Context, upper, lower *fsat.Dir, ids IDs, stubs map[string]bool) ([]Change, error) {
	d := &differ{ctx: ctx, ids: ids, stubs: stubs}
	if _, err := d.directory(upper, lower, "/"); err != nil {
		return nil, err
	}
	slices.SortFunc(d.out, func(a, b Change) int {
		if a.Path < b.Path {
			return -1
		}
		return 1
	})
	return d.out, nil
}

type differ struct {
	ctx   context.Context //nolint:containedctx // one call's
	ids   IDs
	stubs map[string]bool
	out   []Change
}

// state is what became of a directory's content.
type state struct {
	changed bool // something in it is to be told of
	stub    bool // the runtime made something in it
}

func (d *differ) add(p string, k Kind) { d.out = append(d.out, Change{p, k}) }

// directory compares what is in upper with lower, which is nil where the image
// has no such directory.
func (d *differ) directory(upper, lower *fsat.Dir, at string) (state, error) {
	var st state
	if err := d.ctx.Err(); err != nil {
		return st, errdefs.With(errdefs.Cancelled, err)
	}
	names, err := upper.Names()
	if err != nil {
		return st, err
	}
	for _, name := range names {
		one, err := d.name(upper, lower, name, path.Join(at, name))
		if err != nil {
			return st, err
		}
		st.changed, st.stub = st.changed || one.changed, st.stub || one.stub
	}
	if lower == nil {
		return st, nil
	}
	hidden, err := d.hidden(upper, lower, names, at)
	st.changed = st.changed || hidden
	return st, err
}

// hidden tells of what a directory that was made anew hides of the image's.
func (d *differ) hidden(upper, lower *fsat.Dir, names []string, at string) (bool, error) {
	self, err := upper.StatSelf()
	if err != nil || self.Xattrs["trusted.overlay.opaque"] != "y" {
		return false, err
	}
	below, err := lower.Names()
	if err != nil {
		return false, err
	}
	any := false
	for _, name := range below {
		if !slices.Contains(names, name) {
			d.add(path.Join(at, name), Deleted)
			any = true
		}
	}
	return any, nil
}

func (d *differ) name(upper, lower *fsat.Dir, name, at string) (state, error) {
	s, err := upper.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return state{}, nil // it went meanwhile
	}
	if err != nil {
		return state{}, err
	}
	old, had, err := before(lower, name)
	if err != nil {
		return state{}, err
	}
	kind := s.Mode & syscall.S_IFMT
	switch {
	case kind == syscall.S_IFCHR && s.Device == 0: // a whiteout
		if had {
			d.add(at, Deleted)
		}
		return state{changed: had}, nil
	case kind == syscall.S_IFDIR:
		return d.below(upper, lower, name, at, dirs{s, old, had})
	case d.stubs[at] && !had && s.Size == 0:
		return state{stub: true}, nil
	case had:
		d.add(at, Modified)
	default:
		d.add(at, Added)
	}
	return state{changed: true}, nil
}

// before looks at what the image has under a name.
func before(lower *fsat.Dir, name string) (s fsat.Stat, had bool, err error) {
	if lower == nil {
		return s, false, nil
	}
	s, err = lower.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return s, false, nil
	}
	return s, err == nil, err
}

// dirs is a directory as it is and, if the image has something of its name, as
// that was.
type dirs struct {
	now, old fsat.Stat
	had      bool
}

func (d *differ) below(upper, lower *fsat.Dir, name, at string, both dirs) (state, error) {
	u, err := upper.OpenDir(name)
	if err != nil {
		return state{}, err
	}
	defer u.Close()
	var l *fsat.Dir
	wasDir := both.had && both.old.Mode&syscall.S_IFMT == syscall.S_IFDIR
	if wasDir {
		if l, err = lower.OpenDir(name); err != nil {
			return state{}, err
		}
		defer l.Close()
	}
	st, err := d.directory(u, l, at)
	if err != nil {
		return st, err
	}
	switch {
	case !both.had && !st.changed && (d.stubs[at] || st.stub):
		return state{stub: true}, nil // a mount point, or on the way to one
	case !both.had:
		d.add(at, Added)
	case !wasDir || st.changed || d.differs(both, st.stub):
		d.add(at, Modified)
	default:
		return state{stub: st.stub}, nil
	}
	return state{changed: true, stub: st.stub}, nil
}

// differs reports whether a directory's own attributes have changed. Who made a
// mount point in it has changed its time.
func (d *differ) differs(both dirs, stub bool) bool {
	n, o := both.now, both.old
	return n.Mode != o.Mode || d.ids.inside(n.UID) != int(o.UID) || d.ids.inside(n.GID) != int(o.GID) || !stub && n.Seconds != o.Seconds
}
