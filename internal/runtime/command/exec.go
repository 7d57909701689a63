package command

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/errdefs"
	"lade/internal/runtime/bundle"
	"lade/internal/runtime/container"
	"lade/internal/runtime/program"
)

// execFlags hold what exec changes about the bundle's process.
type execFlags struct {
	process, cwd, user, apparmor, label string
	env, gids, caps                     []string
	tty, noNewPrivs                     bool
	args                                []string
}

func (a *app) exec(ctx context.Context, args []string) error {
	var f execFlags
	var o container.ExecOptions
	var detach bool
	var explain string
	flags := flagSet{
		text("process p", &f.process), text("cwd", &f.cwd), text("user u", &f.user), text("apparmor", &f.apparmor), text("process-label", &f.label),
		list("env e", &f.env), list("additional-gids g", &f.gids), list("cap c", &f.caps),
		boolean("tty t", &f.tty), boolean("no-new-privs", &f.noNewPrivs), boolean("detach d", &detach),
		text("pid-file", &o.PIDFile), text("console-socket", &o.ConsoleSocket), number("preserve-fds", &o.Keep),
		boolean("ignore-paused", &o.IgnorePaused), list("cgroup", &o.Cgroups), text("pidfd-socket", &o.PidFDSocket), explainFlag(&explain), explainTo(&o.Explained),
	}
	rest, err := flags.parse(args, false)
	if err != nil {
		return err
	}
	if len(rest) == 0 {
		return errdefs.New(errdefs.Invalid, "a container ID is wanted")
	}
	o.ID, f.args = rest[0], rest[1:]
	if len(f.args) == 0 && f.process == "" {
		return errdefs.New(errdefs.Invalid, "process args cannot be empty")
	}
	o.Process, o.Planned = f.apply, a.planned
	if explain != "" {
		return a.print(explain, func() (*program.Program, error) { return container.ExplainExec(a.store(), o) })
	}
	if detach {
		var p *container.Process
		if p, err = container.Exec(a.store(), o); err == nil {
			err = p.Executed(ctx)
		}
	} else {
		err = a.foreground(ctx, o.ConsoleSocket, false, func(console int) (*container.Process, error) {
			o.ConsoleFD = console
			return container.Exec(a.store(), o)
		})
	}
	if _, ended := errors.AsType[*exitError](err); ended || err == nil {
		return err
	}
	return &exitError{255, err}
}

// apply returns the process that the flags ask for: one that a file holds, or
// the bundle's with changes.
func (f *execFlags) apply(p *specs.Process) (*specs.Process, error) {
	if f.process != "" {
		return bundle.Process(f.process)
	}
	p.Args = f.args
	p.Terminal = f.tty
	p.ConsoleSize = nil
	if f.cwd != "" {
		p.Cwd = f.cwd
	}
	p.Env = append(p.Env, f.env...)
	if f.noNewPrivs {
		p.NoNewPrivileges = true
	}
	if f.apparmor != "" {
		p.ApparmorProfile = f.apparmor
	}
	if f.label != "" {
		p.SelinuxLabel = f.label
	}
	if c := p.Capabilities; c != nil {
		sets := []*[]string{&c.Bounding, &c.Effective, &c.Permitted}
		if len(c.Inheritable) > 0 {
			// Who may inherit is meant to keep them over execve.
			sets = append(sets, &c.Ambient)
		}
		for _, set := range sets {
			*set = append(*set, f.caps...)
		}
	} else if len(f.caps) > 0 {
		p.Capabilities = &specs.LinuxCapabilities{Bounding: f.caps, Effective: f.caps, Permitted: f.caps}
	}
	for _, g := range f.gids {
		n, err := parseID(g)
		if err != nil {
			return nil, errdefs.New(errdefs.Invalid, "--additional-gids %q: %w", g, err)
		}
		p.User.AdditionalGids = append(p.User.AdditionalGids, n)
	}
	if f.user == "" {
		return p, nil
	}
	uid, gid, both := strings.Cut(f.user, ":")
	var err error
	if p.User.UID, err = parseID(uid); err != nil {
		return nil, errdefs.New(errdefs.Invalid, "--user %q: %w", f.user, err)
	}
	if both {
		if p.User.GID, err = parseID(gid); err != nil {
			return nil, errdefs.New(errdefs.Invalid, "--user %q: %w", f.user, err)
		}
	}
	return p, nil
}

// parseID reads a user or group id: digits, and nothing that could mean
// another one than it looks like (CVE-2024-40635, CVE-2026-30892). The highest
// number is the kernel's word for "none".
func parseID(s string) (uint32, error) {
	if s == "" || strings.Trim(s, "0123456789") != "" || len(s) > 1 && s[0] == '0' {
		return 0, errdefs.New(errdefs.Invalid, "%q is not a number", s)
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 1<<32-1 {
		return 0, errdefs.New(errdefs.Invalid, "%q is not an id", s)
	}
	return uint32(n), nil
}
