package container

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"

	"lade/internal/engine/container/request"
	"lade/internal/engine/container/volumes"
	"lade/internal/errdefs"
	"lade/internal/linux/fsat"
	"lade/internal/shim"
	"lade/test/kerneltest"
)

// fakeVolumes notes who has which volumes.
type fakeVolumes struct {
	dir string

	mu      sync.Mutex
	last    int                 // guarded by mu
	has     map[string][]string // container -> volumes; guarded by mu
	kept    []string            // guarded by mu
	removed []string            // guarded by mu
	mounted map[string]bool     // guarded by mu
	fail    error
}

func (f *fakeVolumes) Take(_ context.Context, container, name string, _ request.VolumeOptions) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil && name == "bad" {
		return "", f.fail
	}
	if name == "" {
		f.last++
		name = fmt.Sprintf("anon%d", f.last)
	}
	f.has[container] = append(f.has[container], name)
	return name, nil
}

func (f *fakeVolumes) Path(name string) string { return filepath.Join(f.dir, name) }

func (f *fakeVolumes) Fill(context.Context, string, func() (*fsat.Dir, error)) error { return nil }

func (f *fakeVolumes) Mount(_ context.Context, container string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mounted[container] = true
	return nil
}

func (f *fakeVolumes) Unmount(container string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.mounted, container)
}

func (f *fakeVolumes) Keep(_ context.Context, container string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.kept = append(f.kept, f.has[container]...)
	return nil
}

func (f *fakeVolumes) Release(_ context.Context, container string, remove bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, v := range f.has[container] {
		if remove && strings.HasPrefix(v, "anon") {
			f.removed = append(f.removed, v)
		}
	}
	delete(f.has, container)
	return nil
}

func (f *fakeVolumes) Recover(_ context.Context, users []volumes.User) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.has = map[string][]string{}
	for _, u := range users {
		f.has[u.ID] = u.Volumes
		f.mounted[u.ID] = u.Running
	}
	return nil
}

func (f *fakeVolumes) of(container string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.has[container])
}

// TestVolumes follows a container's volumes through its life.
func TestVolumes(t *testing.T) {
	kerneltest.Root(t)
	m := newMachine(t)
	id := m.create("db", func(r *api.CreateRequest) {
		r.HostConfig.Binds = []string{"data:/data", "/anon"}
	})
	has := m.vols.of(id)
	if !slices.Contains(has, "data") || !slices.Contains(has, "anon1") {
		t.Fatalf("the container has %v", has)
	}
	r, err := m.service.Inspect(t.Context(), id, false)
	if err != nil {
		t.Fatal(err)
	}
	var got api.MountPoint
	for _, p := range r.Mounts {
		if p.Destination == "/data" {
			got = p
		}
	}
	if d := cmp.Diff(api.MountPoint{Type: mount.TypeVolume, Name: "data", Source: m.vols.Path("data"), Destination: "/data", Driver: "local", Mode: "z", RW: true}, got); d != "" {
		t.Errorf("inspect: %s", d)
	}
	other := m.create("copy", func(r *api.CreateRequest) { r.HostConfig.VolumesFrom = []string{"db:ro"} })
	if !slices.Contains(m.vols.of(other), "anon1") {
		t.Errorf("--volumes-from gave %v", m.vols.of(other))
	}
	if err := m.service.Start(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	m.vols.mu.Lock()
	if !m.vols.mounted[id] || m.vols.mounted[other] {
		t.Errorf("mounted: %v", m.vols.mounted)
	}
	m.vols.mu.Unlock()
	m.ends(id, shim.Exit{})
	m.settled(id)
	m.vols.mu.Lock()
	if m.vols.mounted[id] {
		t.Error("mounted after the end")
	}
	m.vols.mu.Unlock()
	m.crash()
	m.start()
	if d := cmp.Diff(has, m.vols.of(id), cmp.Transformer("sort", func(l []string) []string { return slices.Sorted(slices.Values(l)) })); d != "" {
		t.Errorf("after a restart of the engine: %s", d)
	}
	if err := m.service.Remove(t.Context(), id, RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if len(m.vols.removed) > 0 || !slices.Contains(m.vols.kept, "anon1") {
		t.Errorf("rm removed %v and kept %v", m.vols.removed, m.vols.kept)
	}
	if err := m.service.Remove(t.Context(), other, RemoveOptions{Volumes: true}); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(m.vols.removed, "anon1") {
		t.Errorf("rm -v removed %v", m.vols.removed)
	}
}

// TestVolumesOfNone gives back the volumes of a container that cannot be.
func TestVolumesOfNone(t *testing.T) {
	m := newMachine(t)
	m.vols.fail = errdefs.New(errdefs.Invalid, "no such luck")
	_, err := m.service.Create(t.Context(), "xx", api.CreateRequest{
		Config: &api.Config{Image: "app"}, HostConfig: &api.HostConfig{NetworkMode: "none", Binds: []string{"/anon", "bad:/bad"}},
	}, "")
	if !errdefs.Is(err, errdefs.Invalid) || err.Error() != "no such luck" {
		t.Errorf("create: %v", err)
	}
	if len(m.vols.has) > 0 || !slices.Contains(m.vols.removed, "anon1") {
		t.Errorf("left: %v", m.vols.has)
	}
	if _, err := m.service.Create(t.Context(), "xx", api.CreateRequest{
		Config: &api.Config{Image: "app"}, HostConfig: &api.HostConfig{NetworkMode: "none", VolumesFrom: []string{"nobody"}},
	}, ""); !errdefs.Is(err, errdefs.NotFound) {
		t.Errorf("--volumes-from nobody: %v", err)
	}
}
