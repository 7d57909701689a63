package container

import (
	"context"
	"errors"
	"testing"

	api "github.com/moby/moby/api/types/container"

	"lade/internal/engine/container/depend"
	"lade/internal/errdefs"
	"lade/internal/shim"
)

func on(deps string) func(*api.CreateRequest) {
	return func(r *api.CreateRequest) { r.HostConfig.Annotations = map[string]string{depend.Annotation: deps} }
}

// begin starts a container and returns what comes of it.
func (m *machine) begin(ctx context.Context, ref string) <-chan error {
	done := make(chan error, 1)
	go func() { done <- m.service.Start(ctx, ref) }()
	return done
}

// up waits until a container runs.
func (m *machine) up(ref string) {
	m.t.Helper()
	for {
		_, st, changed, err := others{m.service}.Look(ref)
		if err != nil {
			m.t.Fatal(err)
		}
		if st.Status == api.StateRunning {
			return
		}
		select {
		case <-changed:
		case <-m.t.Context().Done():
			m.t.Fatal("it does not run")
		}
	}
}

func TestDependsOn(t *testing.T) {
	m := newMachine(t)
	base := m.create("base", nil)
	work := m.create("work", on("base"))
	m.create("web", on("work:completed"))
	done := m.begin(t.Context(), "web")
	m.up("work")
	if st := m.state("base"); !st.Running {
		t.Error("what is depended on by what is depended on does not run")
	}
	if st := m.state("web"); st.Running {
		t.Error("it did not wait")
	}
	m.ends(work, shim.Exit{})
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if st := m.state("web"); !st.Running {
		t.Error("it does not run")
	}
	if got := m.happened(base); got != "create start" {
		t.Errorf("happened: %s", got)
	}
}

func TestDependsOnNever(t *testing.T) {
	m := newMachine(t)
	work := m.create("work", nil)
	m.create("web", on("work:completed"))
	done := m.begin(t.Context(), "web")
	m.up("work")
	m.ends(work, shim.Exit{Code: 3})
	if err := <-done; !errdefs.Is(err, errdefs.Conflict) {
		t.Errorf("error %v", err)
	}
	m.create("lonely", on("nobody"))
	if err := m.service.Start(t.Context(), "lonely"); !errdefs.Is(err, errdefs.NotFound) {
		t.Errorf("without the other one: %v", err)
	}
	m.create("sick", on("work:healthy"))
	if err := m.service.Start(t.Context(), "sick"); !errdefs.Is(err, errdefs.Conflict) {
		t.Errorf("without a health check: %v", err)
	}
	// Who gives up waiting is told so, and nobody runs that was waited for in vain.
	ctx, cancel := context.WithCancel(t.Context())
	m.create("long", nil)
	m.create("hasty", on("long:completed"))
	done = m.begin(ctx, "hasty")
	m.up("long")
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if st := m.state("hasty"); st.Running {
		t.Error("it runs")
	}
}

func TestDependsOnEachOther(t *testing.T) {
	m := newMachine(t)
	m.create("aa", on("bb"))
	m.create("bb", on("cc"))
	for name, deps := range map[string]string{"cc": "aa:healthy", "dd": "dd"} {
		req := api.CreateRequest{Config: &api.Config{Image: "app"}, HostConfig: &api.HostConfig{NetworkMode: "none"}}
		on(deps)(&req)
		if _, err := m.service.Create(t.Context(), name, req, ""); !errdefs.Is(err, errdefs.Conflict) {
			t.Errorf("%s on %s: %v", name, deps, err)
		}
	}
	// A name can come to mean another one later.
	m.create("xx", nil)
	if err := m.service.Rename(t.Context(), "xx", "cc"); err != nil {
		t.Fatal(err)
	}
	if err := m.service.Start(t.Context(), "aa"); err != nil {
		t.Error(err)
	}
}

// After a boot, what restart policies start waits for what it depends on, which
// is started for it.
func TestDependsOnAtBoot(t *testing.T) {
	m := newMachine(t)
	m.create("base", nil)
	m.run("web", func(r *api.CreateRequest) {
		on("base")(r)
		r.HostConfig.RestartPolicy.Name = "always"
	})
	if err := m.service.records.Flush(); err != nil {
		t.Fatal(err)
	}
	m.crash()
	m.boot = "boot-2"
	for _, s := range m.shims.byBundle {
		m.shims.gone(s)
	}
	m.start()
	m.up("web")
	m.up("base")
}
