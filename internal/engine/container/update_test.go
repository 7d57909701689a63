package container

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	api "github.com/moby/moby/api/types/container"

	"lade/internal/errdefs"
)

func (m *machine) memory(ref string) int64 {
	m.t.Helper()
	r, err := m.service.Inspect(m.t.Context(), ref, false)
	if err != nil {
		m.t.Fatal(err)
	}
	return r.HostConfig.Memory
}

func memory(n int64) api.UpdateConfig {
	return api.UpdateConfig{Resources: api.Resources{Memory: n}}
}

func TestUpdate(t *testing.T) {
	m := newMachine(t)
	id := m.run("web", func(r *api.CreateRequest) { r.HostConfig.CPUShares = 512 })
	if _, err := m.service.Update(t.Context(), "web", memory(64<<20)); err != nil {
		t.Fatal(err)
	}
	if calls := m.runtimeCalls(); !strings.Contains(calls, "update --resources - "+id) {
		t.Errorf("the runtime was told to %s", calls)
	}
	if got := m.happened(id); got != "create start update" {
		t.Errorf("happened: %s", got)
	}
	m.restart()
	if n := m.memory("web"); n != 64<<20 {
		t.Errorf("the next engine knows of %d bytes", n)
	}
	if got := m.happened(id); got != "create start update" {
		t.Errorf("happened with the next engine: %s", got)
	}

	still := m.create("still", nil)
	u := memory(64 << 20)
	u.RestartPolicy.Name = "always"
	if _, err := m.service.Update(t.Context(), "still", u); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(m.runtimeCalls(), "update --resources - "+still) {
		t.Error("the runtime was told of a container that does not run")
	}
	if r, err := m.service.Inspect(t.Context(), still, false); err != nil || r.HostConfig.Memory != 64<<20 || !r.HostConfig.RestartPolicy.IsAlways() {
		t.Errorf("%+v, %v", r.HostConfig, err)
	}
	if _, err := m.service.Update(t.Context(), "web", memory(5)); !errdefs.Is(err, errdefs.Invalid) {
		t.Errorf("five bytes: %v", err)
	}
	if _, err := m.service.Update(t.Context(), "nobody", u); !errdefs.Is(err, errdefs.NotFound) {
		t.Errorf("nobody: %v", err)
	}
}

// What the kernel refuses is not kept either.
func TestUpdateRefused(t *testing.T) {
	m := newMachine(t)
	id := m.run("web", nil)
	text := "#!/bin/sh\necho \"$@\" >> " + m.dir + "/runtime.log\ncase $* in *update*) echo busy >&2; exit 1;; esac\n"
	if err := os.WriteFile(filepath.Join(m.dir, "runtime"), []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	// The process that stands for the container must be one: its end would be an excuse.
	if _, err := m.service.Update(t.Context(), "web", memory(64<<20)); err == nil || !strings.Contains(err.Error(), "busy") {
		t.Errorf("error %v", err)
	}
	if n := m.memory("web"); n != 0 {
		t.Errorf("%d bytes are kept", n)
	}
	m.restart()
	if n := m.memory("web"); n != 0 {
		t.Errorf("the next engine knows of %d bytes", n)
	}
	if got := m.happened(id); got != "create start" {
		t.Errorf("happened: %s", got)
	}
}

// An engine that is killed between the record and the kernel leaves the rest to
// the next one.
func TestUpdateKilled(t *testing.T) {
	m := newMachine(t)
	id := m.run("web", nil)
	c, err := m.service.lookup(id)
	if err != nil {
		t.Fatal(err)
	}
	def, _ := c.view()
	host := *def.Host
	host.Memory = 64 << 20
	def.Host = &host
	if err := m.service.setUpdating(c, true); err != nil {
		t.Fatal(err)
	}
	if err := m.service.redefine(c, def); err != nil {
		t.Fatal(err)
	}
	m.restart()
	if calls := m.runtimeCalls(); !strings.Contains(calls, "update --resources - "+id) {
		t.Errorf("the runtime was told to %s", calls)
	}
	if got := m.happened(id); got != "create start update" {
		t.Errorf("happened: %s", got)
	}
	m.restart()
	if n := strings.Count(m.runtimeCalls(), "update"); n != 1 {
		t.Errorf("the runtime was told %d times", n)
	}
}
