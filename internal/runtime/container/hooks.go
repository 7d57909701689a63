package container

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	osexec "os/exec"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/errdefs"
	"lade/internal/runtime/bundle"
	"lade/internal/runtime/program"
	"lade/internal/runtime/state"
)

func hasPIDNamespace(c *specs.Spec) bool {
	if c.Linux != nil {
		for _, ns := range c.Linux.Namespaces {
			if ns.Type == specs.PIDNamespace && ns.Path == "" {
				return true
			}
		}
	}
	return false
}

// hook takes a step that is a hook.
func (m *maker) hook(ctx context.Context, s *program.Step, pid int) error {
	m.record.PID = pid
	return runHook(ctx, s.Args[0].S, s.Carry.(*specs.Hook), m.record, state.Creating)
}

// runHook runs one hook in the runtime's namespaces, with the container's
// state on its standard input.
func runHook(ctx context.Context, kind string, h *specs.Hook, rec *state.Record, status state.Status) error {
	if h.Timeout != nil {
		if *h.Timeout <= 0 {
			return errdefs.New(errdefs.Invalid, "hooks.%s: timeout of %s is %d seconds", kind, h.Path, *h.Timeout)
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(*h.Timeout)*time.Second)
		defer cancel()
	}
	stdin, err := json.Marshal(StateOf(rec, status))
	if err != nil {
		return fmt.Errorf("run hook: %w", err)
	}
	cmd := osexec.CommandContext(ctx, h.Path)
	if len(h.Args) > 0 {
		cmd.Args = h.Args
	}
	cmd.Env = append([]string{}, h.Env...)
	cmd.Stdin = bytes.NewReader(stdin)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("hook ran past specified timeout of %d seconds", *h.Timeout)
		}
		return fmt.Errorf("error running %s hook %s: %w, output: %s", kind, h.Path, err, bytes.TrimSpace(out.Bytes()))
	}
	return nil
}

func hooksOf(b *bundle.Bundle) specs.Hooks {
	if b.Config.Hooks == nil {
		return specs.Hooks{}
	}
	return *b.Config.Hooks
}

// startHooks run before the program of the container is executed.
func startHooks(b *bundle.Bundle) error {
	if h := hooksOf(b); len(h.StartContainer) > 0 {
		return errdefs.New(errdefs.NotImplemented, "hooks.startContainer is not supported yet")
	}
	return nil
}

// poststart hooks run when it is.
func poststart(ctx context.Context, b *bundle.Bundle, rec *state.Record) error {
	h := hooksOf(b)
	for i := range h.Poststart {
		if err := runHook(ctx, "poststart", &h.Poststart[i], rec, state.Running); err != nil {
			return err
		}
	}
	return nil
}

// poststop hooks run when the container is deleted. Their errors are not the
// caller's.
func poststop(ctx context.Context, rec *state.Record) []error {
	b, err := bundle.Load(rec.Bundle)
	if err != nil {
		return nil // without its bundle nobody knows the hooks
	}
	var errs []error
	h := hooksOf(b)
	for i := range h.Poststop {
		if err := runHook(ctx, "poststop", &h.Poststop[i], rec, state.Stopped); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}
