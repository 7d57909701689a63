package container

import (
	"context"
	"time"

	api "github.com/moby/moby/api/types/container"

	"lade/internal/engine/container/filter"
	"lade/internal/engine/container/place"
	"lade/internal/engine/container/record"
	"lade/internal/engine/container/request"
	"lade/internal/engine/container/shown"
	"lade/internal/engine/container/words"
)

// List returns containers, the newest first.
func (s *Service) List(_ context.Context, o ListOptions) ([]api.Summary, error) {
	f, err := filter.Parse(o.Filters, s.createdAt)
	if err != nil {
		return nil, err
	}
	all := o.All || o.Limit > 0 || f.WantsStopped()
	now := time.Now()
	out := []api.Summary{}
	for _, c := range s.all() {
		d, st := c.view()
		if !all && !st.Up() || !f.Match(d, st) {
			continue
		}
		out = append(out, s.summary(d, st, o.Size, now))
		if o.Limit > 0 && len(out) == o.Limit {
			break
		}
	}
	return out, nil
}

func (s *Service) createdAt(ref string) (time.Time, error) {
	c, err := s.lookup(ref)
	if err != nil {
		return time.Time{}, err
	}
	return c.created, nil
}

func (s *Service) summary(d record.Definition, st record.State, size bool, now time.Time) api.Summary {
	n := place.Settings(s.cfg.Networks, d, st)
	r := api.Summary{
		ID: d.ID, Names: []string{"/" + d.Name}, Image: d.Image.Asked, ImageID: d.Image.ID.String(),
		Command: words.Command(request.Command(d.Config)), Created: d.Created.Unix(), Ports: place.Ports(n),
		Labels: d.Config.Labels, State: st.Status, Status: words.Status(st, now), Mounts: shown.Mounts(d.Mounts),
		NetworkSettings: &api.NetworkSettingsSummary{Networks: n.Networks},
	}
	r.Health = &api.HealthSummary{Status: api.NoHealthcheck}
	if st.Health != nil {
		r.Health = &api.HealthSummary{Status: st.Health.Status, FailingStreak: st.Health.FailingStreak}
	}
	r.HostConfig.NetworkMode = string(d.Host.NetworkMode)
	r.HostConfig.Annotations = d.Host.Annotations
	if size {
		r.SizeRw = shown.Written(s.cfg.Data(d.ID))
		r.SizeRootFs = r.SizeRw
	}
	return r
}

// Counts returns how many containers run, are paused, and do neither.
func (s *Service) Counts() (running, paused, stopped int) {
	for _, c := range s.all() {
		switch _, st := c.view(); st.Status {
		case api.StateRunning, api.StateRestarting:
			running++
		case api.StatePaused:
			paused++
		default:
			stopped++
		}
	}
	return running, paused, stopped
}

// Running returns the first process of every container that has one.
func (s *Service) Running() map[string]int {
	out := map[string]int{}
	for _, c := range s.all() {
		if _, st := c.view(); st.Alive() {
			out[c.id] = st.PID
		}
	}
	return out
}

// First finds a container and its first process, whose id is 0 if it does not
// run.
func (s *Service) First(ref string) (id, name string, pid int, err error) {
	def, st, err := s.known(ref)
	if err != nil || !st.Alive() {
		return def.ID, def.Name, 0, err
	}
	return def.ID, def.Name, st.PID, nil
}
