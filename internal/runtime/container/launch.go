package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/atomicfile"
	"lade/internal/errdefs"
	"lade/internal/linux/cgroup"
	"lade/internal/runtime/bundle"
	"lade/internal/runtime/exec"
	"lade/internal/runtime/plan"
	"lade/internal/runtime/program"
	"lade/internal/runtime/state"
)

// CreateOptions say how a container is made.
type CreateOptions struct {
	ID      string
	Bundle  string // its directory
	PIDFile string // written when the process can be spoken of
	// PidFDSocket is where a descriptor of the process is sent then.
	PidFDSocket string
	// ConsoleSocket is where the master of the terminal is sent.
	ConsoleSocket string
	// ConsoleFD is a connection to it, where there is one already (or 0).
	ConsoleFD          int
	NoPivot, NoKeyring bool
	// Rootless tells, by "true" or "false", whether the container may go without
	// cgroups; otherwise it may if the runtime is not the machine's root.
	Rootless string
	Keep     int // descriptors from 3 on that the process is given
	// Env is added to the environment of the process.
	Env []string
	// Wait makes the process wait for Start.
	Wait bool
	// Systemd has systemd make the cgroups: a user's own, unless it is root.
	Systemd bool
	// Planned, unless it is nil, is shown the program before it is carried out.
	Planned func(*program.Program)
	// Explained, unless it is nil, is shown the program after it was carried
	// out, with what its steps came to.
	Explained func(*program.Program) error
}

// Create makes a container. It is recorded, and, with Wait, waiting to be
// started; otherwise its program runs.
func Create(ctx context.Context, store state.Store, o CreateOptions) error {
	p, err := Begin(ctx, store, o)
	if err != nil {
		return err
	}
	defer p.Child.Close()
	return p.Executed(ctx)
}

// Process is one on its way into a container, or in it.
type Process struct {
	Child *exec.Child
	// PIDFile is written when the process can be spoken of.
	pidFile string
	// pidfdSocket is where a pidfd is sent then.
	pidfdSocket string
	explained   func() error
	wait        bool // for the start
	goOn        bool // it is started at once, though it waits for that
	dir         *state.Dir
	record      *state.Record
	bundle      *bundle.Bundle
}

// Begin makes a container up to the point where the child needs the runtime no
// more. Executed must follow.
func Begin(ctx context.Context, store state.Store, o CreateOptions) (*Process, error) {
	goOn := !o.Wait
	b, prog, facts, err := compile(store, &o, mutation(ctx))
	if err != nil {
		return nil, err
	}
	goOn = goOn && o.Wait
	if o.Planned != nil {
		o.Planned(prog)
	}
	if err := checkKept(o.Keep); err != nil {
		return nil, err
	}
	dir, err := store.Create(o.ID)
	if err != nil {
		return nil, err
	}
	if err := facts.Cgroup.Group.CheckFree(); err != nil {
		return nil, errors.Join(err, dir.Remove())
	}
	m := &maker{o: o, dir: dir, bundle: b, facts: facts, fds: map[program.Slot]int{}}
	child, err := m.make(ctx, prog)
	for _, fd := range m.fds {
		_ = unix.Close(fd)
	}
	if err != nil {
		return nil, errors.Join(err, discard(ctx, dir, facts.Cgroup.Group, m.record))
	}
	return &Process{
		Child: child, pidFile: o.PIDFile, pidfdSocket: o.PidFDSocket, wait: o.Wait, goOn: goOn,
		explained: explained(child, prog, o.Explained), dir: dir, record: m.record, bundle: b,
	}, nil
}

// explained returns what shows a program with what its steps came to.
func explained(child *exec.Child, prog *program.Program, show func(*program.Program) error) func() error {
	if show == nil {
		return nil
	}
	return func() error { return errors.Join(child.Explain(), show(prog)) }
}

// discard removes what is left of a container that did not come about.
func discard(ctx context.Context, dir *state.Dir, g cgroup.Group, rec *state.Record) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	_ = removeCgroup(ctx, g)
	if rec != nil {
		_ = leaveResctrl(rec)
	}
	return dir.Remove()
}

