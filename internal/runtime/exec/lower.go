package exec

import (
	"encoding/binary"
	"fmt"
	"syscall"

	"lade/internal/runtime/program"
)

// Layout of lowered programs; the interpreter knows it too.
const (
	headerSize  = 48
	headerErrno = 16
	headerTold  = 24 // the last errno that was tolerated
	headerFD    = 40
	opSize      = 96
	magic       = 0x6c616465 // "lade": a report begins with it

	callCheck = ^uint64(0)
	callStore = ^uint64(0) - 1
)

// lowered is a program as the interpreter takes it: memory for base, where the
// header lies, and the step behind each op.
type lowered struct {
	base  uint64
	mem   []byte
	ops   uint64 // address of the first op
	steps []*program.Step
	timed *timing // nil unless asked for
}

// op is one op before its address is known.
type op struct {
	step     *program.Step
	call     uint64
	args     [6]uint64 // addresses
	out      uint64
	ok, tol  int // labels
	tolerate [2]uint64
}

// lowerer turns steps into ops. Everything that a step names is given an
// address in one piece of memory.
type lowerer struct {
	lowered
	consts map[uint64]uint64
	strs   map[string]uint64
	slots  map[program.Slot]uint64
	bufs   map[string]uint64
	list   []op
	labels []int // label to op
	sink   uint64
}

// lower lowers steps for memory at base. fds holds the slots that are
// known already; with timed, what the steps come to is kept, see timing.
func lower(steps []program.Step, base uint64, mem []byte, fds map[program.Slot]int, timed bool) (*lowered, error) {
	n := program.Steps(steps)
	l := &lowerer{
		lowered: lowered{base: base, mem: mem},
		consts:  make(map[uint64]uint64, 256),
		strs:    make(map[string]uint64, 128),
		slots:   make(map[program.Slot]uint64, 16),
		bufs:    make(map[string]uint64, 4),
		list:    make([]op, 0, 2*n+8),
	}
	l.alloc(headerSize, 8)
	l.put64(base+8, magic)
	l.slots[program.Report] = base + headerFD
	for s, fd := range fds {
		if s == program.Sync {
			l.put64(base+headerFD, uint64(fd))
		}
		l.put64(l.slot(s), uint64(fd))
	}
	l.sink = l.alloc(8, 8)
	if timed {
		l.timed = &timing{at: l.alloc(n*recordSize, 8), size: n * recordSize, on: true}
	}
	end := l.label()
	if err := l.emit(steps, end); err != nil {
		return nil, err
	}
	l.bind(end)
	zero := l.constant(0)
	l.list = append(l.list, op{
		step: &program.Step{Call: "exit_group"}, call: syscall.SYS_EXIT_GROUP,
		args: [6]uint64{zero, zero, zero, zero, zero, zero}, out: l.sink, ok: end, tol: end,
	})
	l.link()
	return &l.lowered, nil
}

func (l *lowerer) label() int {
	l.labels = append(l.labels, -1)
	return len(l.labels) - 1
}

func (l *lowerer) bind(label int) { l.labels[label] = len(l.list) }

// emit appends the ops of steps; after the last one goes to end.
func (l *lowerer) emit(steps []program.Step, end int) error {
	for i := range steps {
		s := &steps[i]
		next := end
		if i+1 < len(steps) {
			next = l.label()
		}
		rec := l.begin(s)
		if err := l.step(s, next); err != nil {
			return fmt.Errorf("lower %s: %w", s.Text(), err)
		}
		last := len(l.list) - 1
		if len(s.Then) > 0 || rec != 0 {
			l.list[last].ok = l.here()
			l.took(rec, l.list[last].out, succeeded, next)
			if err := l.nested(s.Then, next); err != nil {
				return err
			}
		}
		if len(s.Else) > 0 || rec != 0 && len(s.Tolerate) > 0 {
			l.list[last].tol = l.here()
			l.took(rec, l.base+headerTold, tolerated, next)
			if err := l.nested(s.Else, next); err != nil {
				return err
			}
		}
		if next != end {
			l.bind(next)
		}
	}
	return nil
}

