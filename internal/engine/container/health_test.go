package container

import (
	"context"
	"errors"
	"os"
	"sync/atomic"
	"testing"
	"time"

	api "github.com/moby/moby/api/types/container"

	"lade/internal/errdefs"
	"lade/internal/shim"
)

func checked(change func(*api.CreateRequest)) func(*api.CreateRequest) {
	return func(r *api.CreateRequest) {
		r.Healthcheck = &api.HealthConfig{Test: []string{"CMD", "check"}, Interval: time.Millisecond, Retries: 2}
		if change != nil {
			change(r)
		}
	}
}

// checks is what the health checks of all containers come to.
type checks struct {
	code atomic.Int32
	hang atomic.Bool
}

func (k *checks) exec(_ context.Context, e shim.ExecConfig) (int, error) {
	if len(e.Attach) != 1 || len(e.Process) == 0 {
		return 0, errors.New("no process, or no client")
	}
	_, _ = e.Attach[0].File.WriteString("said")
	return 1 << 30, nil // nobody's
}

func (k *checks) wait(ctx context.Context) (shim.Exit, error) {
	if k.hang.Load() {
		<-ctx.Done()
		return shim.Exit{}, ctx.Err()
	}
	return shim.Exit{Code: int(k.code.Load())}, nil
}

// TestHealth: starting, healthy, unhealthy and back, told each time; another
// engine goes on with it.
func TestHealth(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: the check's user is looked up in a process's root")
	}
	m := newMachine(t)
	k := &checks{}
	m.shims.checks = k
	m.health = &api.HealthConfig{Test: []string{"CMD", "of-image"}, Timeout: time.Hour}
	id := m.run("web", checked(nil))
	m.listen(id, "create start health_status: healthy")
	k.code.Store(1)
	m.listen(id, "create start health_status: healthy health_status: unhealthy")
	m.restart()
	k.code.Store(0)
	m.listen(id, "create start health_status: healthy health_status: unhealthy health_status: healthy")
	h := m.state(id).Health
	if h == nil || h.Status != api.Healthy || h.FailingStreak != 0 || len(h.Log) > 5 {
		t.Fatalf("%+v", h)
	}
	for _, l := range h.Log {
		if l.Output != "said" {
			t.Errorf("%+v", l)
		}
	}
	list, err := m.service.List(t.Context(), ListOptions{Filters: map[string][]string{"health": {"healthy"}}})
	if err != nil || len(list) != 1 || list[0].Health.Status != api.Healthy {
		t.Errorf("%+v, %v", list, err)
	}
	if r, err := m.service.Inspect(t.Context(), id, false); err != nil || r.Config.Healthcheck.Timeout != time.Hour || r.Config.Healthcheck.Test[1] != "check" {
		t.Errorf("%+v, %v", r.Config.Healthcheck, err)
	}
	m.ends(id, shim.Exit{})
	m.settled(id)
}

// TestUnhealthy: a check that hangs is ended; the container is restarted, or
// stopped, if it asks for that.
func TestUnhealthy(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: the check's user is looked up in a process's root")
	}
	m := newMachine(t)
	k := &checks{}
	k.hang.Store(true)
	m.shims.checks = k
	act := func(action string) func(*api.CreateRequest) {
		return checked(func(r *api.CreateRequest) {
			r.Healthcheck.Timeout = time.Millisecond
			r.HostConfig.Annotations = map[string]string{"lade.on-unhealthy": action}
		})
	}
	stops := m.run("stops", act("stop"))
	m.listen(stops, "create start health_status: unhealthy kill die stop")
	if h := m.state(stops).Health; h.Log[0].ExitCode != -1 || h.Log[0].Output != "Health check exceeded timeout (1ms): said" {
		t.Errorf("%+v", h.Log[0])
	}
	again := m.run("again", act("restart"))
	m.listen(again, "create start health_status: unhealthy kill die stop start restart")
	if _, err := m.service.Create(t.Context(), "bad", api.CreateRequest{Config: &api.Config{Image: "app"}, HostConfig: &api.HostConfig{Annotations: map[string]string{"lade.on-unhealthy": "cry"}}}, ""); !errdefs.Is(err, errdefs.Invalid) {
		t.Errorf("an unknown action: %v", err)
	}
}
