// Package ledger adds up what lies below a data root, and whose it is.
//
// Whoever keeps files there is a Source: it names a directory, and says to whom
// each entry of that directory belongs. Walk goes through the whole tree once,
// by descriptor and without following a link, and charges every inode to one
// owner. What no source knows is Unowned; so the sum of the lines is always the
// sum of the tree, and a leak has a line of its own.
//
// Sizes are allocated blocks, as du(1) counts them: sparse files take what they
// take, a file with several names counts once.
package ledger

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"lade/internal/linux/fsat"
)

// Kind says what a file is for.
type Kind string

// The kinds of files below a data root.
const (
	Unowned    Kind = ""               // nobody knows it
	Blob       Kind = "blob"           // a manifest, a configuration or a packed layer of an image
	Layer      Kind = "layer"          // an unpacked layer, ready to be mounted
	Supplement Kind = "supplement"     // what a stack of layers needs on top of one of them
	Unused     Kind = "unused"         // a blob or layer of no image, kept for a pull to go on with
	Temporary  Kind = "temporary"      // being written, or being removed
	Writable   Kind = "writable layer" // what a container has written
	Log        Kind = "log"            // of a container
	File       Kind = "container file" // of the engine, for a container
	Volume     Kind = "volume"
	Build      Kind = "build cache"
	Record     Kind = "record"    // what the engine knows
	Directory  Kind = "directory" // of the store itself
)

// Owner is to whom a file belongs: a blob's or layer's digest, a container's
// id, a volume's name; for records and the like nobody in particular.
type Owner struct {
	Kind Kind
	ID   string
}

// Source answers for what lies in one directory.
type Source struct {
	Dir string // absolute, below the root or the root itself
	// Owner returns to whom an entry belongs, with all that is in it.
	Owner func(name string) Owner
	// Part, if set, returns the kind of each entry of an entry that is a
	// directory and has an owner: a container has a log and a writable layer.
	Part func(name string) Kind
	// Loose is set where an entry may come a moment before what owns it, or go
	// after: one that nobody owns is Temporary until it has been left alone for
	// as long as Settled.
	Loose bool
}

// Line is what one owner has of one kind.
type Line struct {
	Owner
	Path  string // of an entry that is unowned, relative to the root
	Files int64
	Bytes int64
}

// Report is the ledger of a tree. Lines are sorted by kind, then owner.
type Report struct {
	Root  string
	Lines []Line
	Files int64
	Bytes int64 // the sum of the lines
}

// Settled is how long an entry of a loose directory that nobody knows must have
// been left alone to be Unowned. A container's directory is made, and taken
// away, a moment apart from its record.
const Settled = time.Minute

// Walk makes the ledger of root. Other file systems that are mounted in it are
// not looked into. What goes away meanwhile is passed over.
func Walk(root string, sources []Source, now time.Time) (Report, error) {
	w := walker{sources: map[string]Source{}, way: map[string]bool{}, seen: map[[2]uint64]bool{}, lines: map[Line]*Line{}, now: now}
	root = filepath.Clean(root)
	for _, s := range sources {
		rel, err := filepath.Rel(root, s.Dir)
		if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
			return Report{}, fmt.Errorf("ledger of %s: %s is not in it", root, s.Dir)
		}
		w.sources[rel] = s
		for ; rel != "."; rel = filepath.Dir(rel) {
			w.way[rel] = true
		}
	}
	d, err := fsat.Open(root)
	if err != nil {
		return Report{}, fmt.Errorf("ledger: %w", err)
	}
	defer d.Close()
	self, err := d.Self()
	if err != nil {
		return Report{}, fmt.Errorf("ledger: %w", err)
	}
	w.device = self.Device
	w.charge(Line{Owner: Owner{Kind: Directory}}, self)
	if err := w.own(d, "."); err != nil {
		return Report{}, fmt.Errorf("ledger of %s: %w", root, err)
	}
	r := Report{Root: root}
	for _, l := range w.lines {
		r.Lines = append(r.Lines, *l)
		r.Files += l.Files
		r.Bytes += l.Bytes
	}
	slices.SortFunc(r.Lines, func(a, b Line) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Path, b.Path))
	})
	return r, nil
}

