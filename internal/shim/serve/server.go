package serve

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"time"

	"lade/internal/atomicfile"
	"lade/internal/errdefs"
	"lade/internal/linux/pidfd"
	"lade/internal/linux/scm"
	"lade/internal/logs"
	"lade/internal/logs/forward"
	"lade/internal/shim"
	"lade/internal/shim/wire"
)

// server is one container's shim.
type server struct {
	cfg  shim.Config
	env  []string // of the runtime
	loop *loop

	listener int
	peers    map[*peer]bool

	mounted   []string // where the root is, and other mounts that we were handed
	status    string
	container *proc
	execs     map[string]*proc
	log       *logs.Writer
	forward   forward.Driver // of the lines of log; nil: nowhere
	cgroup    cgroup
	killedBy  map[int]string // who asked for a signal, by signal

	jobs    map[int]*job // by process id
	jobSeq  int
	making  int  // jobs that make processes whose ids are not known yet
	removed bool // the runtime has deleted the container

	frame [muxHead + chunk]byte // what is read from a process
	typed [chunk]byte           // what is read from a client
}

// create has the runtime make the container.
func (s *server) create(request wire.Fields, handed []int, reply func(wire.Fields, error)) {
	if s.status != shim.StatusFresh {
		scm.CloseAll(handed)
		reply(nil, errdefs.New(errdefs.Conflict, "create container: it is %s", s.status))
		return
	}
	mounts := handed[len(handed)-int(min(request.Uint(wire.TagMounts), uint64(len(handed)))):]
	handed = handed[:len(handed)-len(mounts)]
	var err error
	if s.cfg.RootComes {
		var root *os.File
		if len(handed) > 0 {
			root, handed = os.NewFile(uintptr(handed[0]), "root"), handed[1:]
		}
		err = s.mountRoot(root)
	}
	scm.CloseAll(handed)
	err = errors.Join(err, s.hangUp(mounts))
	p := s.container
	var files stdio
	if err == nil {
		files, err = p.open(s.cfg.Stdin)
	}
	if err != nil {
		reply(nil, fmt.Errorf("create container: %w", err))
		s.leave()
		return
	}
	s.status = shim.StatusCreating
	args := []string{"create"}
	if s.cfg.StartNow {
		args = []string{"run", "--detach"}
	}
	args = append(args, "--bundle", s.cfg.Bundle, "--pid-file", s.cfg.Bundle+"/"+p.pidPath())
	if p.terminal {
		args = append(args, "--console-socket", p.consolePath())
		files[1], files[2] = -1, -1
	}
	if s.cfg.StartNow {
		p.started = time.Now()
	}
	s.making++
	s.runtime(files, func(err error) {
		s.making--
		if err == nil {
			err = s.created()
		}
		if err != nil {
			s.fail(err, reply)
			return
		}
		var f wire.Fields
		f.AddUint(wire.TagPID, uint64(p.pid))
		reply(f, nil)
		s.sweep()
	}, append(args, s.cfg.ID)...)
	files.close()
}

func (s *server) created() error {
	if err := s.container.begin(); err != nil {
		return err
	}
	s.cgroup = cgroupOf(s.container.pid)
	s.status = shim.StatusCreated
	if s.cfg.StartNow {
		s.status = shim.StatusRunning
	}
	return nil
}

// start has the runtime run the container that it has created.
func (s *server) start(reply func(wire.Fields, error)) {
	if s.status != shim.StatusCreated {
		reply(nil, errdefs.New(errdefs.Conflict, "start container: it is %s", s.status))
		return
	}
	s.status = shim.StatusStarting
	s.container.started = time.Now()
	s.runtime(stdio{-1, -1, -1}, func(err error) {
		if err != nil {
			s.fail(err, reply)
			return
		}
		s.status = shim.StatusRunning
		reply(nil, nil)
		if over, err := pidfd.Ended(s.container.pidfd); over || err != nil {
			s.ended(s.container)
		}
		s.sweep()
	}, "start", s.cfg.ID)
}

// fail undoes a container that could not be made or started, and leaves.
func (s *server) fail(err error, reply func(wire.Fields, error)) {
	said := s.container.abandon()
	var silent *silentError
	if said != "" && errors.As(err, &silent) {
		err = classify(said)
	}
	s.status = shim.StatusCreating
	s.runtime(stdio{-1, -1, -1}, func(error) {
		// What it says is of no interest: mostly that there is no container.
		reply(nil, err)
		s.leave()
	}, "delete", "--force", s.cfg.ID)
}

