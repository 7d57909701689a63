// Package record keeps what is known of containers on disk.
//
// A Definition says what a container is; it is written once, by create, and
// waits for the disk. A State says how it is; it is written at each change to
// the file that lives until the machine stops, and a little later to the
// durable one. So a start or an exit costs no wait for the disk, no death of a
// process loses anything, and after a power cut a container is never shown as
// running that is not.
package record

import (
	"errors"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"
	"github.com/opencontainers/go-digest"

	"lade/internal/engine/container/request"
	"lade/internal/metadata"
)

// Definition is what a container is: the record that Create makes. It does not
// change but for the name, the limits and the restart policy.
type Definition struct {
	ID        string                    `json:"id"`
	Name      string                    `json:"name"`
	Created   time.Time                 `json:"created"`
	Image     ImageRef                  `json:"image"`
	Config    *api.Config               `json:"config"`
	Host      *api.HostConfig           `json:"hostConfig"`
	Networks  *network.NetworkingConfig `json:"networks,omitempty"`
	Mounts    []request.Mount           `json:"mounts,omitempty"`
	IDBase    uint32                    `json:"idBase,omitempty"`    // host id of the container's root; 0: no user namespace
	NoUserNS  string                    `json:"noUserNS,omitempty"`  // why it has none
	UserNSOf  string                    `json:"userNSOf,omitempty"`  // id of the container whose user namespace it shares
	Platform  string                    `json:"platform,omitempty"`  // os/arch[/variant]
	Ephemeral bool                      `json:"ephemeral,omitempty"` // --rm: known until the machine stops
}

// ImageRef is the image of a container, as it was when it was created.
type ImageRef struct {
	Asked    string          `json:"asked"` // as the request named it
	ID       digest.Digest   `json:"id"`
	Manifest digest.Digest   `json:"manifest,omitempty"`
	DiffIDs  []digest.Digest `json:"diffIDs"`
}

// Layers are all that a container needs to be there: its image's, and those of
// the images that are mounted in it.
func (d Definition) Layers() []digest.Digest {
	out := slices.Clone(d.Image.DiffIDs)
	for _, m := range d.Mounts {
		out = append(out, m.DiffIDs...)
	}
	return out
}

// State is how a container is. It is written at each change.
type State struct {
	Status     api.ContainerState `json:"status"`
	PID        int                `json:"pid,omitempty"`
	PIDStart   uint64             `json:"pidStart,omitempty"` // with PID: which process
	StartedAt  time.Time          `json:"startedAt,omitzero"`
	FinishedAt time.Time          `json:"finishedAt,omitzero"`
	ExitCode   int                `json:"exitCode,omitempty"`
	OOMKilled  bool               `json:"oomKilled,omitempty"`
	KilledBy   string             `json:"killedBy,omitempty"`
	Signal     int                `json:"signal,omitempty"`     // that ended it
	PeakMemory int64              `json:"peakMemory,omitempty"` // bytes; 0 if that is not known
	Unknown    bool               `json:"unknown,omitempty"`    // nobody saw the end
	Error      string             `json:"error,omitempty"`
	Restarts   int                `json:"restarts,omitempty"`
	Stopped    bool               `json:"stopped,omitempty"` // somebody asked for the end
	// RestartPause is that before the last start, or, while it is restarting,
	// before the next; 0 where somebody asked for the start.
	RestartPause time.Duration `json:"restartPause,omitempty"`
	// Updating says that the kernel may know other limits than the definition.
	Updating bool        `json:"updating,omitempty"`
	Health   *api.Health `json:"health,omitempty"` // as of the last change of its status; never written through
}

// Alive reports whether the container has processes.
func (s State) Alive() bool { return s.Status == api.StateRunning || s.Status == api.StatePaused }

// Up reports whether the container is to be taken for running: it is, or is
// about to be started again.
func (s State) Up() bool { return s.Alive() || s.Status == api.StateRestarting }

// flushDelay is how long a change of state may be known only until the machine
// stops. Changes of many containers then share one wait for the disk.
const flushDelay = 500 * time.Millisecond

// Store keeps definitions and states on disk: definitions in the durable
// file, or in the boot file for containers that are removed when they end;
// states in the boot file at once, and in the durable one a little later.
type Store struct {
	durable, boot *metadata.DB
	defs          metadata.Collection[Definition]
	states        metadata.Collection[State]
	ends          metadata.Collection[State] // of containers that are no more; boot only
	events        Events
	log           *slog.Logger

	mu    sync.Mutex
	dirty map[string]State // to be written to durable; guarded by mu
	timer *time.Timer      // of the next flush; guarded by mu
	ended []end            // what ends holds, the oldest first; guarded by mu
}

// New returns the store over its two files.
func New(durable, boot *metadata.DB, events Events, log *slog.Logger) *Store {
	return &Store{
		durable: durable, boot: boot, events: events, log: log,
		defs:   metadata.Collection[Definition]{Name: "containers", Noun: "container"},
		states: metadata.Collection[State]{Name: "container-states", Noun: "state of container"},
		ends:   metadata.Collection[State]{Name: "container-ends", Noun: "end of container"},
		dirty:  map[string]State{},
	}
}

func (r *Store) home(d Definition) *metadata.DB {
	if d.Ephemeral {
		return r.boot
	}
	return r.durable
}

