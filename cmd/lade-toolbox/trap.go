package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"

	"lade/cmd/lade-toolbox/cmdline"
)

// traps gives the shell what its interpreter lacks: traps on signals. An
// action runs before the next command, or at once if the shell waits for
// background commands; then the script ends with it.
type traps struct {
	caught chan os.Signal

	mu      sync.Mutex
	action  map[syscall.Signal]string // guarded by mu
	pending []syscall.Signal          // guarded by mu
	waiting bool                      // guarded by mu: wait is what runs
	cancel  context.CancelFunc        // guarded by mu: of what runs; nil between
}

func newTraps() *traps { return &traps{action: map[syscall.Signal]string{}} }

// run runs a script or a statement of it.
func (t *traps) run(r *interp.Runner, node syntax.Node) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	t.mu.Lock()
	t.cancel = cancel
	t.mu.Unlock()
	err := r.Run(ctx, node)
	t.mu.Lock()
	t.cancel = nil
	t.mu.Unlock()
	text, sig := t.take()
	if text == "" {
		return exit(err)
	}
	f, perr := syntax.NewParser().Parse(strings.NewReader(text), "trap")
	if perr != nil {
		fmt.Fprintln(os.Stderr, "sh: trap:", perr)
		return cmdline.StatusError(2)
	}
	if err := r.Run(context.Background(), f); r.Exited() || ctx.Err() == nil {
		return exit(err)
	}
	return cmdline.StatusError(128 + int(sig))
}

// take returns the actions of the signals that came, and the last of them.
func (t *traps) take() (text string, last syscall.Signal) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.pending {
		if a := t.action[s]; a != "" {
			text += a + "\n"
			last = s
		}
	}
	t.pending = nil
	return text, last
}

// call sees every command before it runs, and may put another in its place.
func (t *traps) call(ctx context.Context, args []string) ([]string, error) {
	if text, _ := t.take(); text != "" {
		quoted := make([]string, len(args))
		for i, a := range args {
			q, err := syntax.Quote(a, syntax.LangBash)
			if err != nil {
				return nil, err
			}
			quoted[i] = q
		}
		return []string{"eval", text + strings.Join(quoted, " ")}, nil
	}
	t.mu.Lock()
	t.waiting = args[0] == "wait"
	t.mu.Unlock()
	switch args[0] {
	case "trap":
		return t.set(args)
	case "kill":
		// The interpreter takes the name for itself, and then has nothing.
		hc := interp.HandlerCtx(ctx)
		if path, err := interp.LookPathDir(hc.Dir, hc.Env, "kill"); err == nil {
			args = append([]string{path}, args[1:]...)
		}
	case "umask":
		return umask(ctx, args)
	}
	return args, nil
}

// set is the trap command for signals. EXIT and ERR are the interpreter's.
func (t *traps) set(args []string) ([]string, error) {
	if len(args) < 3 || strings.HasPrefix(args[1], "-") && args[1] != "-" {
		return args, nil
	}
	var rest []string
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, name := range args[2:] {
		sig, err := signalOf(name)
		if name == "0" || name == "EXIT" || name == "ERR" || err != nil {
			rest = append(rest, name)
			continue
		}
		switch args[1] {
		case "-":
			delete(t.action, sig)
			signal.Reset(sig)
		case "":
			delete(t.action, sig)
			signal.Ignore(sig)
		default:
			if t.caught == nil {
				t.caught = make(chan os.Signal, 16)
				go t.listen()
			}
			t.action[sig] = args[1]
			signal.Notify(t.caught, sig)
		}
	}
	if len(rest) == 0 {
		return []string{"true"}, nil
	}
	return append([]string{"trap", args[1]}, rest...), nil
}

func (t *traps) listen() {
	for s := range t.caught {
		sig, ok := s.(syscall.Signal)
		if !ok {
			continue
		}
		t.mu.Lock()
		t.pending = append(t.pending, sig)
		if t.waiting && t.cancel != nil {
			t.cancel()
		}
		t.mu.Unlock()
	}
}

// umask shows or sets the mask of this process, which commands inherit.
func umask(ctx context.Context, args []string) ([]string, error) {
	if len(args) == 1 {
		old := syscall.Umask(0)
		syscall.Umask(old)
		return []string{"echo", fmt.Sprintf("%04o", old)}, nil
	}
	mask, err := strconv.ParseUint(args[1], 8, 9)
	if err != nil {
		_, _ = fmt.Fprintf(interp.HandlerCtx(ctx).Stderr, "sh: umask: %v\n", errors.Unwrap(err))
		return []string{"false"}, nil
	}
	syscall.Umask(int(mask))
	return []string{"true"}, nil
}