// signal has the runtime send a signal to the container's first process.
func (s *server) signal(sig int, by string, reply func(wire.Fields, error)) {
	if s.container.pidfd < 0 {
		reply(nil, errdefs.New(errdefs.Conflict, "signal container: it is not running"))
		return
	}
	s.killedBy[sig] = by
	s.runtime(stdio{-1, -1, -1}, func(err error) { reply(nil, err) }, "kill", s.cfg.ID, strconv.Itoa(sig))
}

// attach connects a client to the container or an exec.
func (s *server) attach(a shim.Attach, files []int) error {
	p, err := s.find(a.Exec)
	if err == nil && len(files) != 1 {
		err = errdefs.New(errdefs.Invalid, "attach with %d connections", len(files))
	}
	if err != nil {
		scm.CloseAll(files)
		return err
	}
	return p.attach(a, files[0])
}

func (s *server) find(exec string) (*proc, error) {
	if exec == "" {
		return s.container, nil
	}
	if p := s.execs[exec]; p != nil {
		return p, nil
	}
	return nil, errdefs.New(errdefs.NotFound, "no exec %s is running", exec)
}

func (s *server) state() shim.State {
	st := shim.State{Status: s.status, PID: s.container.pid, StartedAt: s.container.started, Dropped: s.log.Dropped()}
	st.Clients = len(s.container.clients)
	for _, id := range slices.Sorted(maps.Keys(s.execs)) {
		if s.execs[id].exit == nil {
			st.Execs = append(st.Execs, id)
		}
		st.Clients += len(s.execs[id].clients)
	}
	return st
}

// exec has the runtime make a further process in the container.
func (s *server) exec(f wire.Fields, files []int, reply func(wire.Fields, error)) {
	id := f.String(wire.TagExec)
	p, err := s.newExec(id, f, files)
	if err != nil {
		reply(nil, fmt.Errorf("exec: %w", err))
		return
	}
	stdin := f.Uint(wire.TagFlags)&wire.FlagStdin != 0
	std, err := p.open(stdin)
	if err != nil {
		delete(s.execs, id)
		p.abandon()
		reply(nil, fmt.Errorf("exec: %w", err))
		return
	}
	args := []string{"exec", "--detach", "--pid-file", s.cfg.Bundle + "/" + p.pidPath(), "--process", s.cfg.Bundle + "/" + p.path(shim.ProcessName)}
	if p.terminal {
		args = append(args, "--console-socket", p.consolePath())
		std[1], std[2] = -1, -1
	}
	p.started = time.Now()
	s.making++
	s.runtime(std, func(err error) {
		s.making--
		if err == nil {
			err = p.begin()
		}
		if err != nil {
			delete(s.execs, id)
			said := p.abandon()
			var silent *silentError
			if said != "" && errors.As(err, &silent) {
				err = classify(said)
			}
			reply(nil, err)
		} else {
			var f wire.Fields
			f.AddUint(wire.TagPID, uint64(p.pid))
			reply(f, nil)
			if s.removed {
				s.gone()
			}
		}
		s.sweep()
		s.check()
	}, append(args, s.cfg.ID)...)
	std.close()
}

// newExec makes the exec's record and takes its clients' files over.
func (s *server) newExec(id string, f wire.Fields, files []int) (*proc, error) {
	flags := f.Uint(wire.TagFlags)
	p := &proc{
		s: s, exec: id, terminal: flags&wire.FlagTerminal != 0, closeStdin: true, console: -1, carrier: -1, pidfd: -1,
		width: uint16(f.Uint(wire.TagWidth)), height: uint16(f.Uint(wire.TagHeight)),
	}
	var err error
	switch {
	case s.status != shim.StatusRunning:
		err = errdefs.New(errdefs.Conflict, "the container is %s", s.status)
	case !shim.ValidExecID(id):
		err = errdefs.New(errdefs.Invalid, "%q is no id", id)
	case s.execs[id] != nil:
		err = errdefs.New(errdefs.Conflict, "%s is running", id)
	}
	for t, v := range f.All {
		if err == nil && t == wire.TagAttachment {
			if len(files) == 0 || wire.Fields(v).Check() != nil {
				err = errdefs.New(errdefs.Invalid, "malformed attachment")
				break
			}
			err = p.attach(shim.AttachFrom(v), files[0])
			files = files[1:]
		}
	}
	scm.CloseAll(files)
	if err != nil {
		p.abandon()
		return nil, err
	}
	s.execs[id] = p
	return p, nil
}

