// Package volume is the engine's volumes: what is known of them, and which
// containers have them.
//
// A volume is recorded before it is used, and used before the container that
// asked for it is recorded. So a volume that was made for a container names it
// as its owner until somebody else is to decide about it: one whose owner is in
// no record is left of a create or of a removal that was cut short, or of a
// container that was to be forgotten with the machine's boot, and goes at the
// next start. Remove a container without its volumes, and they own themselves.
//
// A volume with a file system of its own is mounted in the host's mount
// namespace from the first start of a container that has it to the end of the
// last.
package volume

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	api "github.com/moby/moby/api/types/volume"

	"lade/internal/errdefs"
	"lade/internal/ident"
	"lade/internal/linux/fsat"
	"lade/internal/metadata"
	"lade/internal/volume"
)

// driver is the name of the only driver.
const driver = "local"

// anonymousLabel marks volumes that nobody gave a name, as in Docker.
const anonymousLabel = "com.docker.volume.anonymous"

// Record is what is known of a volume.
type Record struct {
	Name    string            `json:"name"`
	Created time.Time         `json:"created"`
	Labels  map[string]string `json:"labels,omitempty"`
	Options map[string]string `json:"options,omitempty"`
	// Anonymous: it was made without a name, and goes with its last container.
	Anonymous bool `json:"anonymous,omitempty"`
	// Owner is the container that the volume was made for; see above.
	Owner string `json:"owner,omitempty"`
}

// Options is what a Service is made of.
type Options struct {
	Store   *volume.Store
	Records *metadata.DB // durable
	Log     *slog.Logger
	// Changed, if set, is told of what becomes of a volume: create, mount,
	// unmount and destroy. container is "" where none is involved.
	Changed func(action, name, container string)
}

// Service keeps the volumes. Its methods may be called concurrently; work on
// one volume waits for no other.
type Service struct {
	o       Options
	records metadata.Collection[Record]

	mu   sync.Mutex
	vols map[string]*entry // guarded by mu
}

// entry is a volume in memory.
type entry struct {
	// op is held by whoever makes, fills, mounts or removes the volume.
	op sync.Mutex

	rec     Record              // guarded by Service.mu
	users   map[string]bool     // containers that have it; guarded by Service.mu
	running map[string]struct{} // those that need it mounted; guarded by op
	gone    bool                // guarded by Service.mu
}

