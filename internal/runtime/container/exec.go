package container

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/cgroup"
	"lade/internal/runtime/bundle"
	"lade/internal/runtime/exec"
	"lade/internal/runtime/plan"
	"lade/internal/runtime/plan/environ"
	"lade/internal/runtime/program"
	"lade/internal/runtime/state"
)

// ExecOptions say how a process is started in a container.
type ExecOptions struct {
	ID            string
	PIDFile       string
	PidFDSocket   string
	ConsoleSocket string
	ConsoleFD     int
	Keep          int
	IgnorePaused  bool
	// Cgroups are cgroups below the container's, as cgroup.Group.Below has
	// them; none is the container's own.
	Cgroups []string
	// Planned, unless it is nil, is shown the program before it is carried out.
	Planned func(*program.Program)
	// Explained, unless it is nil, is shown the program after it was carried
	// out, with what its steps came to.
	Explained func(*program.Program) error
	// Process changes or replaces the process that the bundle has.
	Process func(*specs.Process) (*specs.Process, error)
}

// Exec starts a process in a container, up to the point where the child needs
// the runtime no more. Executed must follow.
func Exec(store state.Store, o ExecOptions) (*Process, error) {
	p, err := execIn(store, o, false)
	if errors.Is(err, unix.EBUSY) && len(o.Cgroups) == 0 {
		// A v2 cgroup that hands controllers on takes no processes: the
		// container's first process has moved further down.
		p, err = execIn(store, o, true)
	}
	return p, err
}

func execIn(store state.Store, o ExecOptions, follow bool) (*Process, error) {
	e, err := planExec(store, o, follow)
	if err != nil {
		return nil, err
	}
	if o.Planned != nil && !follow {
		o.Planned(e.program)
	}
	if err := checkKept(o.Keep); err != nil {
		return nil, err
	}
	fds := map[program.Slot]int{}
	defer func() {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	}()
	if fds[plan.Init], err = openInit(e.record); err != nil {
		delete(fds, plan.Init)
		return nil, err
	}
	if err := openConsole(fds, e.process.Terminal, o.ConsoleSocket, o.ConsoleFD); err != nil {
		return nil, err
	}
	child, err := exec.Start(e.program, exec.Options{FDs: fds, Keep: o.Keep, Timed: o.Explained != nil, Do: func(s *program.Step, _ int) error {
		return fmt.Errorf("%s: no such step in an exec", s.Call)
	}, Listener: func(fd, pid int) error {
		return handOn(e.seccomp, e.record, state.Running, fd, pid)
	}})
	if err != nil {
		return nil, err
	}
	return &Process{Child: child, pidFile: o.PIDFile, pidfdSocket: o.PidFDSocket, explained: explained(child, e.program, o.Explained)}, nil
}

// ExplainExec returns the program that Exec would carry out.
func ExplainExec(store state.Store, o ExecOptions) (*program.Program, error) {
	e, err := planExec(store, o, false)
	if err != nil {
		return nil, err
	}
	return e.program, nil
}

type entry struct {
	program *program.Program
	record  *state.Record
	process *specs.Process
	seccomp *specs.LinuxSeccomp
}

func planExec(store state.Store, o ExecOptions, follow bool) (*entry, error) {
	dir, err := store.Open(o.ID)
	if err != nil {
		return nil, err
	}
	rec, err := dir.Load()
	if err != nil {
		return nil, err
	}
	status, err := dir.Status(rec)
	switch {
	case err != nil:
		return nil, err
	case status == state.Stopped || status == state.Creating:
		return nil, errdefs.New(errdefs.Conflict, "cannot exec in a stopped container")
	case status == state.Paused && !o.IgnorePaused:
		return nil, errdefs.Hint(errdefs.New(errdefs.Conflict, "cannot exec in a paused container"), "use --ignore-paused to override")
	}
	b, err := bundle.Load(rec.Bundle)
	if err != nil {
		return nil, err
	}
	proc, err := o.Process(b.Config.Process)
	if err != nil {
		return nil, err
	}
	b.Config.Process = proc
	facts, err := processFacts(proc, "")
	if err != nil {
		return nil, err
	}
	if environ.Homeless(proc.Env) {
		facts.Home = home(fmt.Sprintf("/proc/%d/root", rec.PID), proc.User.UID)
	}
	if follow {
		if rec.Cgroup, err = initCgroup(rec); err != nil {
			return nil, err
		}
	}
	if rec.Cgroup, err = rec.Cgroup.Below(o.Cgroups); err != nil {
		return nil, err
	}
	prog, err := plan.Exec(plan.Entry{
		Input:  plan.Input{ID: o.ID, Bundle: rec.Bundle, Config: b.Config, Keep: o.Keep, PlainTerminal: o.ConsoleFD > 0},
		Cgroup: rec.Cgroup,
	}, facts)
	if err != nil {
		return nil, err
	}
	e := &entry{program: prog, record: rec, process: proc}
	if b.Config.Linux != nil {
		e.seccomp = b.Config.Linux.Seccomp
	}
	return e, nil
}

// initCgroup returns the container's cgroups with the v2 one replaced by that
// in which its first process is now.
func initCgroup(rec *state.Record) (cgroup.Group, error) {
	g := cgroup.Group{Dirs: slices.Clone(rec.Cgroup.Dirs)}
	l, err := cgroup.Detect()
	if err != nil {
		return g, err
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", rec.PID))
	if err != nil {
		return g, fmt.Errorf("find the container's cgroup: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		path, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::/")
		if !ok {
			continue
		}
		for _, h := range l.Hierarchies {
			i := slices.IndexFunc(g.Dirs, func(d cgroup.Dir) bool { return d.V2 })
			if h.V2 && i >= 0 {
				g.Dirs[i].Path = filepath.Join(h.Mount, path)
			}
		}
	}
	return g, nil
}