// nested appends the ops of the steps that follow the op before.
func (l *lowerer) nested(steps []program.Step, next int) error {
	if len(steps) == 0 {
		return nil
	}
	if l.list[len(l.list)-1].call == callStore { // of a record
		l.list[len(l.list)-1].ok = l.here()
	}
	return l.emit(steps, next)
}

// here is a label of the op that comes next.
func (l *lowerer) here() int {
	at := l.label()
	l.bind(at)
	return at
}

// step appends the ops of one step, without those nested in it.
func (l *lowerer) step(s *program.Step, next int) error {
	o := op{step: s, out: l.sink, ok: next, tol: next}
	switch s.Call {
	case "check":
		o.call = callCheck
	default:
		nr, ok := number(s.Call)
		if !ok {
			return fmt.Errorf("the call has no number on this architecture")
		}
		o.call = uint64(nr)
	}
	for _, e := range s.Tolerate {
		if e >= 128 {
			return fmt.Errorf("errno %d cannot be tolerated", int(e))
		}
		o.tolerate[e/64] |= 1 << (e % 64)
	}
	if s.Yield != "" {
		o.out = l.slot(s.Yield)
	}
	n := 0
	for i := range s.Args {
		a := &s.Args[i]
		switch {
		case n == 6:
			return fmt.Errorf("more than six arguments")
		case a.Kind == program.KindBuffer && s.Call == "check":
			o.args[n] = l.constant(l.buffer(a.S, int(a.N)))
		case a.Kind == program.KindField && s.Call == "check":
			o.args[n] = l.constant(l.buffer(a.S, 0) + a.N)
		case a.Kind == program.KindFDMsg:
			l.message(a, s, &o, n)
		default:
			o.args[n] = l.arg(a)
		}
		n++
	}
	for ; n < 6; n++ {
		o.args[n] = l.constant(0)
	}
	if s.Call == "read" && len(s.Args) > 1 && s.Yield == "" {
		// The number of bytes read, for a check: EOF is not an error to the kernel.
		o.out = l.buffer(s.Args[1].S+".len", 8)
	}
	if s.Call == "close" && s.Args[0].Kind == program.KindFD {
		l.forget(s, &o)
		return nil
	}
	l.list = append(l.list, o)
	return nil
}

// forget appends a close, and empties its slot: a later step that names it by
// mistake, or after a tolerated error, must not meet another descriptor that
// has got the same number. The slot is emptied first; the number is kept aside.
func (l *lowerer) forget(s *program.Step, o *op) {
	slot := o.args[0]
	aside, zero := l.buffer("closing", 8), l.constant(0)
	for _, st := range [][2]uint64{{l.constant(aside), slot}, {l.constant(slot), l.constant(^uint64(0))}} {
		next := l.label()
		l.list = append(l.list, op{
			step: s, call: callStore, out: l.sink, ok: next, tol: next,
			args: [6]uint64{st[0], st[1], zero, zero, zero, zero},
		})
		l.bind(next)
	}
	o.args[0] = aside
	l.list = append(l.list, *o)
}

// message lays out a msghdr whose control part passes a descriptor. As the
// descriptor is known only when the program runs, a store comes first.
func (l *lowerer) message(a *program.Arg, s *program.Step, o *op, n int) {
	const cmsgLen, cmsgSpace = 20, 24
	payload := l.bytes(append(a.Data(), 0))
	iov := l.alloc(16, 8)
	l.put64(iov, payload)
	l.put64(iov+8, uint64(max(len(a.Data()), 1)))
	control := l.alloc(cmsgSpace, 8)
	l.put64(control, cmsgLen)
	l.put64(control+8, syscall.SOL_SOCKET|syscall.SCM_RIGHTS<<32)
	hdr := l.alloc(56, 8)
	l.put64(hdr+16, iov)
	l.put64(hdr+24, 1)
	l.put64(hdr+32, control)
	l.put64(hdr+40, cmsgSpace)

	zero, next := l.constant(0), l.label()
	l.list = append(l.list, op{
		step: s, call: callStore, out: l.sink, ok: next, tol: next,
		args: [6]uint64{l.constant(control + 16), l.slot(program.Slot(a.S)), zero, zero, zero, zero},
	})
	l.bind(next)
	o.args[n] = l.constant(hdr)
}

