package exec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"lade/internal/runtime/program"
)

// Milestones of a child, each a packet of one byte.
const (
	Ready     = 'r' // namespaces are made, the root is not yet entered
	Created   = 'c' // all is set up; the child waits for the start
	Executing = 'x' // nothing but execve is left
	Release   = 'g' // the runtime's answer: go on
)

// Options accompany a program to its execution.
type Options struct {
	// FDs are descriptors of the runtime that steps of the child name.
	FDs map[program.Slot]int
	// Keep is how many descriptors from 3 on the process is given as they are.
	Keep int
	// Unsealed leaves the executor's image writable: for tests of attacks on it.
	Unsealed bool
	// Listener takes the descriptor of a child's seccomp listener, which is
	// closed when it returns.
	Listener func(fd, pid int) error
	// Timed notes at each step of the program what it came to; see Explain.
	Timed bool
	// Do takes the steps of the runtime that are more than a system call:
	// "record", "hook". The child exists when pid is not 0.
	Do func(s *program.Step, pid int) error
}

// Child is a process on its way into a container.
type Child struct {
	PID   int
	PidFD int
	prog  *program.Program
	low   *lowered
	sock  int // the runtime's end
	done  bool
	trace int // where the child writes what its steps came to, if it does

	rawPidFD int32 // where the kernel writes it: on the heap, which does not move
}

// cloneArgs is the kernel's struct clone_args.
type cloneArgs struct {
	flags, pidfd uint64
	_            [2]uint64 // child_tid, parent_tid
	exitSignal   uint64
	_            [5]uint64 // stack, stack_size, tls, set_tid, set_tid_size
	cgroup       uint64
}

//go:noescape
func spawn(args *cloneArgs, size, header uintptr) uintptr

// Start carries out p until the child is released, and returns it. The caller
// waits for what comes next with Await, and closes the child. When Start
// fails, the child is gone and reaped.
func Start(p *program.Program, o Options) (*Child, error) {
	r := &runner{slots: make(map[program.Slot]int, 8), do: o.Do, listener: o.Listener, timed: o.Timed}
	defer r.close()
	maps.Copy(r.slots, o.FDs)
	var c *Child
	var err error
	if slices.ContainsFunc(p.Before, func(s program.Step) bool { return s.Call == "setns" || s.Call == "unshare" }) {
		apart(func() { c, err = begin(p, r, o) })
	} else {
		c, err = begin(p, r, o)
	}
	if err != nil {
		return nil, err
	}
	if err := r.all(p.Beside); err != nil {
		c.Kill()
		c.Close()
		return nil, err
	}
	return c, nil
}

// begin takes the steps up to the child's first.
func begin(p *program.Program, r *runner, o Options) (*Child, error) {
	if err := r.all(p.Before); err != nil {
		return nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make the socket pair between runtime and child: %w", err)
	}
	c := &Child{prog: p, sock: pair[0], PidFD: -1, trace: -1}
	if o.Timed {
		if c.trace, err = unix.MemfdCreate("lade-times", unix.MFD_CLOEXEC); err != nil {
			return nil, errors.Join(fmt.Errorf("make the file of times: %w", err), unix.Close(pair[0]), unix.Close(pair[1]))
		}
		r.slots[traceFD] = c.trace
	}
	r.slots[program.Sync] = pair[1]
	err = c.clone(r, o)
	_ = unix.Close(pair[1])
	if err != nil {
		c.Close()
		return nil, err
	}
	r.slots[program.Sync], r.child = pair[0], c
	return c, nil
}

// apart calls f on a thread that ends with it: f leaves namespaces behind in
// which nothing else of the runtime may find itself. The process's first
// thread, which /proc/self speaks of and which cannot end, is not taken.
func apart(f func()) {
	done := make(chan struct{})
	var run func()
	run = func() {
		runtime.LockOSThread() // and never unlocked: the thread ends
		if unix.Gettid() == unix.Getpid() {
			go run() // on another, while this one is held
			<-done
			runtime.UnlockOSThread()
			return
		}
		defer close(done)
		f()
	}
	go run()
	<-done
}

