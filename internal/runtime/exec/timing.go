package exec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"lade/internal/runtime/program"
)

// Timing of a child's steps. The interpreter knows nothing of it: around each
// step the lowered program has ops of its own, which read the clock and store
// what the step came to in a record. As the records are gone with the execve,
// the program writes them to a file in memory that the runtime has, too, each
// time before it says that it is that far; nothing is timed after a filter of
// system calls is installed, which need not let the clock be read.
type timing struct {
	at    uint64 // the records
	size  int    // of all of them
	steps []*program.Step
	on    bool
}

// A record: begin and end, each seconds and nanoseconds, value, outcome.
const (
	recordSize    = 48
	recordEnd     = 16
	recordValue   = 32
	recordOutcome = 40

	succeeded = 1
	tolerated = 2
)

// traceFD is where the child writes the records.
const traceFD program.Slot = "trace"

// begin appends the op that reads the clock before a step, and returns where
// the step's record is; 0 if the step is not timed.
func (l *lowerer) begin(s *program.Step) uint64 {
	t := l.timed
	if t == nil || !t.on {
		return 0
	}
	if last := s.Call == "seccomp" || told(s) == Executing; last || told(s) == Created {
		l.flush()
		t.on = !last
		if last {
			return 0
		}
	}
	rec := t.at + uint64(len(t.steps))*recordSize
	t.steps = append(t.steps, s)
	l.clock(rec, l.label())
	l.bind(l.list[len(l.list)-1].ok)
	return rec
}

// told returns the milestone that a step tells the runtime of, or 0.
func told(s *program.Step) byte {
	if s.Call != "write" || len(s.Args) < 2 || len(s.Args[1].Data()) != 1 {
		return 0
	}
	return s.Args[1].Data()[0]
}

// took appends the ops that fill a record.
func (l *lowerer) took(rec, value uint64, outcome uint64, next int) {
	if rec == 0 {
		return
	}
	l.clock(rec+recordEnd, l.label())
	l.bind(l.list[len(l.list)-1].ok)
	l.store(rec+recordValue, value, l.label())
	l.bind(l.list[len(l.list)-1].ok)
	l.store(rec+recordOutcome, l.constant(outcome), next)
}

// extra appends an op that is no step, and whose errors do not matter.
func (l *lowerer) extra(call, next int, args ...uint64) {
	o := op{step: &program.Step{Call: "time"}, call: uint64(call), out: l.sink, ok: next, tol: next, tolerate: [2]uint64{^uint64(0), ^uint64(0)}}
	for i := range o.args {
		o.args[i] = l.constant(0)
	}
	copy(o.args[:], args)
	l.list = append(l.list, o)
}

// clock reads the one clock that is the same in all namespaces.
func (l *lowerer) clock(to uint64, next int) {
	l.extra(unix.SYS_CLOCK_GETTIME, next, l.constant(unix.CLOCK_REALTIME), l.constant(to))
}

func (l *lowerer) store(to, from uint64, next int) {
	l.extra(0, next, l.constant(to), from)
	l.list[len(l.list)-1].call = callStore
}

// flush writes all records.
func (l *lowerer) flush() {
	l.extra(unix.SYS_PWRITE64, l.label(), l.slot(traceFD), l.constant(l.timed.at), l.constant(uint64(l.timed.size)))
	l.bind(l.list[len(l.list)-1].ok)
}

// results gives the steps what their records say.
func (t *timing) results(b []byte) {
	word := func(i int) int64 { return int64(binary.LittleEndian.Uint64(b[i:])) }
	for i, s := range t.steps {
		at := i * recordSize
		if at+recordSize > len(b) || word(at+recordOutcome) == 0 {
			continue
		}
		begin := word(at)*1e9 + word(at+8)
		r := &program.Result{Begin: begin, Nanoseconds: word(at+recordEnd)*1e9 + word(at+recordEnd+8) - begin, Value: word(at + recordValue)}
		if word(at+recordOutcome) == tolerated {
			r.Value, r.Errno = 0, syscall.Errno(word(at+recordValue))
		}
		s.Result = r
	}
}

// Explain notes at the steps of the child's program what they came to, as far
// as the child has got when it last said so. The program must have been started
// with Timed.
func (c *Child) Explain() error {
	if c.low == nil || c.low.timed == nil {
		return errors.New("the program was not timed")
	}
	b := make([]byte, len(c.low.timed.steps)*recordSize)
	n, err := unix.Pread(c.trace, b, 0)
	if err != nil {
		return fmt.Errorf("read the times of the steps: %w", err)
	}
	c.low.timed.results(b[:n])
	return nil
}

// now reads the clock that the child's records are of.
func now() int64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_REALTIME, &t)
	return t.Nano()
}
