package container

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	osexec "os/exec"
	"slices"
	"strconv"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/runtime/bundle"
	"lade/internal/runtime/exec"
	"lade/internal/runtime/plan"
	"lade/internal/runtime/plan/environ"
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
	kind, h := s.Args[0].S, s.Carry.(*specs.Hook)
	i := int(s.Args[2].N)
	if kind != "createContainer" {
		return numbered(kind, i, runHook(ctx, kind, h, m.record, state.Creating))
	}
	return numbered(kind, i, enterHook(ctx, kind, h, m.bundle, m.record))
}

// enterHook runs a hook in the namespaces of the container's process.
func enterHook(ctx context.Context, kind string, h *specs.Hook, b *bundle.Bundle, rec *state.Record) error {
	ctx, cancel, err := hookContext(ctx, kind, h)
	if err != nil {
		return err
	}
	defer cancel()
	done := make(chan error)
	// The thread joins the container's pid namespace, so it must end with the
	// goroutine: the executor locks them together.
	var out []byte
	go func() {
		var err error
		out, err = enterAndRun(ctx, kind, h, b, rec)
		done <- err
	}()
	return hookError(ctx, h, <-done, out)
}

// enterAndRun carries out the program of a hook.
func enterAndRun(ctx context.Context, kind string, h *specs.Hook, b *bundle.Bundle, rec *state.Record) ([]byte, error) {
	prog, err := plan.Hook(plan.Input{ID: rec.ID, Rootfs: b.Rootfs, Config: b.Config}, plan.Facts{Rootless: isRootless()}, kind, h)
	if err != nil {
		return nil, err
	}
	status := state.Creating
	if kind == "startContainer" {
		status = state.Created
	}
	fds := map[program.Slot]int{}
	defer func() {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	}()
	input, err := json.Marshal(StateOf(rec, status))
	if err != nil {
		return nil, err
	}
	if fds[plan.Init], err = unix.PidfdOpen(rec.PID, 0); err == nil {
		fds[plan.HookRoot], err = unix.Open("/proc/"+strconv.Itoa(rec.PID)+"/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	}
	if err == nil {
		fds[plan.HookInput], err = memory("hook-state", input)
	}
	if err == nil {
		fds[plan.HookOutput], err = memory("hook-output", nil)
	}
	if err != nil {
		return nil, err
	}
	child, err := exec.Start(prog, exec.Options{FDs: fds})
	if err != nil {
		return nil, err
	}
	defer child.Close()
	if err := child.Executed(); err != nil {
		child.Kill()
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = unix.PidfdSendSignal(child.PidFD, unix.SIGKILL, nil, 0) })
	ws, err := child.Wait()
	stop()
	out := make([]byte, 4096)
	n, _ := unix.Pread(fds[plan.HookOutput], out, 0)
	switch {
	case err != nil:
	case ws.Signaled():
		err = fmt.Errorf("signal: %s", ws.Signal())
	case ws.ExitStatus() != 0:
		err = fmt.Errorf("exit status %d", ws.ExitStatus())
	}
	return out[:max(n, 0)], err
}

// memory returns a descriptor of a file in memory that holds b.
func memory(name string, b []byte) (int, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return -1, err
	}
	if len(b) > 0 {
		_, err = unix.Pwrite(fd, b, 0)
	}
	return fd, err
}

// hookContext ends with a hook's timeout.
func hookContext(ctx context.Context, kind string, h *specs.Hook) (context.Context, context.CancelFunc, error) {
	if h.Timeout == nil {
		return ctx, func() {}, nil
	}
	if *h.Timeout <= 0 {
		return nil, nil, errdefs.New(errdefs.Invalid, "hooks.%s: timeout of %s is %d seconds", kind, h.Path, *h.Timeout)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(*h.Timeout)*time.Second)
	return ctx, cancel, nil
}

// hookError words the failure of a hook.
func hookError(ctx context.Context, h *specs.Hook, err error, out []byte) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil && h.Timeout != nil {
		err = fmt.Errorf("hook ran past specified timeout of %d.0s", *h.Timeout)
	}
	return fmt.Errorf("%s: %w, output: %s", h.Path, err, bytes.TrimSpace(out))
}

// numbered says which of the hooks of a kind failed.
func numbered(kind string, i int, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("error running %s hook #%d: %w", kind, i, err)
}

// runHook runs one hook in the runtime's namespaces, with the container's
// state on its standard input.
func runHook(ctx context.Context, kind string, h *specs.Hook, rec *state.Record, status state.Status) error {
	ctx, cancel, err := hookContext(ctx, kind, h)
	if err != nil {
		return err
	}
	defer cancel()
	stdin, err := json.Marshal(StateOf(rec, status))
	if err != nil {
		return fmt.Errorf("run hook: %w", err)
	}
	cmd := osexec.CommandContext(ctx, h.Path)
	if len(h.Args) > 0 {
		cmd.Args = h.Args
	}
	cmd.Env = h.Env // without any, the runtime's own
	cmd.Stdin = bytes.NewReader(stdin)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	return hookError(ctx, h, cmd.Run(), out.Bytes())
}

func hooksOf(b *bundle.Bundle) specs.Hooks {
	if b.Config.Hooks == nil {
		return specs.Hooks{}
	}
	return *b.Config.Hooks
}

// startHooks run in the container before its program is executed.
func startHooks(ctx context.Context, b *bundle.Bundle, rec *state.Record) error {
	h := hooksOf(b)
	for i := range h.StartContainer {
		hook := h.StartContainer[i]
		if len(hook.Env) == 0 && b.Config.Process != nil {
			// Nobody said so, but engines have come to count on it.
			hook.Env = b.Config.Process.Env
			if environ.Homeless(hook.Env) {
				dir := home(fmt.Sprintf("/proc/%d/root", rec.PID), b.Config.Process.User.UID)
				hook.Env = append(slices.Clone(hook.Env), "HOME="+cmp.Or(dir, "/"))
			}
		}
		if err := enterHook(ctx, "startContainer", &hook, b, rec); err != nil {
			return numbered("startContainer", i, err)
		}
	}
	return nil
}

// poststart hooks run when it is.
func poststart(ctx context.Context, b *bundle.Bundle, rec *state.Record) error {
	h := hooksOf(b)
	for i := range h.Poststart {
		if err := runHook(ctx, "poststart", &h.Poststart[i], rec, state.Running); err != nil {
			return numbered("poststart", i, err)
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
			errs = append(errs, numbered("poststop", i, err))
		}
	}
	return errs
}
