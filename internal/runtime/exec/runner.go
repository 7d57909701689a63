package exec

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"lade/internal/runtime/program"
)

// runner takes the runtime's own steps.
type runner struct {
	slots map[program.Slot]int
	own   []int // descriptors that steps yielded
	do    func(*program.Step, int) error
	child *Child
	timed bool

	listener func(fd, pid int) error
}

// close closes what the steps yielded; the child has its own copies.
func (r *runner) close() {
	for _, fd := range r.own {
		_ = unix.Close(fd)
	}
}

func (r *runner) all(steps []program.Step) error {
	for i := range steps {
		s := &steps[i]
		var begin int64
		if r.timed {
			begin = now()
		}
		n, err := r.one(s)
		var errno syscall.Errno
		if err != nil && (!errors.As(err, &errno) || !slices.Contains(s.Tolerate, errno)) {
			return r.fail(s, err)
		}
		if r.timed {
			s.Result = &program.Result{Begin: begin, Nanoseconds: now() - begin, Value: int64(n), Errno: errno}
		}
		next := s.Then
		if err != nil {
			next = s.Else
		} else if s.Yield != "" {
			r.slots[s.Yield] = n
			r.own = append(r.own, n)
		}
		if err := r.all(next); err != nil {
			return err
		}
	}
	return nil
}

func (r *runner) fail(s *program.Step, err error) error {
	var errno syscall.Errno
	if s.Call == "hook" || s.Call == "helper" {
		return err // it says which
	}
	if e, ok := errors.AsType[*StepError](err); ok {
		return e
	}
	if s.Call == "copy_up" || s.Call == "listener" || s.Call == "net_device" {
		return fmt.Errorf("%s: %w", s.Say, err) // err says what of it
	}
	if errors.As(err, &errno) && r.prog() != nil {
		return stepError(r.prog(), s, errno)
	}
	if errors.As(err, &errno) {
		return stepError(&program.Program{Name: "before the child"}, s, errno)
	}
	return err
}

func (r *runner) prog() *program.Program {
	if r.child == nil {
		return nil
	}
	return r.child.prog
}

// one takes one step, without those nested in it.
func (r *runner) one(s *program.Step) (int, error) {
	switch s.Call {
	case "write_file":
		return 0, writeFile(s.Args[0].S, s.Args[1].S)
	case "write_proc":
		return 0, writeFile(fmt.Sprintf("/proc/%d/%s", r.child.PID, s.Args[0].S), s.Args[1].S)
	case "write_pid":
		return 0, writeFile(s.Args[0].S, strconv.Itoa(r.child.PID))
	case "mkdir":
		return 0, unix.Mkdir(s.Args[0].S, uint32(s.Args[1].N))
	case "await":
		return 0, r.child.Await(byte(s.Args[1].N))
	case "adopt":
		return 0, r.child.adopt()
	case "release":
		err := unix.Sendto(r.child.sock, []byte{Release}, unix.MSG_NOSIGNAL, nil)
		if err != nil {
			// The child is gone: its report says why.
			return 0, errors.Join(r.child.Await(Release), err)
		}
		return 0, nil
	case "user_namespace":
		return userNamespace(s.Args[0].S, s.Args[1].S)
	case "idmap_mount":
		return 0, r.mapIDs(r.slots[program.Slot(s.Args[0].S)], s)
	case "idmap_child":
		tree, err := r.child.descriptor()
		if err != nil {
			return 0, err
		}
		defer unix.Close(tree)
		return 0, r.mapIDs(tree, s)
	case "listener":
		return 0, r.child.listener(r.listener)
	case "copy_up":
		return 0, r.child.copyUp(s.Args[1].N)
	case "close":
		return 0, r.forget(program.Slot(s.Args[0].S))
	case "record", "hook", "cgroup", "unit", "net_device", "helper":
		pid := 0
		if r.child != nil {
			pid = r.child.PID
		}
		return 0, r.do(s, pid)
	}
	return r.raw(s)
}

// forget closes a descriptor that a step yielded.
func (r *runner) forget(s program.Slot) error {
	fd, ok := r.slots[s]
	if !ok {
		return unix.EBADF
	}
	delete(r.slots, s)
	r.own = slices.DeleteFunc(r.own, func(n int) bool { return n == fd })
	return unix.Close(fd)
}

// mapIDs gives a tree the mapping of a user namespace.
func (r *runner) mapIDs(tree int, s *program.Step) error {
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(r.slots[program.Slot(s.Args[1].S)])}
	return unix.MountSetattr(tree, "", uint(s.Args[2].N), &attr)
}

// raw takes a step that is one system call.
func (r *runner) raw(s *program.Step) (int, error) {
	nr, ok := number(s.Call)
	if !ok {
		return 0, fmt.Errorf("%s: no such call", s.Call)
	}
	var args [6]uintptr
	var pin runtime.Pinner
	defer pin.Unpin()
	for i := range s.Args {
		a := &s.Args[i]
		switch a.Kind {
		case program.KindFD:
			fd, ok := r.slots[program.Slot(a.S)]
			if !ok {
				return 0, fmt.Errorf("%s: no descriptor %s", s.Call, a.S)
			}
			args[i] = uintptr(fd)
		case program.KindString:
			b := append([]byte(a.S), 0)
			pin.Pin(&b[0])
			args[i] = uintptr(unsafe.Pointer(&b[0]))
		case program.KindBytes:
			b := slices.Clone(a.Data())
			pin.Pin(&b[0])
			args[i] = uintptr(unsafe.Pointer(&b[0]))
		case program.KindInt, program.KindFlags:
			args[i] = uintptr(a.N)
		default:
			return 0, fmt.Errorf("%s: an argument that only a child can have", s.Call)
		}
	}
	for {
		n, _, errno := syscall.Syscall6(nr, args[0], args[1], args[2], args[3], args[4], args[5])
		if errno == 0 {
			return int(n), nil
		}
		if errno != syscall.EINTR {
			return 0, errno
		}
	}
}

// writeFile writes value with one write, as files of the kernel want it.
func writeFile(path, value string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	_, err = unix.Write(fd, unsafe.Slice(unsafe.StringData(value), len(value)))
	_ = unix.Close(fd)
	return err
}