// Executed waits until the process executes its program, or waits for the
// start. If it cannot, nothing of it is left.
func (p *Process) Executed(ctx context.Context) error {
	var err error
	if p.wait {
		err = p.Child.Await(exec.Created)
	} else {
		err = p.Child.Executed()
	}
	if err == nil && p.explained != nil {
		err = p.explained()
	}
	if err == nil && p.pidFile != "" {
		err = writePID(p.pidFile, p.Child.PID)
	}
	if err == nil && p.pidfdSocket != "" {
		err = sendPidFD(p.pidfdSocket, p.Child.PidFD)
	}
	switch {
	case err != nil || p.bundle == nil:
	case p.goOn:
		err = startCreated(ctx, p.dir, p.record, p.bundle)
	case !p.wait:
		err = poststart(ctx, p.bundle, p.record)
	}
	if err != nil {
		p.Child.Kill()
		if p.dir != nil {
			err = errors.Join(err, discard(ctx, p.dir, p.record.Cgroup, p.record))
		}
	}
	if p.dir != nil {
		p.dir.Unlock()
	}
	return err
}

// Remove removes the container of a process that has ended.
func (p *Process) Remove(ctx context.Context) error {
	if err := p.dir.Lock(); err != nil {
		return err
	}
	defer p.dir.Unlock()
	return destroy(ctx, p.dir, p.record)
}

// compile plans a start. A container with hooks between its creation and its
// start waits for the latter, even if nobody asked.
func compile(store state.Store, o *CreateOptions, mutant Mutation) (*bundle.Bundle, *program.Program, plan.Facts, error) {
	b, err := bundle.Load(o.Bundle)
	if err != nil {
		return nil, nil, plan.Facts{}, err
	}
	if p := b.Config.Process; p != nil {
		p.Env = append(p.Env, o.Env...)
	}
	o.Wait = o.Wait || len(hooksOf(b).StartContainer) > 0
	facts, err := gather(o, b)
	if err != nil {
		return nil, nil, facts, err
	}
	if mutant.Facts != nil {
		mutant.Facts(&facts)
	}
	prog, err := plan.Start(plan.Input{
		ID: o.ID, State: store.Path(o.ID), Bundle: b.Dir, Rootfs: b.Rootfs, Config: b.Config, Wait: o.Wait,
		NoPivot: o.NoPivot, PlainTerminal: o.ConsoleFD > 0, NoKeyring: o.NoKeyring, Keep: o.Keep, Unchecked: mutant.Unchecked,
	}, facts)
	if err == nil && mutant.Program != nil {
		mutant.Program(prog)
	}
	return b, prog, facts, err
}

// Explain returns the program that Create would carry out.
func Explain(store state.Store, o CreateOptions) (*program.Program, error) {
	_, prog, _, err := compile(store, &o, Mutation{})
	return prog, err
}

// checkKept verifies that the descriptors to hand on are there: the number of
// one that is not would be given to one of the runtime's own.
func checkKept(n int) error {
	for fd := 3; fd < 3+n; fd++ {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
			return errdefs.New(errdefs.Invalid, "--preserve-fds: please check that preserved-fd %d (of %d) is present", fd-3, n)
		}
	}
	return nil
}

// maker carries out one creation.
type maker struct {
	o      CreateOptions
	dir    *state.Dir
	bundle *bundle.Bundle
	facts  plan.Facts
	fds    map[program.Slot]int
	record *state.Record
}

func (m *maker) make(ctx context.Context, prog *program.Program) (*exec.Child, error) {
	if err := m.open(); err != nil {
		return nil, err
	}
	return exec.Start(prog, exec.Options{FDs: m.fds, Keep: m.o.Keep, Unsealed: mutation(ctx).Unsealed, Timed: m.o.Explained != nil, Do: func(s *program.Step, pid int) error {
		return m.do(ctx, s, pid)
	}, Listener: func(fd, pid int) error {
		return handOn(m.bundle.Config.Linux.Seccomp, m.record, state.Creating, fd, pid)
	}})
}

// open opens what the child is to inherit.
func (m *maker) open() error {
	var err error
	if m.o.Wait {
		if m.fds[plan.Listen], err = exec.Listen(m.dir.Socket()); err != nil {
			delete(m.fds, plan.Listen)
			return err
		}
	}
	return openConsole(m.fds, m.bundle.Config.Process.Terminal, m.o.ConsoleSocket, m.o.ConsoleFD)
}

// openConsole connects to the console socket where a terminal is wanted.
func openConsole(fds map[program.Slot]int, terminal bool, socket string, fd int) error {
	switch {
	case !terminal && socket != "":
		return errdefs.New(errdefs.Invalid, "cannot use console socket if runc will not detach or allocate tty")
	case !terminal:
		return nil
	case fd > 0:
		fds[plan.Console] = fd
		return nil
	case socket == "":
		return errdefs.New(errdefs.Invalid, "cannot allocate tty if runc will detach without setting console socket")
	}
	fd, err := exec.Connect(socket, unix.SOCK_STREAM)
	if err != nil {
		return fmt.Errorf("console socket: %w", err)
	}
	fds[plan.Console] = fd
	return nil
}

