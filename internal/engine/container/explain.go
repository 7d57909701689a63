package container

import (
	"context"
	"fmt"
	"os"
	"time"

	"lade/api"
	"lade/internal/engine/container/record"
	"lade/internal/engine/container/why"
	"lade/internal/errdefs"
)

// Explain returns the program with which the runtime would start a container,
// as text or JSON by format.
func (s *Service) Explain(ctx context.Context, ref, format string) ([]byte, error) {
	switch format {
	case "":
		format = "text"
	case "text", "json":
	default:
		return nil, errdefs.New(errdefs.Invalid, "unknown format %q; use text or json", format)
	}
	c, err := s.lookup(ref)
	if err != nil {
		return nil, err
	}
	def, st := c.view()
	if !st.Alive() {
		if err := s.filesToExplain(ctx, c.id, def); err != nil {
			return nil, err
		}
	}
	return s.launcher.Explain(ctx, def, format)
}

// filesToExplain writes the files that a start would: the runtime looks at what
// it would bind. They are part of the container's directory, and go with it.
func (s *Service) filesToExplain(ctx context.Context, id string, def record.Definition) error {
	c, err := s.acquire(ctx, id)
	if err != nil {
		return err
	}
	defer c.op.unlock()
	if err := os.MkdirAll(s.cfg.Data(id), 0o700); err != nil {
		return fmt.Errorf("make the container's directory: %w", err)
	}
	return s.launcher.WriteFiles(def)
}

// Why says in words how a container is, and how it came to that.
func (s *Service) Why(_ context.Context, ref string) (string, error) {
	def, st, err := s.known(ref)
	if err != nil {
		return "", err
	}
	return why.Explain(def, st, time.Now()), nil
}

// End returns how a container ended; nil if it has not.
func (s *Service) End(_ context.Context, ref string) (*api.ContainerEnd, error) {
	def, st, err := s.known(ref)
	if err != nil || st.FinishedAt.IsZero() || st.Alive() {
		return nil, err
	}
	return &api.ContainerEnd{
		Signal: st.Signal, KilledBy: st.KilledBy, PeakMemory: st.PeakMemory, MemoryLimit: def.Host.Memory, Unknown: st.Unknown,
	}, nil
}
