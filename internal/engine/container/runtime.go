package container

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"time"

	api "github.com/moby/moby/api/types/container"

	"lade/internal/engine/container/record"
	"lade/internal/errdefs"
)

// The shim drives the runtime. The engine calls it only for what has no shim:
// to freeze and thaw, to explain, and to remove what a dead shim left.

// runtimeCommand runs one command of a container's runtime, and returns what
// it printed.
func (s *Service) runtimeCommand(ctx context.Context, def record.Definition, args ...string) ([]byte, error) {
	rt := s.runtime(def.Host.Runtime)
	argv := append([]string{"--root", s.runtimeRoot()}, rt.Args...)
	cmd := exec.CommandContext(ctx, rt.Program, append(argv, args...)...)
	cmd.WaitDelay = time.Second
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		if text := bytes.TrimSpace(errOut.Bytes()); len(text) > 0 {
			err = errors.New(string(text))
		}
		return nil, fmt.Errorf("%s %s: %w", rt.Name, args[0], err)
	}
	return out.Bytes(), nil
}

// deleteContainer makes the runtime forget a container, whatever is left of it.
func (s *Service) deleteContainer(ctx context.Context, def record.Definition) error {
	_, err := s.runtimeCommand(ctx, def, "delete", "--force", def.ID)
	return err
}

// Pause freezes a container's processes.
func (s *Service) Pause(ctx context.Context, ref string) error {
	return s.freeze(ctx, ref, api.StateRunning, api.StatePaused)
}

// Unpause lets them go on.
func (s *Service) Unpause(ctx context.Context, ref string) error {
	return s.freeze(ctx, ref, api.StatePaused, api.StateRunning)
}

func (s *Service) freeze(ctx context.Context, ref string, from, to api.ContainerState) error {
	c, err := s.acquire(ctx, ref)
	if err != nil {
		return err
	}
	defer c.op.unlock()
	def, st := c.view()
	switch {
	case !st.Alive():
		return errdefs.New(errdefs.Conflict, "container %s is not running", def.ID)
	case st.Status != from && to == api.StatePaused:
		return errdefs.New(errdefs.Conflict, "container %s is already paused", def.ID)
	case st.Status != from:
		return errdefs.New(errdefs.Conflict, "container %s is not paused", def.ID)
	}
	command := map[api.ContainerState]string{api.StatePaused: "pause", api.StateRunning: "resume"}[to]
	if _, err := s.runtimeCommand(ctx, def, command, def.ID); err != nil {
		return err
	}
	c.mu.Lock()
	if c.state.Alive() {
		c.state.Status = to
	}
	st = c.state
	c.mu.Unlock()
	return s.records.PutState(def, st)
}
