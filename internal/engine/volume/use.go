package volume

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"lade/internal/metadata"
	"lade/internal/volume"
)

// Wish is a volume that a container is to have.
type Wish struct {
	Name    string // empty: an anonymous one
	Driver  string
	Options map[string]string
	Labels  map[string]string
}

// Take gives a container a volume, which is made where it is not there. It
// returns the volume's name.
func (s *Service) Take(_ context.Context, container string, w Wish) (string, error) {
	owner := ""
	if w.Name == "" {
		owner = container
	}
	e, err := s.ensure(Record{Name: w.Name, Labels: w.Labels, Options: w.Options, Owner: owner}, w.Driver, container)
	if err != nil {
		return "", err
	}
	return e.rec.Name, nil // a name never changes
}

// Release takes a container's volumes from it; the container is no more, or
// never was. With remove, anonymous ones go that no other container has.
func (s *Service) Release(_ context.Context, container string, remove bool) error {
	var errs []error
	for _, e := range s.of(container) {
		s.unmount(e, container)
		s.mu.Lock()
		delete(e.users, container)
		last, anonymous, owned := len(e.users) == 0, e.rec.Anonymous, e.rec.Owner == container
		s.mu.Unlock()
		switch {
		case remove && anonymous && last:
			if err := s.remove(e); err != nil {
				s.mu.Lock()
				used := len(e.users) > 0
				s.mu.Unlock()
				if !used { // another container has come to use it: it stays
					errs = append(errs, err)
				}
			}
		case owned:
			errs = append(errs, s.disown(e))
		}
	}
	return errors.Join(errs...)
}

// Keep makes the volumes that were made for a container stay when it goes. It
// is called before the container's record is removed.
func (s *Service) Keep(_ context.Context, container string) error {
	var errs []error
	for _, e := range s.of(container) {
		s.mu.Lock()
		owned := e.rec.Owner == container
		s.mu.Unlock()
		if owned {
			errs = append(errs, s.disown(e))
		}
	}
	return errors.Join(errs...)
}

// disown records that a volume goes with no container any more.
func (s *Service) disown(e *entry) error {
	e.op.Lock()
	defer e.op.Unlock()
	s.mu.Lock()
	r, gone := e.rec, e.gone
	s.mu.Unlock()
	if gone || r.Owner == "" {
		return nil
	}
	r.Owner = ""
	if err := s.o.Records.Update(func(tx *metadata.Tx) error { return s.records.Put(tx, r.Name, r) }); err != nil {
		return fmt.Errorf("keep volume %s: %w", r.Name, err)
	}
	s.mu.Lock()
	e.rec = r
	s.mu.Unlock()
	return nil
}

// of returns the volumes of a container.
func (s *Service) of(container string) []*entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*entry
	for _, name := range slices.Sorted(maps.Keys(s.vols)) {
		if e := s.vols[name]; e.users[container] {
			out = append(out, e)
		}
	}
	return out
}

// Mount mounts those volumes of a container that have a file system of their
// own, until Unmount.
func (s *Service) Mount(_ context.Context, container string) error {
	for _, e := range s.of(container) {
		if err := s.mount(e, container); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) mount(e *entry, container string) error {
	o, err := s.options(e)
	if err != nil || o.IsZero() {
		return err
	}
	e.op.Lock()
	defer e.op.Unlock()
	if err := s.o.Store.Mount(e.rec.Name, o); err != nil {
		return err
	}
	e.running[container] = struct{}{}
	s.o.Changed("mount", e.rec.Name, container)
	return nil
}

func (s *Service) options(e *entry) (volume.Options, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return volume.ParseOptions(e.rec.Options)
}

// Unmount ends what Mount began. What cannot be unmounted is logged: the
// container has ended all the same.
func (s *Service) Unmount(container string) {
	for _, e := range s.of(container) {
		s.unmount(e, container)
	}
}

func (s *Service) unmount(e *entry, container string) {
	e.op.Lock()
	defer e.op.Unlock()
	if _, ok := e.running[container]; !ok {
		return
	}
	delete(e.running, container)
	s.o.Changed("unmount", e.rec.Name, container)
	if len(e.running) > 0 {
		return
	}
	if err := s.o.Store.Unmount(e.rec.Name); err != nil {
		s.o.Log.Error("unmount a volume", "volume", e.rec.Name, "err", err)
	}
}

// User is a container that has volumes, as its record says.
type User struct {
	ID      string
	Volumes []string
	Running bool
}

// Recover takes over what an engine before this one left: which containers have
// which volumes. What was made for a container that never came to be, or is no
// more, goes, and so do mounts that nobody needs. A directory without a record
// is a volume all the same, as in Docker: it may be all that is left of a lost
// file of records.
func (s *Service) Recover(_ context.Context, users []User) error {
	errs := []error{s.adopt()}
	known := map[string]bool{}
	for _, u := range users {
		known[u.ID] = true
		for _, name := range u.Volumes {
			errs = append(errs, s.recover(u, name))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.vols)) {
		e := s.vols[name]
		switch {
		case len(e.users) == 0 && (e.rec.Owner != "" && !known[e.rec.Owner] || !s.o.Store.Has(name)):
			// Without a directory, it was being made or being removed.
			errs = append(errs, s.remove(e))
		case len(e.running) == 0:
			errs = append(errs, s.o.Store.Unmount(name))
		}
	}
	return errors.Join(errs...)
}

// recover notes that a container has a volume.
func (s *Service) recover(u User, name string) error {
	e := s.vols[name]
	if e == nil || !s.o.Store.Has(name) {
		s.o.Log.Error("a container's volume is not there: it begins empty", "volume", name, "container", u.ID)
	}
	if e == nil {
		e = newEntry(Record{Name: name})
		s.vols[name] = e
	}
	if !s.o.Store.Has(name) {
		if err := s.make(e, ""); err != nil {
			return err
		}
	}
	e.users[u.ID] = true
	if o, err := s.options(e); u.Running && err == nil && !o.IsZero() {
		e.running[u.ID] = struct{}{}
	}
	return nil
}

// adopt records the directories that have no record.
func (s *Service) adopt() error {
	names, err := s.o.Store.Names()
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		if s.vols[name] != nil || checkName(name) != nil || !s.o.Store.Has(name) {
			continue
		}
		s.o.Log.Warn("a volume without a record is taken up", "volume", name)
		s.vols[name] = newEntry(Record{Name: name})
		errs = append(errs, s.make(s.vols[name], ""))
	}
	return errors.Join(errs...)
}