// PutDefinition records what a container is, and what made it so; for a durable
// one it waits for the disk.
func (r *Store) PutDefinition(d Definition, happened ...events.Message) error {
	err := r.home(d).Update(func(tx *metadata.Tx) error {
		return errors.Join(r.defs.Put(tx, d.ID, d), r.putEvents(tx, !d.Ephemeral, happened))
	})
	if err == nil && len(happened) > 0 {
		r.events.Tell()
	}
	return err
}

// PutState records how a container is, and what made it so. It does not wait
// for the disk.
func (r *Store) PutState(d Definition, st State, happened ...events.Message) error {
	err := r.boot.Update(func(tx *metadata.Tx) error {
		return errors.Join(r.states.Put(tx, d.ID, st), r.putEvents(tx, false, happened))
	})
	if err != nil {
		return err
	}
	if len(happened) > 0 {
		defer r.events.Tell()
	}
	if d.Ephemeral {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dirty[d.ID] = st
	if r.timer == nil {
		r.timer = time.AfterFunc(flushDelay, r.flushLogged)
	}
	return nil
}

func (r *Store) putEvents(tx *metadata.Tx, durable bool, happened []events.Message) error {
	for _, m := range happened {
		if err := r.events.Put(tx, durable, m); err != nil {
			return err
		}
	}
	return nil
}

// Say passes on what happened without a change of a record.
func (r *Store) Say(m events.Message) { r.events.Say(m) }

func (r *Store) flushLogged() {
	if err := r.Flush(); err != nil {
		r.log.Error("write states of containers", "err", err)
	}
}

// Flush makes all states durable.
func (r *Store) Flush() error {
	r.mu.Lock()
	batch := r.dirty
	r.dirty, r.timer = map[string]State{}, nil
	r.mu.Unlock()
	if len(batch) == 0 {
		return nil
	}
	err := r.durable.Update(func(tx *metadata.Tx) error {
		for id, st := range batch {
			// A container that was removed meanwhile must not leave a state.
			if _, err := r.defs.Get(tx, id); err != nil {
				continue
			}
			if err := r.states.Put(tx, id, st); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil { // try again with the next change
		r.mu.Lock()
		defer r.mu.Unlock()
		maps.Copy(batch, r.dirty)
		r.dirty = batch
	}
	return err
}

// Remove forgets a container. How an ephemeral one ended is kept for a while,
// see Ended.
func (r *Store) Remove(d Definition, st State, happened ...events.Message) error {
	defer r.events.Tell()
	r.mu.Lock()
	delete(r.dirty, d.ID)
	r.mu.Unlock()
	if !d.Ephemeral {
		err := r.durable.Update(func(tx *metadata.Tx) error {
			if err := r.defs.Delete(tx, d.ID); err != nil {
				return err
			}
			return errors.Join(r.states.Delete(tx, d.ID), r.putEvents(tx, true, happened))
		})
		if err != nil {
			return err
		}
		happened = nil
	}
	keep := d.Ephemeral && !st.FinishedAt.IsZero()
	var expired []string
	if keep {
		expired = r.noteEnd(d.ID, time.Now())
	}
	return r.boot.Update(func(tx *metadata.Tx) error {
		if keep {
			if err := r.putEnd(tx, d.ID, st, expired); err != nil {
				return err
			}
		}
		if err := r.defs.Delete(tx, d.ID); err != nil {
			return err
		}
		return errors.Join(r.states.Delete(tx, d.ID), r.putEvents(tx, false, happened))
	})
}

// Loaded is a container as its records have it.
type Loaded struct {
	Def   Definition
	State State
	// ThisBoot is set if the state was written since the machine started:
	// what it says of processes can be true.
	ThisBoot bool
}

// Load reads all records. The boot file's state goes before the durable one's.
func (r *Store) Load() ([]Loaded, error) {
	if err := r.loadEnds(); err != nil {
		return nil, err
	}
	var all []Loaded
	boot := map[string]State{}
	err := r.boot.View(func(tx *metadata.Tx) error {
		if err := r.states.Each(tx, func(id string, st State) error { boot[id] = st; return nil }); err != nil {
			return err
		}
		return r.defs.Each(tx, func(id string, d Definition) error {
			st, ok := boot[id]
			if !ok {
				st.Status = api.StateCreated
			}
			all = append(all, Loaded{Def: d, State: st, ThisBoot: true})
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	behind := map[string]State{}
	err = r.durable.View(func(tx *metadata.Tx) error {
		return r.defs.Each(tx, func(id string, d Definition) error {
			last, err := r.states.Get(tx, id)
			if err != nil {
				last = State{Status: api.StateCreated}
			}
			st, ok := boot[id]
			if !ok {
				st = last
			} else if !reflect.DeepEqual(st, last) {
				behind[id] = st // the engine was killed before it wrote it
			}
			all = append(all, Loaded{Def: d, State: st, ThisBoot: ok})
			return nil
		})
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.Copy(r.dirty, behind)
	if len(behind) > 0 && r.timer == nil {
		r.timer = time.AfterFunc(flushDelay, r.flushLogged)
	}
	return all, err
}

// Close writes what is left.
func (r *Store) Close() error {
	r.mu.Lock()
	if r.timer != nil {
		r.timer.Stop()
	}
	r.mu.Unlock()
	return r.Flush()
}
