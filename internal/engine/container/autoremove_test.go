package container

import (
	"os"
	"path/filepath"
	"testing"

	api "github.com/moby/moby/api/types/container"

	"lade/internal/errdefs"
	"lade/internal/shim"
	"lade/test/kerneltest"
)

func TestAutoRemove(t *testing.T) {
	kerneltest.Root(t)
	for _, tt := range []struct {
		name   string
		change func(*api.HostConfig, string)
		early  bool // the answer does not wait for the shim
	}{
		{"plain", func(*api.HostConfig, string) {}, true},
		{"bind mount", func(h *api.HostConfig, dir string) { h.Binds = []string{dir + ":/mnt"} }, false},
		{"device", func(h *api.HostConfig, _ string) {
			h.Devices = []api.DeviceMapping{{PathOnHost: "/dev/null", PathInContainer: "/dev/x", CgroupPermissions: "r"}}
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newMachine(t)
			dir := t.TempDir()
			id := m.run("name", func(r *api.CreateRequest) {
				r.HostConfig.AutoRemove = true
				tt.change(r.HostConfig, dir)
			})
			removed, shimOf := m.wait(id, api.WaitConditionRemoved), m.shimOf(id)
			shimOf.finish(shim.Exit{Code: 7})
			if tt.early {
				if r := receive(t, removed); r.StatusCode != 7 {
					t.Errorf("answer %+v", r)
				}
				if _, err := m.service.Inspect(t.Context(), id, false); !errdefs.Is(err, errdefs.NotFound) {
					t.Errorf("inspect of a removed container: %v", err)
				}
				m.create("name", nil) // it is free
			} else {
				receive(t, m.wait(id, api.WaitConditionNotRunning))
				select {
				case r := <-removed:
					t.Errorf("answer %+v while the shim holds what is the host's", r)
				default:
				}
			}
			m.shims.gone(shimOf)
			if !tt.early {
				if r := receive(t, removed); r.StatusCode != 7 {
					t.Errorf("answer %+v", r)
				}
			}
			m.restart() // which waits for what is under way
			if left := m.left(); len(left) != 0 {
				t.Errorf("left behind: %q", left)
			}
			if r := receive(t, m.wait(id, api.WaitConditionRemoved)); r.StatusCode != 7 {
				t.Errorf("who asks the next engine gets %+v", r)
			}
		})
	}
}

// TestAutoRemoveCrash: the engine dies after it has told of a removal, and
// before it was done.
func TestAutoRemoveCrash(t *testing.T) {
	kerneltest.Root(t)
	m := newMachine(t)
	id := m.run("", func(r *api.CreateRequest) { r.HostConfig.AutoRemove = true })
	removed, shimOf := m.wait(id, api.WaitConditionRemoved), m.shimOf(id)
	shimOf.finish(shim.Exit{Code: 7})
	receive(t, removed)
	// What a killed engine leaves: no record, a bundle, and a shim at work.
	for _, dir := range []string{m.service.cfg.Bundle(id), m.service.cfg.Data(id)} {
		if _, err := os.Stat(dir); err != nil {
			t.Fatal(err)
		}
	}
	files := os.DirFS(m.dir)
	kept := t.TempDir()
	if err := os.CopyFS(kept, files); err != nil {
		t.Fatal(err)
	}
	m.shims.gone(shimOf)
	m.crash()
	for _, dir := range []string{"data/containers", "state/containers"} {
		if err := os.CopyFS(filepath.Join(m.dir, dir), os.DirFS(filepath.Join(kept, dir))); err != nil {
			t.Fatal(err)
		}
	}
	m.start()
	if left := m.left(); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}
