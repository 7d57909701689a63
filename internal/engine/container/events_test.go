package container

import (
	"testing"

	api "github.com/moby/moby/api/types/container"

	"lade/internal/shim"
)

// TestEvents: each change of a container is told once, in order, whatever
// engine saw it.
func TestEvents(t *testing.T) {
	m := newMachine(t)
	id := m.run("first", nil)
	if err := m.service.Pause(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := m.service.Unpause(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := m.service.Rename(t.Context(), id, "second"); err != nil {
		t.Fatal(err)
	}
	if err := m.service.Stop(t.Context(), id, StopOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := m.service.Start(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	m.crash()
	m.ends(id, shim.Exit{Code: 3, OOMKilled: true})
	m.start()
	m.restart()
	if err := m.service.Remove(t.Context(), id, RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	m.restart()
	if got, want := m.happened(id), "create start pause unpause rename kill die stop start oom die destroy"; got != want {
		t.Errorf("events %q, want %q", got, want)
	}
	gone := m.run("third", func(r *api.CreateRequest) { r.HostConfig.AutoRemove = true })
	m.crash()
	m.ends(gone, shim.Exit{Code: 1})
	m.start()
	if got, want := m.happened(gone), "create start die destroy"; got != want {
		t.Errorf("events %q, want %q", got, want)
	}
}