type walker struct {
	sources map[string]Source // by path relative to the root
	way     map[string]bool   // directories that are a source's, or lead to one
	device  uint64
	seen    map[[2]uint64]bool // inodes with several names
	lines   map[Line]*Line     // by themselves, without the sums
	depth   int                // below an entry
	now     time.Time
}

// charge adds an inode to a line.
func (w *walker) charge(to Line, n fsat.Inode) {
	if n.Links > 1 && !n.Dir {
		id := [2]uint64{n.Device, n.Number}
		if w.seen[id] {
			return
		}
		w.seen[id] = true
	}
	l := w.lines[to]
	if l == nil {
		l = &to
		w.lines[to] = l
	}
	l.Files++
	l.Bytes += n.Bytes
}

// own goes through a directory of the store itself.
func (w *walker) own(d *fsat.Dir, at string) error {
	source := w.sources[at]
	return d.Each(func(name string) error {
		n, err := d.Inode(name)
		if err != nil {
			return passGone(err)
		}
		path := filepath.Join(at, name)
		if w.way[path] && n.Dir {
			w.charge(Line{Owner: Owner{Kind: Directory}}, n)
			if n.Device != w.device {
				return nil
			}
			return w.in(d, name, func(sub *fsat.Dir) error { return w.own(sub, path) })
		}
		line := Line{}
		if source.Owner != nil {
			line.Owner = source.Owner(name)
		}
		if line.Kind == Unowned {
			line.Path = path
			if source.Loose && w.fresh(d, name, n) {
				line = Line{Owner: Owner{Kind: Temporary}}
			}
		}
		w.charge(line, n)
		part := source.Part
		if line.Kind == Unowned {
			part = nil
		}
		return w.rest(d, name, n, line, part)
	})
}

// maxDepth bounds how deep a tree is looked into, and with it how many
// descriptors that takes: a container may have nested directories without end.
const maxDepth = 4096

// rest charges all that is in an entry.
func (w *walker) rest(d *fsat.Dir, name string, n fsat.Inode, to Line, part func(string) Kind) error {
	if !n.Dir || n.Device != w.device || w.depth > maxDepth {
		return nil
	}
	w.depth++
	defer func() { w.depth-- }()
	type dir struct {
		name string
		n    fsat.Inode
		to   Line
	}
	return w.in(d, name, func(sub *fsat.Dir) error {
		var dirs []dir
		err := sub.Each(func(name string) error {
			n, err := sub.Inode(name)
			if err != nil {
				return passGone(err)
			}
			line := to
			if part != nil {
				line.Kind = part(name)
			}
			w.charge(line, n)
			if n.Dir {
				dirs = append(dirs, dir{name, n, line})
			}
			return nil
		})
		for _, x := range dirs {
			if err == nil {
				err = w.rest(sub, x.name, x.n, x.to, nil)
			}
		}
		return err
	})
}

// fresh reports whether something in a tree changed a short time ago.
func (w *walker) fresh(d *fsat.Dir, name string, n fsat.Inode) bool {
	if w.now.Sub(n.Changed) < Settled {
		return true
	}
	if !n.Dir || n.Device != w.device {
		return false
	}
	found := errors.New("found")
	return errors.Is(w.in(d, name, func(sub *fsat.Dir) error {
		return sub.Each(func(name string) error {
			if n, err := sub.Inode(name); err == nil && n.Dir && w.fresh(sub, name, n) {
				return found
			}
			return nil
		})
	}), found)
}

// in calls f with a directory of d.
func (w *walker) in(d *fsat.Dir, name string, f func(*fsat.Dir) error) error {
	sub, err := d.OpenDir(name)
	if err != nil {
		return passGone(err)
	}
	defer sub.Close()
	return passGone(f(sub))
}

func passGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Sum returns what all lines have that keep accepts.
func (r Report) Sum(keep func(Line) bool) (files, bytes int64) {
	for _, l := range r.Lines {
		if keep(l) {
			files += l.Files
			bytes += l.Bytes
		}
	}
	return files, bytes
}

// Of returns the bytes of each owner of one kind.
func (r Report) Of(kind Kind) map[string]int64 {
	m := map[string]int64{}
	for _, l := range r.Lines {
		if l.Kind == kind {
			m[l.ID] += l.Bytes
		}
	}
	return m
}