// New makes the service from its records. Recover must be called before
// anything else.
func New(o Options) (*Service, error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Changed == nil {
		o.Changed = func(string, string, string) {}
	}
	s := &Service{o: o, vols: map[string]*entry{}, records: metadata.Collection[Record]{Name: "volumes", Noun: "volume"}}
	err := o.Records.View(func(tx *metadata.Tx) error {
		return s.records.Each(tx, func(name string, r Record) error {
			s.vols[name] = newEntry(r)
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read the records of volumes: %w", err)
	}
	return s, nil
}

func newEntry(r Record) *entry {
	return &entry{rec: r, users: map[string]bool{}, running: map[string]struct{}{}}
}

// anonymous reports whether nobody gave the volume a name: as its record or,
// with volumes made through the API by others, as its label says.
func (e *entry) anonymous() bool {
	_, labelled := e.rec.Labels[anonymousLabel]
	return e.rec.Anonymous || labelled
}

// get returns a volume.
func (s *Service) get(name string) (*entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.vols[name]; e != nil {
		return e, nil
	}
	return nil, errdefs.New(errdefs.NotFound, "get %s: no such volume", name)
}

// Create makes a volume. One of that name that is there is returned as it is.
func (s *Service) Create(_ context.Context, req api.CreateRequest) (api.Volume, error) {
	if req.ClusterVolumeSpec != nil {
		return api.Volume{}, errdefs.New(errdefs.Unavailable, "This node is not a swarm manager. Lade has no swarm mode")
	}
	e, err := s.ensure(Record{Name: req.Name, Labels: req.Labels, Options: req.DriverOpts}, req.Driver, "")
	if err != nil {
		return api.Volume{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.show(e), nil
}

// ensure returns the volume of that name, and makes it where there is none. An
// empty name makes an anonymous one. user, if not empty, has it from then on.
func (s *Service) ensure(r Record, driverName, user string) (*entry, error) {
	if driverName != "" && driverName != driver && driverName != "default" {
		return nil, errdefs.New(errdefs.NotFound, "create %s: error looking up volume plugin %s: plugin %q not found", r.Name, driverName, driverName)
	}
	o, err := volume.ParseOptions(r.Options)
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", r.Name, err)
	}
	_ = o // it is read again at each mount
	if r.Name == "" {
		r.Name, r.Anonymous = ident.New(), true
		r.Labels = maps.Clone(r.Labels)
		if r.Labels == nil {
			r.Labels = map[string]string{}
		}
		r.Labels[anonymousLabel] = ""
	}
	if err := checkName(r.Name); err != nil {
		return nil, err
	}
	r.Created = time.Now().UTC()
	for {
		s.mu.Lock()
		e := s.vols[r.Name]
		if e == nil {
			e = newEntry(r)
			e.op.Lock() // whoever finds it waits until it is there
			s.vols[r.Name] = e
			s.use(e, user)
			s.mu.Unlock()
			err := s.make(e, user)
			e.op.Unlock()
			return e, err
		}
		s.mu.Unlock()
		e.op.Lock()
		s.mu.Lock()
		gone := e.gone
		if !gone {
			s.use(e, user)
		}
		s.mu.Unlock()
		e.op.Unlock()
		if !gone {
			return e, nil
		}
	}
}

// use notes that a container has a volume. mu is held.
func (s *Service) use(e *entry, user string) {
	if user != "" {
		e.users[user] = true
	}
}

// make records a new volume and makes its directory. Its lock is held.
func (s *Service) make(e *entry, user string) error {
	err := s.o.Records.Update(func(tx *metadata.Tx) error { return s.records.Put(tx, e.rec.Name, e.rec) })
	if err == nil {
		if err = s.o.Store.Make(e.rec.Name); err == nil {
			s.o.Changed("create", e.rec.Name, user)
			return nil
		}
		_ = s.o.Records.Update(func(tx *metadata.Tx) error { return s.records.Delete(tx, e.rec.Name) })
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e.gone = true
	delete(s.vols, e.rec.Name)
	return fmt.Errorf("create volume %s: %w", e.rec.Name, err)
}

// checkName admits Docker's names.
func checkName(name string) error {
	switch {
	case len(name) == 1:
		return errdefs.New(errdefs.Invalid, "create %s: volume name is too short, names should be at least two alphanumeric characters", name)
	case !ident.IsName(name):
		return errdefs.New(errdefs.Invalid, "create %[1]s: %[1]q includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path", name)
	}
	return nil
}

// Inspect returns one volume.
func (s *Service) Inspect(_ context.Context, name string) (api.Volume, error) {
	e, err := s.get(name)
	if err != nil {
		return api.Volume{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.show(e), nil
}

// show is a volume as the API has it. mu is held.
func (s *Service) show(e *entry) api.Volume {
	v := api.Volume{
		Name: e.rec.Name, Driver: driver, Scope: "local", Mountpoint: s.o.Store.Path(e.rec.Name),
		CreatedAt: e.rec.Created.Format(time.RFC3339), Labels: e.rec.Labels, Options: e.rec.Options,
	}
	return v
}

// Remove removes a volume that no container has. With force, one that is not
// there is no error.
func (s *Service) Remove(_ context.Context, name string, force bool) error {
	e, err := s.get(name)
	if err != nil {
		if force {
			return nil
		}
		return err
	}
	return s.remove(e)
}

// remove removes a volume that no container has.
func (s *Service) remove(e *entry) error {
	e.op.Lock()
	defer e.op.Unlock()
	s.mu.Lock()
	name, users, gone := e.rec.Name, slices.Sorted(maps.Keys(e.users)), e.gone
	s.mu.Unlock() // nobody comes to use it from here on: ensure waits for op
	switch {
	case gone:
		return errdefs.New(errdefs.NotFound, "get %s: no such volume", name)
	case len(users) > 0:
		return errdefs.New(errdefs.Conflict, "remove %s: volume is in use - [%s]", name, strings.Join(users, ", "))
	}
	err := s.o.Store.Remove(name, func() error {
		err := s.o.Records.Update(func(tx *metadata.Tx) error { return s.records.Delete(tx, name) })
		if err != nil {
			return err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		e.gone = true
		delete(s.vols, name)
		return nil
	})
	if err != nil {
		return err
	}
	s.o.Changed("destroy", name, "")
	return nil
}

// Fill copies what is in the directory that source opens into a volume that is
// empty.
func (s *Service) Fill(_ context.Context, name string, source func() (*fsat.Dir, error)) error {
	e, err := s.get(name)
	if err != nil {
		return err
	}
	e.op.Lock()
	defer e.op.Unlock()
	return s.o.Store.Fill(name, source)
}

// Path returns the directory that containers see of a volume.
func (s *Service) Path(name string) string { return s.o.Store.Path(name) }
