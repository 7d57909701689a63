package container

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	api "github.com/moby/moby/api/types/container"

	"lade/internal/errdefs"
)

// From a shim that is there and does not speak nothing is taken: neither its
// bundle nor its container. The engine serves all the same, and the one that
// finds it well goes on with it.
func TestMuteShim(t *testing.T) {
	m := newMachine(t)
	id := m.run("web", nil)
	m.crash()
	m.shims.mute = errdefs.New(errdefs.Unavailable, "it neither speaks nor leaves")
	m.start()
	if calls := m.runtimeCalls(); strings.Contains(calls, "delete") {
		t.Errorf("the runtime was told to %s", calls)
	}
	if left := m.left(); !slices.Contains(left, "state/containers/"+id) {
		t.Errorf("the bundle is gone: %v", left)
	}
	m.crash()
	m.shims.mute = nil
	m.start()
	if st := m.state("web"); st.Status != api.StateRunning {
		t.Errorf("the container is %s", st.Status)
	}
}

// A container of which only the runtime knows is what a shim left that was
// killed in the middle: it is removed, whether there is a record or not.
func TestRuntimeKnowsMore(t *testing.T) {
	m := newMachine(t)
	id := m.create("web", nil)
	const unknown = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	m.crash()
	for _, of := range []string{id, unknown} {
		if err := os.MkdirAll(filepath.Join(m.dir, "state", "runtime", of), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	m.start()
	for _, of := range []string{id, unknown} {
		if calls := m.runtimeCalls(); !strings.Contains(calls, "delete --force "+of) {
			t.Errorf("the runtime was not told to remove %.12s: %s", of, calls)
		}
	}
	if st := m.state("web"); st.Status != api.StateCreated {
		t.Errorf("the container is %s", st.Status)
	}
}
