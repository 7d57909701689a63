// Package table finds things by id, by name and by the beginning of an id, and
// sees to it that no two have the same name.
//
// A name is reserved for an id before the thing is there, and stands from then
// on; a thing is found from Put on.
package table

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"

	"lade/internal/engine/container/words"
	"lade/internal/errdefs"
	"lade/internal/ident"
)

// Table holds containers, as far as their names are concerned.
type Table[T any] struct {
	mu    sync.Mutex
	byID  map[string]T      // guarded by mu
	names map[string]string // name -> id; guarded by mu
}

// New returns an empty table.
func New[T any]() *Table[T] {
	return &Table[T]{byID: map[string]T{}, names: map[string]string{}}
}

// Put makes a thing known by its id, and by a name unless that is empty.
func (t *Table[T]) Put(id, name string, v T) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.byID[id] = v
	if name != "" {
		t.names[name] = id
	}
}

// Get returns what has exactly this id.
func (t *Table[T]) Get(id string) (v T, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	v, ok = t.byID[id]
	return v, ok
}

// Drop forgets a thing and its name.
func (t *Table[T]) Drop(id, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.byID, id)
	if t.names[name] == id {
		delete(t.names, name)
	}
}

// Find finds a thing by id, name or the beginning of its id, in this order.
func (t *Table[T]) Find(ref string) (found T, err error) {
	ref = strings.TrimPrefix(ref, "/")
	t.mu.Lock()
	defer t.mu.Unlock()
	if v, ok := t.byID[ref]; ok {
		return v, nil
	}
	if v, ok := t.byID[t.names[ref]]; ok {
		return v, nil
	}
	matches := 0
	if ident.IsPrefix(ref) {
		for id, v := range t.byID {
			if strings.HasPrefix(id, ref) {
				found = v
				matches++
			}
		}
	}
	switch matches {
	case 0:
		return found, errdefs.New(errdefs.NotFound, "No such container: %s", ref)
	case 1:
		return found, nil
	default:
		var none T
		return none, errdefs.Hint(errdefs.New(errdefs.Invalid, "multiple IDs found with provided prefix: %s", ref), "give more of its characters")
	}
}

// Reserve takes a name for an id, or makes one up if it is empty.
func (t *Table[T]) Reserve(name, id string) (string, error) {
	name = strings.TrimPrefix(name, "/")
	if name != "" && !ident.IsName(name) {
		return "", errdefs.New(errdefs.Invalid, "Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if owner, taken := t.names[name]; name != "" && taken {
		return "", errdefs.New(errdefs.Conflict, "Conflict. The container name \"/%s\" is already in use by container %q. You have to remove (or rename) that container to be able to reuse that name.", name, owner)
	}
	if name == "" {
		name = t.madeUp(id)
	}
	t.names[name] = id
	return name, nil
}

// madeUp returns a name that nobody has. t.mu is held.
func (t *Table[T]) madeUp(id string) string {
	for try := range 20 {
		name := words.Name()
		if try > 5 {
			name += fmt.Sprint(rand.IntN(1000))
		}
		if _, taken := t.names[name]; !taken {
			return name
		}
	}
	return ident.Short(id)
}

// Release gives a name back that an id has.
func (t *Table[T]) Release(name, id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.names[name] == id {
		delete(t.names, name)
	}
}

// All returns everything, in no order.
func (t *Table[T]) All() []T {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]T, 0, len(t.byID))
	for _, v := range t.byID {
		list = append(list, v)
	}
	return list
}

// Len returns how many things and how many names there are.
func (t *Table[T]) Len() (things, names int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.byID), len(t.names)
}
