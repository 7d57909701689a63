package container

import (
	"context"

	"lade/internal/errdefs"
	"lade/internal/logs"
)

// Logs opens a container's log.
func (s *Service) Logs(ctx context.Context, ref string, o LogsOptions) (*LogStream, error) {
	c, err := s.lookup(ref)
	if err != nil {
		return nil, err
	}
	def, st := c.view()
	if !o.Stdout && !o.Stderr {
		return nil, errdefs.New(errdefs.Invalid, "Bad parameters: you must choose at least one stream")
	}
	if def.Host.LogConfig.Type == "none" {
		return nil, errdefs.New(errdefs.NotImplemented, "configured logging driver does not support reading")
	}
	ro := logs.ReadOptions{Tail: o.Tail, Since: o.Since, Until: o.Until, Stdout: o.Stdout, Stderr: o.Stderr, After: o.After}
	if run := c.current(); run != nil && o.Follow && st.Alive() {
		ro.Follow, ro.Done = true, run.ended
	}
	r, err := logs.Open(s.cfg.LogDir(c.id), ro)
	if err != nil {
		return nil, err
	}
	next := func(ctx context.Context) (LogEntry, error) {
		e, err := r.Next(ctx)
		if err != nil {
			return LogEntry{}, err
		}
		return LogEntry{Time: e.Time, Stderr: e.Stream == logs.Stderr, Data: e.Append(nil), Partial: e.Partial, End: e.End}, nil
	}
	return &LogStream{ID: c.id, TTY: def.Config.Tty, next: next, close: r.Close}, nil
}