// do takes the steps that are more than a system call.
func (m *maker) do(ctx context.Context, s *program.Step, pid int) error {
	switch {
	case s.Call == "cgroup":
		return s.Carry.(*cgroup.Step).Do()
	case s.Call == "helper":
		return mapIDs(ctx, s.Args[0].S, s.Args[1].List(), pid)
	case s.Call == "unit":
		return s.Carry.(*cgroup.Unit).Start(pid)
	case s.Call == "net_device":
		return moveDevice(s.Args[0].S, s.Args[1].S, s.Args[2].S, pid)
	case s.Call == "hook":
		return m.hook(ctx, s, pid)
	case pid == 0:
		return m.recordIntent()
	}
	start, _, err := state.ProcessStart(pid)
	if err != nil {
		return fmt.Errorf("record the container: %w", err)
	}
	m.record.PID, m.record.StartTime = pid, start
	return m.dir.Save(m.record)
}

// recordIntent records what is about to be made.
func (m *maker) recordIntent() error {
	c := m.bundle.Config
	m.record = &state.Record{
		OCIVersion: c.Version, ID: m.o.ID, Bundle: m.bundle.Dir, Rootfs: m.bundle.Rootfs,
		Created: time.Now().UTC(), Annotations: c.Annotations, Owner: os.Geteuid(), Cgroup: m.facts.Cgroup.Group,
		PIDNS: hasPIDNamespace(c), Resctrl: resctrlGroups(m.facts.Resctrl, m.o.ID, c),
	}
	return m.dir.Save(m.record)
}

func writePID(path string, pid int) error {
	return atomicfile.Write(path, strconv.AppendInt(nil, int64(pid), 10), atomicfile.Options{Mode: 0o644})
}

// Start makes a created container execute its program.
func Start(ctx context.Context, store state.Store, id string) error {
	dir, err := store.Open(id)
	if err != nil {
		return err
	}
	if err := dir.Lock(); err != nil {
		return err
	}
	defer dir.Unlock()
	rec, err := dir.Load()
	if err != nil {
		return err
	}
	status, err := dir.Status(rec)
	if err != nil {
		return err
	}
	switch status {
	case state.Created:
	case state.Stopped:
		return errdefs.New(errdefs.Conflict, "cannot start a container that has stopped")
	default:
		return errdefs.New(errdefs.Conflict, "cannot start an already running container")
	}
	b, err := bundle.Load(rec.Bundle)
	if err != nil {
		return err
	}
	return startCreated(ctx, dir, rec, b)
}

// startCreated starts a container that waits for it, and runs the hooks around
// that.
func startCreated(ctx context.Context, dir *state.Dir, rec *state.Record, b *bundle.Bundle) error {
	if err := startHooks(ctx, b, rec); err != nil {
		return errors.Join(err, stopInit(rec))
	}
	conn, err := exec.Connect(dir.Socket(), unix.SOCK_SEQPACKET)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return errdefs.New(errdefs.Conflict, "cannot start a container that has stopped")
	}
	if err != nil {
		return err
	}
	defer unix.Close(conn)
	if err := os.Remove(dir.Socket()); err != nil {
		return fmt.Errorf("start container %s: %w", dir.ID, err)
	}
	if err := exec.Begin(conn, b.Config.Process.Args[0]); err != nil {
		return err
	}
	if err := poststart(ctx, b, rec); err != nil {
		return errors.Join(err, stopInit(rec))
	}
	return nil
}

// stopInit ends a container in which a hook did not succeed: what it was to
// prepare is not there.
func stopInit(rec *state.Record) error {
	fd, err := openInit(rec)
	if err != nil {
		return nil // it has ended by itself
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("end the container: %w", err)
	}
	return nil
}

// sendPidFD sends a descriptor of a process to the listener of a socket.
func sendPidFD(socket string, pidfd int) error {
	conn, err := exec.Connect(socket, unix.SOCK_STREAM)
	if err != nil {
		return fmt.Errorf("pidfd socket: %w", err)
	}
	defer unix.Close(conn)
	if err := unix.Sendmsg(conn, []byte("pidfd"), unix.UnixRights(pidfd), nil, unix.MSG_NOSIGNAL); err != nil {
		return fmt.Errorf("send the pidfd: %w", err)
	}
	return nil
}