// arg returns the address of the argument's value.
func (l *lowerer) arg(a *program.Arg) uint64 {
	switch a.Kind {
	case program.KindString:
		return l.constant(l.str(a.S))
	case program.KindFD:
		return l.slot(program.Slot(a.S))
	case program.KindBytes:
		return l.constant(l.bytes(a.Data()))
	case program.KindBuffer:
		return l.constant(l.buffer(a.S, int(a.N)))
	case program.KindStrings:
		v := make([]uint64, len(a.List()))
		for i, s := range a.List() {
			v[i] = l.str(s)
		}
		at := l.alloc(8*(len(v)+1), 8)
		for i, p := range v {
			l.put64(at+uint64(8*i), p)
		}
		return l.constant(at)
	case program.KindField:
		return l.buffer(a.S, 0) + a.N
	case program.KindSlotAddress:
		return l.constant(l.slot(program.Slot(a.S)))
	case program.KindFilter:
		insns := l.bytes(a.Data())
		at := l.alloc(16, 8)
		l.put64(at, uint64(len(a.Data())/8))
		l.put64(at+8, insns)
		return l.constant(at)
	default:
		return l.constant(a.N)
	}
}

func (l *lowerer) constant(v uint64) uint64 {
	at, ok := l.consts[v]
	if !ok {
		at = l.alloc(8, 8)
		l.put64(at, v)
		l.consts[v] = at
	}
	return at
}

func (l *lowerer) slot(s program.Slot) uint64 {
	at, ok := l.slots[s]
	if !ok {
		at = l.alloc(8, 8)
		l.put64(at, ^uint64(0)) // no descriptor: a step that uses it too early fails
		l.slots[s] = at
	}
	return at
}

func (l *lowerer) buffer(name string, size int) uint64 {
	at, ok := l.bufs[name]
	if !ok {
		at = l.alloc(max(size, 8), 8)
		l.bufs[name] = at
	}
	return at
}

func (l *lowerer) str(s string) uint64 {
	at, ok := l.strs[s]
	if !ok {
		at = l.alloc(len(s)+1, 1)
		copy(l.mem[at-l.base:], s)
		l.strs[s] = at
	}
	return at
}

func (l *lowerer) bytes(b []byte) uint64 {
	at := l.alloc(len(b), 8)
	copy(l.mem[at-l.base:], b)
	return at
}

// link gives the ops their places and connects them.
func (l *lowerer) link() {
	l.ops = l.alloc(len(l.list)*opSize, 8)
	l.steps = make([]*program.Step, len(l.list))
	at := func(label int) uint64 { return l.ops + uint64(l.labels[label]*opSize) }
	for i := range l.list {
		o := &l.list[i]
		l.steps[i] = o.step
		p := l.ops + uint64(i*opSize)
		l.put64(p, o.call)
		for j, a := range o.args {
			l.put64(p+8+uint64(8*j), a)
		}
		l.put64(p+56, o.out)
		l.put64(p+64, at(o.ok))
		l.put64(p+72, at(o.tol))
		l.put64(p+80, o.tolerate[0])
		l.put64(p+88, o.tolerate[1])
	}
	l.put64(l.base, l.ops)
}

// alloc returns the address of n zeroed bytes.
func (l *lowerer) alloc(n, align int) uint64 {
	at := (len(l.mem) + align - 1) &^ (align - 1)
	need := at + n
	if need > cap(l.mem) {
		grown := make([]byte, len(l.mem), 2*need)
		copy(grown, l.mem)
		l.mem = grown
	}
	l.mem = l.mem[:need]
	return l.base + uint64(at)
}

func (l *lowerer) put64(at, v uint64) {
	binary.LittleEndian.PutUint64(l.mem[at-l.base:], v)
}

// step returns the step whose op lies at address at.
func (l *lowered) step(at uint64) *program.Step {
	if i := int64(at-l.ops) / opSize; at >= l.ops && i < int64(len(l.steps)) {
		return l.steps[i]
	}
	return nil
}
