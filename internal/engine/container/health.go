package container

import (
	"context"
	"fmt"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	api "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"lade/internal/engine/container/health"
	"lade/internal/engine/container/launch"
	"lade/internal/engine/container/record"
	"lade/internal/image"
)

const (
	// maxChecks bounds how many health checks run at the same time, of all
	// containers together: who has hundreds wants to run them, not to check them.
	maxChecks = 16
)

// startingHealth is the health of a container that begins to run; nil if nobody
// asks.
func startingHealth(def record.Definition) *api.Health {
	if _, ok := health.Of(def.Config); !ok {
		return nil
	}
	return &api.Health{Status: api.Starting}
}

// withHealth fills a request's health check in from its image, and checks it.
func (s *Service) withHealth(ctx context.Context, req api.CreateRequest, img image.Image) (api.CreateRequest, error) {
	if err := health.Valid(req.Healthcheck); err != nil {
		return req, err
	}
	if req.HostConfig != nil {
		if _, err := health.Action(req.HostConfig.Annotations); err != nil {
			return req, err
		}
	}
	of, err := s.cfg.Images.Health(ctx, img)
	if err != nil {
		return req, err
	}
	cfg := *req.Config
	cfg.Healthcheck = health.Merge(cfg.Healthcheck, of)
	req.Config = &cfg
	return req, nil
}

// watchHealth checks a container as long as it runs.
func (s *Service) watchHealth(ctx context.Context, c *container, r *run) {
	def, st := c.view()
	check, ok := health.Of(def.Config)
	if !ok {
		return
	}
	began := st.StartedAt
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	for {
		_, st := c.view()
		if st.Health == nil { // an engine before this one did not know of it
			st.Health = startingHealth(def)
		}
		timer.Reset(check.Next(st.Health, time.Since(began)))
		select {
		case <-timer.C:
		case <-r.ended:
			return
		case <-s.quit:
			return
		}
		select {
		case s.checks <- struct{}{}:
		case <-r.ended:
			return
		case <-s.quit:
			return
		}
		result := s.checkHealth(ctx, c, r, check)
		<-s.checks
		if result != nil {
			s.noteHealth(ctx, c, r, check, result)
		}
	}
}

// checkHealth runs a check once. Without a result there was nothing to check.
func (s *Service) checkHealth(ctx context.Context, c *container, r *run, check health.Check) *api.HealthcheckResult {
	sh := c.shimNow()
	def, st := c.view()
	if sh == nil || st.Status != api.StateRunning || c.current() != r {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, check.Timeout)
	defer cancel()
	result := &api.HealthcheckResult{Start: time.Now()}
	code, output, err := health.Run(ctx, sh, s.cfg.Bundle(def.ID), func() (*specs.Process, error) {
		return launch.ExecProcess(def, st, api.ExecCreateRequest{Cmd: check.Args})
	})
	result.End = time.Now()
	result.ExitCode, result.Output = code, output
	if ctx.Err() != nil {
		result.ExitCode, result.Output = -1, fmt.Sprintf("Health check exceeded timeout (%v)", check.Timeout)
		if output != "" {
			result.Output += ": " + output
		}
	} else if err != nil {
		result.ExitCode, result.Output = -1, err.Error()
	}
	return result
}

// noteHealth notes a result, and does what is to be done when the container
// becomes unhealthy. Only a change of the status is recorded: two hundred
// containers with a check each are to cost no waits for the disk.
func (s *Service) noteHealth(ctx context.Context, c *container, r *run, check health.Check, result *api.HealthcheckResult) {
	unhealthy := false
	err := s.change(c, func(def record.Definition, st *record.State) (happened []events.Message, write bool) {
		if c.current() != r || !st.Alive() {
			return nil, false
		}
		was := st.Health
		if was == nil {
			was = &api.Health{Status: api.Starting}
		}
		st.Health = check.After(was, result, result.Start.Sub(st.StartedAt))
		if st.Health.Status == was.Status {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.state.Health = st.Health
			return nil, false
		}
		unhealthy = st.Health.Status == api.Unhealthy
		return []events.Message{record.Event(def, events.Action("health_status: "+string(st.Health.Status)))}, true
	})
	if err != nil {
		s.log.Error("record the health of a container", "container", c.id, "err", err)
	}
	if unhealthy {
		s.running.Go(func() { s.unhealthy(ctx, c) })
	}
}

// unhealthy does what a container asks for that became unhealthy.
func (s *Service) unhealthy(ctx context.Context, c *container) {
	def, _ := c.view()
	action, err := health.Action(def.Host.Annotations)
	switch {
	case err != nil:
	case action == health.Restart:
		err = s.Restart(ctx, c.id, StopOptions{})
	case action == health.Stop:
		err = s.Stop(ctx, c.id, StopOptions{})
	}
	if err != nil {
		s.log.Error("act on an unhealthy container", "container", c.id, "action", action, "err", err)
	}
}
