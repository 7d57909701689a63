// Package health says what a container's health check asks for, and what its
// results make of the container's health; and runs it once.
package health

import (
	"slices"
	"time"

	api "github.com/moby/moby/api/types/container"

	"lade/internal/errdefs"
)

// Docker's defaults and bounds.
const (
	defaultPause      = 30 * time.Second
	defaultTimeout    = 30 * time.Second
	defaultStartPause = 5 * time.Second
	defaultRetries    = 3
	keptResults       = 5
	// MaxOutput is how much of what a check prints is kept.
	MaxOutput = 4096
)

// Check is a health check with all that it left open filled in.
type Check struct {
	Args        []string
	Pause       time.Duration // between two runs
	Timeout     time.Duration
	StartPeriod time.Duration // in which failures do not count
	StartPause  time.Duration // between two runs in it
	Retries     int
}

// Of returns the health check of a container; ok is false if it has none.
func Of(c *api.Config) (check Check, ok bool) {
	h := c.Healthcheck
	if h == nil || len(h.Test) < 2 {
		return Check{}, false
	}
	check = Check{
		Pause: or(h.Interval, defaultPause), Timeout: or(h.Timeout, defaultTimeout), StartPeriod: h.StartPeriod,
		StartPause: or(h.StartInterval, defaultStartPause), Retries: or(h.Retries, defaultRetries),
	}
	switch h.Test[0] {
	case "CMD":
		check.Args = slices.Clone(h.Test[1:])
	case "CMD-SHELL":
		shell := c.Shell
		if len(shell) == 0 {
			shell = []string{"/bin/sh", "-c"}
		}
		check.Args = append(slices.Clone(shell), h.Test[1])
	default:
		return Check{}, false
	}
	return check, true
}

func or[T comparable](v, otherwise T) T {
	var none T
	if v == none {
		return otherwise
	}
	return v
}

// Merge fills in what a request leaves open from the image's check. A request
// can turn that off.
func Merge(user, image *api.HealthConfig) *api.HealthConfig {
	if image == nil {
		return user
	}
	if user == nil {
		return image
	}
	m := *user
	if len(m.Test) == 0 {
		m.Test = image.Test
	}
	m.Interval, m.Timeout, m.StartPeriod = or(m.Interval, image.Interval), or(m.Timeout, image.Timeout), or(m.StartPeriod, image.StartPeriod)
	m.StartInterval, m.Retries = or(m.StartInterval, image.StartInterval), or(m.Retries, image.Retries)
	return &m
}

// Valid says what is wrong with the check of a request.
func Valid(h *api.HealthConfig) error {
	if h == nil {
		return nil
	}
	for _, t := range []struct {
		name string
		d    time.Duration
	}{{"Interval", h.Interval}, {"Timeout", h.Timeout}, {"StartPeriod", h.StartPeriod}, {"StartInterval", h.StartInterval}} {
		if t.d != 0 && t.d < time.Millisecond {
			return errdefs.New(errdefs.Invalid, "%s in Healthcheck cannot be less than 1ms", t.name)
		}
	}
	if h.Retries < 0 {
		return errdefs.New(errdefs.Invalid, "Retries in Healthcheck cannot be negative")
	}
	if len(h.Test) == 0 {
		return nil
	}
	switch kind := h.Test[0]; {
	case kind == "" || kind == "NONE":
	case kind != "CMD" && kind != "CMD-SHELL":
		return errdefs.New(errdefs.Invalid, "Unknown type in Healthcheck: %s", kind)
	case len(h.Test) < 2:
		return errdefs.New(errdefs.Invalid, "Missing command in Healthcheck")
	}
	return nil
}

// Next returns how long to wait for the next run.
func (c Check) Next(h *api.Health, up time.Duration) time.Duration {
	if h.Status == api.Starting && up < c.StartPeriod {
		return min(c.StartPause, c.StartPeriod)
	}
	return c.Pause
}

// After returns the health that was h, with one more result. h stays as it is.
func (c Check) After(h *api.Health, r *api.HealthcheckResult, up time.Duration) *api.Health {
	next := &api.Health{Status: h.Status, FailingStreak: h.FailingStreak, Log: append(slices.Clone(h.Log), r)}
	if n := len(next.Log); n > keptResults {
		next.Log = next.Log[n-keptResults:]
	}
	switch {
	case r.ExitCode == 0:
		next.Status, next.FailingStreak = api.Healthy, 0
	case h.Status == api.Starting && up < c.StartPeriod:
	default:
		if next.FailingStreak++; next.FailingStreak >= c.Retries {
			next.Status = api.Unhealthy
		}
	}
	return next
}

// What is done about a container that became unhealthy is an annotation of it:
// so Docker's clients can ask for it too.
const (
	Annotation = "lade.on-unhealthy"
	Restart    = "restart"
	Stop       = "stop"
	None       = "none"
)

// Action returns what the annotations of a container ask for.
func Action(annotations map[string]string) (string, error) {
	switch a := annotations[Annotation]; a {
	case "", None:
		return None, nil
	case Restart, Stop:
		return a, nil
	default:
		return "", errdefs.New(errdefs.Invalid, "invalid action %q for an unhealthy container: want restart, stop or none", a)
	}
}
