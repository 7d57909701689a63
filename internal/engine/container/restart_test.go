package container

import (
	"testing"
	"time"

	api "github.com/moby/moby/api/types/container"

	"lade/internal/errdefs"
	"lade/internal/shim"
)

func policy(name api.RestartPolicyMode, times int) func(*api.CreateRequest) {
	return func(r *api.CreateRequest) {
		r.HostConfig.RestartPolicy = api.RestartPolicy{Name: name, MaximumRetryCount: times}
	}
}

// restarts returns how often a container was started again.
func (m *machine) restarts(id string) int {
	m.t.Helper()
	r, err := m.service.Inspect(m.t.Context(), id, false)
	if err != nil {
		m.t.Fatal(err)
	}
	return r.RestartCount
}

// TestRestartOnFailure: as often as asked for, then no more; one that ends in
// order is not started again.
func TestRestartOnFailure(t *testing.T) {
	m := newMachine(t)
	id := m.run("fails", policy(api.RestartPolicyOnFailure, 2))
	want := "create start"
	for n := range 3 {
		m.ends(id, shim.Exit{Code: 1})
		if want += " die"; n < 2 {
			want += " start"
		}
		m.listen(id, want)
	}
	m.settled(id)
	if st := m.state(id); st.Running || st.Restarting || st.ExitCode != 1 || m.restarts(id) != 2 {
		t.Errorf("%+v, started again %d times", st, m.restarts(id))
	}
	// Who starts it begins anew.
	if err := m.service.Start(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if n := m.restarts(id); n != 0 {
		t.Errorf("started again %d times", n)
	}
	m.ends(id, shim.Exit{})
	m.settled(id)
	if st := m.state(id); st.Running || m.happened(id) != want+" start die" {
		t.Errorf("%+v, %s", st, m.happened(id))
	}
}

// TestRestartIsGivenUp: stop, kill and rm end what is about to be started
// again; a restart does at once what the policy would do later.
func TestRestartIsGivenUp(t *testing.T) {
	m := newMachine(t)
	id := m.run("loops", policy(api.RestartPolicyAlways, 0))
	waiting := func() {
		t.Helper()
		c, err := m.service.lookup(id)
		if err != nil {
			t.Fatal(err)
		}
		c.mu.Lock()
		c.state.RestartPause = time.Hour // the next pause is the longest
		c.mu.Unlock()
		r := c.current()
		m.ends(id, shim.Exit{Code: 1})
		<-r.ended
		if st := m.state(id); !st.Running || !st.Restarting || st.Status != api.StateRestarting {
			t.Fatalf("%+v", st)
		}
	}
	waiting()
	for name, err := range map[string]error{
		"start": m.service.Start(t.Context(), id), "pause": m.service.Pause(t.Context(), id),
		"rm": m.service.Remove(t.Context(), id, RemoveOptions{}),
	} {
		if !errdefs.Is(err, errdefs.Conflict) && !errdefs.Is(err, errdefs.NotModified) {
			t.Errorf("%s while it is restarting: %v", name, err)
		}
	}
	ended := m.wait(id, api.WaitConditionNotRunning)
	if err := m.service.Stop(t.Context(), id, StopOptions{}); err != nil {
		t.Fatal(err)
	}
	if r := receive(t, ended); r.StatusCode != 1 {
		t.Errorf("%+v", r)
	}
	if st := m.state(id); st.Running || st.Status != api.StateExited {
		t.Errorf("%+v", st)
	}
	m.restart()
	if st := m.state(id); st.Running {
		t.Errorf("another engine has started it: %+v", st)
	}
	if err := m.service.Start(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	waiting()
	if err := m.service.Restart(t.Context(), id, StopOptions{}); err != nil {
		t.Fatal(err)
	}
	waiting()
	if err := m.service.Kill(t.Context(), id, ""); err != nil {
		t.Fatal(err)
	}
	if st := m.state(id); st.Running {
		t.Errorf("%+v", st)
	}
	if err := m.service.Start(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	waiting()
	if err := m.service.Remove(t.Context(), id, RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
}

// TestRestartIsNotStopped: a container that somebody stopped stays so; a signal
// that is not meant to end it changes nothing.
func TestRestartIsNotStopped(t *testing.T) {
	m := newMachine(t)
	id := m.run("stays", policy(api.RestartPolicyUnlessStopped, 0))
	if err := m.service.Kill(t.Context(), id, "HUP"); err != nil { // it dies of it
		t.Fatal(err)
	}
	m.listen(id, "create start kill die start")
	if err := m.service.Stop(t.Context(), id, StopOptions{}); err != nil {
		t.Fatal(err)
	}
	if st := m.state(id); st.Running {
		t.Errorf("%+v", st)
	}
}

// TestRestartAcrossEngines: what an engine has recorded the next one does, also
// where the container ended while there was none, and after a boot.
func TestRestartAcrossEngines(t *testing.T) {
	m := newMachine(t)
	always := m.run("always", policy(api.RestartPolicyAlways, 0))
	unless := m.run("unless", policy(api.RestartPolicyUnlessStopped, 0))
	no := m.run("no", nil)
	m.crash()
	for _, id := range []string{always, unless, no} {
		m.ends(id, shim.Exit{Code: 1})
	}
	m.start()
	m.listen(always, "create start die start")
	m.listen(unless, "create start die start")
	m.listen(no, "create start die")
	for _, id := range []string{always, unless} {
		if err := m.service.Stop(t.Context(), id, StopOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	m.restart()
	for _, id := range []string{always, unless, no} {
		if st := m.state(id); st.Running {
			t.Errorf("an engine that follows starts what was stopped: %+v", st)
		}
	}
	if err := m.service.records.Flush(); err != nil {
		t.Fatal(err)
	}
	m.crash()
	m.boot = "boot-2"
	m.start()
	m.listen(always, "create start die start kill die stop start")
	if st := m.state(unless); st.Running {
		t.Errorf("stopped, and started at boot: %+v", st)
	}
}
