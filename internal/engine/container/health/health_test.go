package health

import (
	"strings"
	"testing"
	"time"

	api "github.com/moby/moby/api/types/container"

	"lade/internal/errdefs"
)

func TestOf(t *testing.T) {
	for _, tt := range []struct {
		test, shell []string
		want        string
	}{
		{nil, nil, "none"},
		{[]string{"NONE"}, nil, "none"},
		{[]string{"CMD", "true", "a b"}, nil, "true,a b"},
		{[]string{"CMD-SHELL", "exit 1"}, nil, "/bin/sh,-c,exit 1"},
		{[]string{"CMD-SHELL", "exit 1"}, []string{"ash", "-ec"}, "ash,-ec,exit 1"},
	} {
		c, ok := Of(&api.Config{Healthcheck: &api.HealthConfig{Test: tt.test}, Shell: tt.shell})
		got := strings.Join(c.Args, ",")
		if !ok {
			got = "none"
		}
		if got != tt.want {
			t.Errorf("%q: %s, want %s", tt.test, got, tt.want)
		}
	}
	c, _ := Of(&api.Config{Healthcheck: &api.HealthConfig{Test: []string{"CMD", "x"}}})
	if c.Pause != 30*time.Second || c.Timeout != 30*time.Second || c.StartPause != 5*time.Second || c.Retries != 3 {
		t.Errorf("%+v", c)
	}
}

// TestAfter: failures count once the container has had its time to start, or
// was healthy; the last five results are kept.
func TestAfter(t *testing.T) {
	c := Check{StartPeriod: time.Minute, StartPause: time.Second, Pause: time.Hour, Retries: 2}
	h := &api.Health{Status: api.Starting}
	step := func(code int, up time.Duration, want api.HealthStatus, streak int, next time.Duration) {
		t.Helper()
		h = c.After(h, &api.HealthcheckResult{ExitCode: code}, up)
		if h.Status != want || h.FailingStreak != streak || c.Next(h, up) != next || len(h.Log) > 5 {
			t.Errorf("%+v, next in %v; want %s %d, %v", h, c.Next(h, up), want, streak, next)
		}
	}
	step(1, time.Second, api.Starting, 0, time.Second)
	step(1, 59*time.Second, api.Starting, 0, time.Second)
	step(1, time.Minute, api.Starting, 1, time.Hour)
	step(1, time.Minute, api.Unhealthy, 2, time.Hour)
	step(1, time.Minute, api.Unhealthy, 3, time.Hour)
	step(0, time.Minute, api.Healthy, 0, time.Hour)
	step(-1, time.Second, api.Healthy, 1, time.Hour)
	step(0, time.Second, api.Healthy, 0, time.Hour)
}

func TestValid(t *testing.T) {
	for want, h := range map[string]*api.HealthConfig{
		"Unknown type":       {Test: []string{"RUN", "x"}},
		"Missing command":    {Test: []string{"CMD"}},
		"less than 1ms":      {Interval: 1},
		"cannot be negative": {Retries: -1},
	} {
		if err := Valid(h); !errdefs.Is(err, errdefs.Invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", h, err, want)
		}
	}
	for _, h := range []*api.HealthConfig{nil, {}, {Test: []string{"NONE"}}, {Test: []string{"CMD", "x"}, Timeout: time.Second}} {
		if err := Valid(h); err != nil {
			t.Errorf("%+v: %v", h, err)
		}
	}
	if _, err := Action(map[string]string{Annotation: "explode"}); !errdefs.Is(err, errdefs.Invalid) {
		t.Errorf("an unknown action: %v", err)
	}
}

func TestMerge(t *testing.T) {
	image := &api.HealthConfig{Test: []string{"CMD", "of-image"}, Interval: time.Second, Retries: 7}
	if got := Merge(&api.HealthConfig{Retries: 1}, image); got.Test[1] != "of-image" || got.Interval != time.Second || got.Retries != 1 {
		t.Errorf("%+v", got)
	}
	if got := Merge(&api.HealthConfig{Test: []string{"NONE"}}, image); got.Test[0] != "NONE" {
		t.Errorf("%+v", got)
	}
	if Merge(nil, image) != image || Merge(nil, nil) != nil {
		t.Error("one of the two")
	}
}
