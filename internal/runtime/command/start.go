package command

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"lade/internal/atomicfile"
	"lade/internal/errdefs"
	"lade/internal/runtime/container"
	"lade/internal/runtime/program"
	"lade/internal/runtime/state"
)

// createFlags are the flags that create and run share.
func createFlags(o *container.CreateOptions, explain *string, more ...flag) flagSet {
	return append(flagSet{
		text("bundle b", &o.Bundle), text("console-socket", &o.ConsoleSocket), text("pid-file", &o.PIDFile),
		boolean("no-pivot", &o.NoPivot), boolean("no-new-keyring", &o.NoKeyring), number("preserve-fds", &o.Keep),
		text("pidfd-socket", &o.PidFDSocket), explainFlag(explain), explainTo(&o.Explained),
	}, more...)
}

// explainFlag asks for the program instead of its execution: "text" or "json".
func explainFlag(to *string) flag {
	return flag{names: "explain", boolean: true, set: func(v string) error {
		switch v {
		case "true", "text":
			*to = "text"
		case "json":
			*to = "json"
		case "false":
		default:
			return strconv.ErrSyntax
		}
		return nil
	}}
}

// explainTo has the program written to a file after it was carried out, with
// times and results: as JSON if the file's name says so.
func explainTo(to *func(*program.Program) error) flag {
	return flag{names: "explain-to", set: func(file string) error {
		if file == "" {
			return strconv.ErrSyntax
		}
		*to = func(p *program.Program) error {
			format := "text"
			if strings.HasSuffix(file, ".json") {
				format = "json"
			}
			b, err := render(format, p)
			if err != nil {
				return err
			}
			return atomicfile.Write(file, b, atomicfile.Options{Mode: 0o644})
		}
		return nil
	}}
}

// activation hands on the sockets that systemd gave the runtime, which come
// before the descriptors that --preserve-fds counts.
func activation(o *container.CreateOptions) {
	n, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if pid := os.Getenv("LISTEN_PID"); err != nil || n <= 0 || n > 1<<16 || pid != strconv.Itoa(os.Getpid()) {
		return
	}
	o.Keep += n
	o.Env = append(o.Env, "LISTEN_FDS="+strconv.Itoa(n), "LISTEN_PID=1")
	if names, ok := os.LookupEnv("LISTEN_FDNAMES"); ok {
		o.Env = append(o.Env, "LISTEN_FDNAMES="+names)
	}
}

func (a *app) create(ctx context.Context, args []string) error {
	var o container.CreateOptions
	var explain string
	flags := createFlags(&o, &explain)
	rest, err := flags.parse(args, true)
	if err != nil {
		return err
	}
	if o.ID, err = one(rest); err != nil {
		return err
	}
	if err := state.CheckID(o.ID); err != nil {
		return err
	}
	o.Wait = true
	activation(&o)
	o.Planned, o.Systemd, o.Rootless = a.planned, a.systemd, a.rootless
	if explain != "" {
		return a.print(explain, func() (*program.Program, error) { return container.Explain(a.store(), o) })
	}
	return container.Create(ctx, a.store(), o)
}

// print prints a program.
func (a *app) print(format string, get func() (*program.Program, error)) error {
	p, err := get()
	if err != nil {
		return err
	}
	b, err := render(format, p)
	if err == nil {
		_, err = a.stdout.Write(b)
	}
	return err
}

// render returns a program as text or JSON.
func render(format string, p *program.Program) ([]byte, error) {
	if format != "json" {
		return []byte(p.Text()), nil
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(p)
	return b.Bytes(), err
}

func (a *app) explain(_ context.Context, args []string) error {
	o := container.CreateOptions{ID: "container", Wait: true}
	format := "text"
	flags := createFlags(&o, new(string), text("format f", &format))
	rest, err := flags.parse(args, true)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		if o.ID, err = one(rest); err != nil {
			return err
		}
	}
	if format != "text" && format != "json" {
		return errdefs.New(errdefs.Invalid, "invalid format option %q: text and json are", format)
	}
	// A container that is there already is explained by its bundle.
	if dir, err := a.store().Open(o.ID); err == nil && o.Bundle == "" {
		rec, err := dir.Load()
		if err != nil {
			return err
		}
		o.Bundle = rec.Bundle
	}
	return a.print(format, func() (*program.Program, error) { return container.Explain(a.store(), o) })
}