func (s *server) execWait(id string, reply func(wire.Fields, error)) {
	p, err := s.find(id)
	if err == nil && id == "" {
		err = errdefs.New(errdefs.Invalid, "wait for an exec without an id")
	}
	if err != nil {
		reply(nil, err)
		return
	}
	if p.exit != nil {
		reply(exitReply(*p.exit), nil)
		return
	}
	p.waiters = append(p.waiters, reply)
}

func exitReply(e shim.Exit) wire.Fields {
	var f wire.Fields
	f.AddBytes(wire.TagExit, e.Fields())
	return f
}

// ended is called when a process may have ended.
func (s *server) ended(p *proc) {
	if p == s.container && s.status == shim.StatusStarting {
		// The runtime is still at it: only its own end tells whether this is
		// a short life or a failed start.
		s.loop.forget(p.pidfd)
		return
	}
	if !p.settle() {
		return
	}
	if p == s.container {
		s.status = shim.StatusExited
		for peer := range s.peers {
			peer.send(exited(*p.exit))
		}
		s.remove()
	} else {
		e := exitReply(*p.exit)
		for _, w := range p.waiters {
			w(e, nil)
		}
		p.waiters = nil
		e.AddString(wire.TagExec, p.exec)
		for peer := range s.peers {
			peer.send(wire.Message{Kind: wire.ExecExited, Fields: e})
		}
	}
	s.check()
}

// record writes the exit record, before the process is reaped.
func (s *server) record(p *proc) {
	path := shim.ExecExitPath(".", p.exec)
	if p == s.container {
		_ = s.log.Close(time.Now())
		if s.forward != nil {
			s.forward.Close()
		}
		path = s.cfg.ExitPath()
		p.exit.OOMKilled = s.cgroup.oomKilled()
		p.exit.PeakMemory = s.cgroup.peakMemory()
		if sig := p.exit.Code - 128; sig > 0 {
			p.exit.KilledBy = s.killedBy[sig]
		}
	}
	b, err := json.Marshal(p.exit)
	if err == nil {
		err = atomicfile.Write(path, b, atomicfile.Options{})
	}
	if err != nil && p == s.container && path != shim.ExitName {
		// The bundle lies on another file system, which may have room.
		complain("%v", err)
		err = atomicfile.Write(shim.ExitName, b, atomicfile.Options{})
	}
	if err != nil {
		complain("%v", err)
	}
}

// remove has the runtime delete the container, whose process has ended.
func (s *server) remove() {
	none := stdio{-1, -1, -1}
	s.runtime(none, func(err error) {
		if err == nil {
			s.gone()
			return
		}
		s.runtime(none, func(err error) {
			if err != nil {
				complain("delete container: %v", err)
			}
			s.gone()
		}, "delete", "--force", s.cfg.ID)
	}, "delete", s.cfg.ID)
}

// gone is called when the runtime has deleted the container.
func (s *server) gone() {
	s.removed = true
	// Execs in a container without a pid namespace of its own may live on.
	for _, p := range s.execs {
		if p.pidfd >= 0 {
			_ = pidfd.Signal(p.pidfd, 9)
		}
	}
	s.check()
}

// sweep reaps the orphans that fell to us. It waits while the runtime makes
// processes whose ids we do not know yet.
func (s *server) sweep() {
	for s.making == 0 {
		st, ok, err := pidfd.PeekAny()
		if err != nil || !ok {
			return
		}
		switch p := s.owner(st.PID); {
		case p != nil && p == s.container && s.status == shim.StatusStarting:
			return
		case p != nil:
			s.ended(p)
		case s.jobs[st.PID] != nil:
			s.jobEnded(s.jobs[st.PID])
		default:
			_, _, _ = pidfd.Reap(st.PID)
		}
	}
}

func (s *server) owner(pid int) *proc {
	if s.container.pidfd >= 0 && s.container.pid == pid {
		return s.container
	}
	for _, p := range s.execs {
		if p.pidfd >= 0 && p.pid == pid {
			return p
		}
	}
	return nil
}

// check forgets execs that are over, and leaves when all is done.
func (s *server) check() {
	maps.DeleteFunc(s.execs, func(_ string, p *proc) bool { return p.exit != nil && len(p.clients) == 0 })
	switch {
	case s.status == shim.StatusFresh && len(s.peers) == 0:
		s.leave() // nobody ever asked for the container
	case s.removed && len(s.execs) == 0 && len(s.container.clients) == 0 && len(s.jobs) == 0:
		s.leave()
	}
}

func (s *server) leave() { s.loop.over = true }

// complain says on standard error what nobody can be told otherwise.
func complain(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "lade-shim: "+format+"\n", args...)
}