// clone makes the child.
func (c *Child) clone(r *runner, o Options) error {
	low, err := lower(c.prog.Child, dataBase, make([]byte, 0, 128<<10), r.slots, o.Timed)
	if err != nil {
		return err
	}
	c.low = low
	image, err := memfd(low, o.Unsealed)
	if err != nil {
		return err
	}
	defer unix.Close(image)

	early := c.early(r.slots, image, o.Keep)
	size := 32 << 10
	if o.Timed {
		size <<= 3
	}
	mem := make([]byte, 0, size)
	mem = mem[:1]
	base := uint64(uintptr(unsafe.Pointer(&mem[0])))
	first, err := lower(early, base, mem[:0], r.slots, o.Timed)
	if err != nil {
		return err
	}
	if uint64(uintptr(unsafe.Pointer(&first.mem[0]))) != base {
		return errors.New("lower the child's first steps: they outgrow their memory")
	}
	flags := c.prog.Clone.Args[0].N
	args := cloneArgs{
		flags:      flags | unix.CLONE_VM | unix.CLONE_VFORK | unix.CLONE_PIDFD,
		pidfd:      uint64(uintptr(unsafe.Pointer(&c.rawPidFD))),
		exitSignal: uint64(unix.SIGCHLD),
	}
	if flags&unix.CLONE_INTO_CGROUP != 0 {
		args.cgroup = uint64(r.slots["cgroup"])
	}
	begin := now()
	pid := vfork(&args, uintptr(base))
	runtime.KeepAlive(first)
	runtime.KeepAlive(mem)
	if e := -int64(pid); e > 0 && e < 4096 {
		return stepError(c.prog, &c.prog.Clone, syscall.Errno(e))
	}
	c.PID, c.PidFD = int(pid), int(c.rawPidFD)
	if o.Timed {
		// The clone has the time of all that the child does in this memory.
		c.prog.Clone.Result = &program.Result{Begin: begin, Nanoseconds: now() - begin, Value: int64(pid)}
		first.timed.results(first.mem[first.timed.at-base:])
		for i := range c.prog.Early {
			c.prog.Early[i].Result = early[len(early)-1-len(c.prog.Early)+i].Result
		}
	}
	// A child that could not become the executor has left its report in the
	// socket and the failed step in memory that was shared.
	if e := binary.LittleEndian.Uint64(first.mem[headerErrno:]); e != 0 {
		step := first.step(binary.LittleEndian.Uint64(first.mem[headerErrno+8:]))
		c.Kill()
		return stepError(c.prog, step, syscall.Errno(e))
	}
	return nil
}

// early returns the child's steps in the runtime's image: hand on the
// descriptors that its program names and no other, become the executor.
func (c *Child) early(slots map[program.Slot]int, image, keep int) []program.Step {
	steps := make([]program.Step, 0, len(slots)+len(c.prog.Early)+2)
	steps = append(steps, program.Step{Call: "close_range", Args: []program.Arg{
		program.Int(3 + keep), program.Int(^uint32(0)), program.Int(unix.CLOSE_RANGE_CLOEXEC),
	}})
	named := map[program.Slot]bool{program.Sync: true, traceFD: true}
	program.Walk(c.prog.Child, func(s *program.Step) {
		for i := range s.Args {
			if k := s.Args[i].Kind; k == program.KindFD || k == program.KindFDMsg {
				named[program.Slot(s.Args[i].S)] = true
			}
		}
	})
	for s := range slots {
		if named[s] {
			steps = append(steps, program.Step{Call: "fcntl", Args: []program.Arg{
				program.FD(s), program.Named(unix.F_SETFD, "F_SETFD"), program.Int(0),
			}})
		}
	}
	steps = append(steps, c.prog.Early...)
	return append(steps, program.Step{Call: "execveat", Args: []program.Arg{
		program.Named(uint64(image), "executor"), program.String(""),
		program.Strings([]string{"lade-runtime", "init"}), program.Strings(nil),
		program.Named(unix.AT_EMPTY_PATH, "AT_EMPTY_PATH"),
	}})
}