func (a *app) start(ctx context.Context, args []string) error {
	rest, err := flagSet{}.parse(args, true)
	if err != nil {
		return err
	}
	id, err := one(rest)
	if err != nil {
		return err
	}
	return container.Start(ctx, a.store(), id)
}

func (a *app) run(ctx context.Context, args []string) error {
	var o container.CreateOptions
	var explain string
	var detach, keep bool
	flags := createFlags(&o, &explain, boolean("detach d", &detach), boolean("keep", &keep), boolean("no-subreaper", new(bool)))
	rest, err := flags.parse(args, true)
	if err != nil {
		return err
	}
	if o.ID, err = one(rest); err != nil {
		return err
	}
	activation(&o)
	o.Planned, o.Systemd, o.Rootless = a.planned, a.systemd, a.rootless
	if explain != "" {
		return a.print(explain, func() (*program.Program, error) { return container.Explain(a.store(), o) })
	}
	if detach {
		return container.Create(ctx, a.store(), o)
	}
	return a.foreground(ctx, o.ConsoleSocket, !keep, func(console int) (*container.Process, error) {
		o.ConsoleFD = console
		return container.Begin(ctx, a.store(), o)
	})
}

func (a *app) kill(ctx context.Context, args []string) error {
	var all bool
	rest, err := flagSet{boolean("all a", &all)}.parse(args, true)
	if err != nil {
		return err
	}
	if len(rest) != 1 && len(rest) != 2 {
		return errdefs.New(errdefs.Invalid, "a container ID and at most one signal are wanted")
	}
	sig := unix.SIGTERM
	if len(rest) == 2 {
		if sig, err = parseSignal(rest[1]); err != nil {
			return err
		}
	}
	return container.Signal(ctx, a.store(), rest[0], sig, all)
}

// parseSignal reads a signal as a number, or as a name with or without "SIG".
func parseSignal(s string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil {
		if n < 0 || n > 64 {
			return 0, errdefs.New(errdefs.Invalid, "unknown signal %q", s)
		}
		return syscall.Signal(n), nil
	}
	name := strings.ToUpper(s)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if sig := unix.SignalNum(name); sig != 0 {
		return sig, nil
	}
	if rest, ok := strings.CutPrefix(name, "SIGRTMIN+"); ok {
		if n, err := strconv.Atoi(rest); err == nil && n >= 0 && n <= 30 {
			return syscall.Signal(34 + n), nil
		}
	}
	return 0, errdefs.New(errdefs.Invalid, "unknown signal %q", s)
}

func (a *app) delete(ctx context.Context, args []string) error {
	var force bool
	rest, err := flagSet{boolean("force f", &force)}.parse(args, true)
	if err != nil {
		return err
	}
	id, err := one(rest)
	if err != nil {
		return err
	}
	err = container.Delete(ctx, a.store(), id, force)
	if force && errdefs.Is(err, errdefs.NotFound) {
		return nil
	}
	return err
}

func (a *app) state(_ context.Context, args []string) error {
	rest, err := flagSet{}.parse(args, true)
	if err != nil {
		return err
	}
	id, err := one(rest)
	if err != nil {
		return err
	}
	s, err := container.Get(a.store(), id)
	if err != nil {
		return err
	}
	return a.json(s)
}

func (a *app) json(v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = a.stdout.Write(append(b, '\n'))
	return err
}

// isTerminal reports whether f is a terminal.
func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