// vfork clones with every signal blocked: a handler that ran in the child
// would run on the runtime's memory. The child unblocks them itself.
func vfork(args *cloneArgs, header uintptr) uintptr {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	all, old := ^uint64(0), uint64(0)
	sigmask(&all, &old)
	pid := spawn(args, unsafe.Sizeof(*args), header)
	sigmask(&old, nil)
	return pid
}

func sigmask(set, old *uint64) {
	_, _, _ = syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK,
		uintptr(unsafe.Pointer(set)), uintptr(unsafe.Pointer(old)), 8, 0, 0)
}

// Await waits for the milestone want. A failure that the child reports is
// returned as the error of its step; a child that is gone without a word, too.
func (c *Child) Await(want byte) error {
	for {
		m, err := receive(c.sock)
		switch {
		case err != nil:
			return fmt.Errorf("hear from the child: %w", err)
		case m.kind == 0:
			return fmt.Errorf("%s: the child ended before it was %s", c.prog.Name, milestone(want))
		case m.kind == want:
			return nil
		case m.kind == 'e':
			return stepError(c.prog, c.low.step(m.op), m.errno)
		}
	}
}

// Executed waits until the child has executed its program, and returns the
// error if it could not.
func (c *Child) Executed() error {
	if err := c.Await(Executing); err != nil {
		return err
	}
	m, err := receive(c.sock)
	switch {
	case err != nil:
		return fmt.Errorf("hear from the child: %w", err)
	case m.kind == 'e':
		return stepError(c.prog, c.low.step(m.op), m.errno)
	}
	return nil
}

// adopt takes the child's child in the child's place, which ends.
func (c *Child) adopt() error {
	m, err := receive(c.sock)
	switch {
	case err != nil:
		return fmt.Errorf("hear from the child: %w", err)
	case m.kind == 'e':
		return stepError(c.prog, c.low.step(m.op), m.errno)
	case m.kind != 'p' || m.call == 0:
		return fmt.Errorf("%s: the child ended before it had a child", c.prog.Name)
	}
	fd, err := unix.PidfdOpen(int(m.call), 0)
	if err != nil {
		return fmt.Errorf("open the child's child: %w", err)
	}
	_, err = c.Wait()
	_ = unix.Close(c.PidFD)
	c.PID, c.PidFD, c.done = int(m.call), fd, false
	return err
}

// listener takes the descriptor out of the child whose number it sends.
func (c *Child) listener(take func(fd, pid int) error) error {
	m, err := receive(c.sock)
	switch {
	case err != nil:
		return fmt.Errorf("hear from the child: %w", err)
	case m.kind == 'e':
		return stepError(c.prog, c.low.step(m.op), m.errno)
	case m.kind != 'p':
		return fmt.Errorf("%s: the child ended before it had a seccomp listener", c.prog.Name)
	}
	fd, err := unix.PidfdGetfd(c.PidFD, int(m.call), 0)
	if err != nil {
		return fmt.Errorf("take the seccomp listener: %w", err)
	}
	defer unix.Close(fd)
	return take(fd, c.PID)
}

// Kill ends the child and reaps it.
func (c *Child) Kill() {
	if c.PID == 0 || c.done {
		return
	}
	_ = unix.PidfdSendSignal(c.PidFD, unix.SIGKILL, nil, 0)
	_, _ = c.Wait()
}

// Wait waits until the process has ended, and reaps it.
func (c *Child) Wait() (syscall.WaitStatus, error) {
	var status syscall.WaitStatus
	for {
		_, err := syscall.Wait4(c.PID, &status, 0, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		c.done = err == nil
		return status, err
	}
}

// Close releases the descriptors that stand for the child.
func (c *Child) Close() {
	if c.sock >= 0 {
		_ = unix.Close(c.sock)
		c.sock = -1
	}
	if c.PidFD > 0 {
		_ = unix.Close(c.PidFD)
		c.PidFD = -1
	}
	if c.trace >= 0 {
		_ = unix.Close(c.trace)
		c.trace = -1
	}
}
