package seccomp

import (
	"math"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
)

// Offsets in struct seccomp_data.
const (
	offNumber = 0
	offArch   = 4
	offArgs   = 16
)

// armPrivate is where arm's own calls begin, far above those of all machines:
// what lies between is as new as what lies above.
const armPrivate = 0xf0000

// maxInsns is BPF_MAXINSNS.
const maxInsns = 4096

// span is a range of system call numbers with one outcome, from first up to
// the next span's first.
type span struct {
	first uint32
	outcome
}

// assemble writes the program: which entry, then which number, then which
// arguments.
func (p *profile) assemble() ([]unix.SockFilter, error) {
	a := assembler{rev: make([]unix.SockFilter, 0, 512)}
	// x32 calls come through amd64's entry, so that they are in its tree.
	var entries []arch
	for _, x := range p.archs {
		if x != archX32 {
			entries = append(entries, x)
		}
	}
	next := a.ret(unix.SECCOMP_RET_KILL_THREAD) // an entry that the filter does not know
	for _, x := range slices.Backward(entries) {
		tree := a.load(offNumber, a.tree(p.spans(x), x))
		next = a.jump(unix.BPF_JEQ, x.audit(), tree, next)
	}
	a.load(offArch, next)
	if len(a.rev) > maxInsns {
		return nil, errdefs.Hint(errdefs.New(errdefs.Invalid, "the seccomp filter has %d instructions, more than the kernel's %d", len(a.rev), maxInsns),
			"name fewer system calls with conditions on their arguments")
	}
	slices.Reverse(a.rev)
	return a.rev, nil
}

// spans returns the ranges of numbers at an entry.
func (p *profile) spans(x arch) []span {
	spans := p.columnSpans(x, nil)
	if x != archAMD64 {
		return spans
	}
	// What has the bit set is an x32 call, and for a filter without x32 one of
	// a foreign architecture. -1 is none: it is left by a tracer that skips a
	// call.
	if slices.Contains(p.archs, archX32) {
		spans = p.columnSpans(archX32, spans)
	} else {
		spans = appendSpan(spans, x32Bit, outcome{action: unix.SECCOMP_RET_KILL_THREAD})
	}
	return appendSpan(spans, math.MaxUint32, outcome{action: p.fallback})
}

// columnSpans appends the ranges of one architecture's calls.
func (p *profile) columnSpans(x arch, spans []span) []span {
	next := x.base()
	p.calls[x].all(func(n uint32, o int) {
		at := x.base() + n
		if x == archARM && at > armPrivate && next < armPrivate {
			spans = appendSpan(spans, next, outcome{action: p.newer(x)})
			next = armPrivate
		}
		if at > next {
			spans = appendSpan(spans, next, outcome{action: p.fallback})
		}
		spans = appendSpan(spans, at, p.outcomes[o])
		next = at + 1
	})
	return appendSpan(spans, next, outcome{action: p.newer(x)})
}

// newer returns the outcome for numbers above all that the profile names.
func (p *profile) newer(x arch) uint32 {
	switch p.fallback & unix.SECCOMP_RET_ACTION_FULL {
	case unix.SECCOMP_RET_ALLOW, unix.SECCOMP_RET_LOG, unix.SECCOMP_RET_TRACE:
		return p.fallback
	}
	if !p.calls[x].some {
		return p.fallback
	}
	return unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
}

// appendSpan appends a range, or makes the last one longer.
func appendSpan(spans []span, first uint32, o outcome) []span {
	if n := len(spans); n > 0 && len(o.rules) == 0 && len(spans[n-1].rules) == 0 && spans[n-1].action == o.action {
		return spans
	}
	return append(spans, span{first, o})
}

// label is a place in the program: an index into assembler.rev.
type label int

// assembler writes a program from its end to its beginning, so that the
// distance of every jump, which can only go forward, is known when it is
// written.
type assembler struct {
	rev  []unix.SockFilter
	ends []label // where the program ends, the last written last
}

func (a *assembler) emit(code uint16, k uint32) label {
	a.rev = append(a.rev, unix.SockFilter{Code: code, K: k})
	return label(len(a.rev) - 1)
}

// ret ends the program with an action. The last such end is used again while
// it is in reach of a short jump.
func (a *assembler) ret(action uint32) label {
	const reach = 200
	for _, l := range slices.Backward(a.ends) {
		if len(a.rev)-int(l) > reach {
			break
		}
		if a.rev[l].K == action {
			return l
		}
	}
	a.ends = append(a.ends, a.emit(unix.BPF_RET|unix.BPF_K, action))
	return a.ends[len(a.ends)-1]
}

// load fetches a word of struct seccomp_data and goes on at then.
func (a *assembler) load(offset uint32, then label) label {
	a.follow(then)
	return a.emit(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, offset)
}

// follow makes l come after the instruction that is written next.
func (a *assembler) follow(l label) {
	if int(l) != len(a.rev)-1 {
		a.emit(unix.BPF_JMP|unix.BPF_JA, uint32(len(a.rev)-1-int(l)))
	}
}

// near makes sure that a jump which is written next, after at most ahead other
// instructions, reaches l: where it is too far, by a stepping stone.
func (a *assembler) near(l *label, ahead int) {
	if len(a.rev)+ahead-1-int(*l) <= math.MaxUint8 {
		return
	}
	if in := a.rev[*l]; in.Code == unix.BPF_RET|unix.BPF_K {
		*l = a.emit(in.Code, in.K)
		a.ends = append(a.ends, *l)
		return
	}
	*l = a.emit(unix.BPF_JMP|unix.BPF_JA, uint32(len(a.rev)-1-int(*l)))
}

// jump compares the accumulator with k.
func (a *assembler) jump(test uint16, k uint32, yes, no label) label {
	if yes == no {
		return yes
	}
	a.near(&yes, 1)
	a.near(&no, 0)
	l := a.emit(unix.BPF_JMP|unix.BPF_K|test, k)
	a.rev[l].Jt, a.rev[l].Jf = uint8(l-yes-1), uint8(l-no-1)
	return l
}

// tree searches the number, which is loaded, among the ranges.
func (a *assembler) tree(spans []span, x arch) label {
	if len(spans) == 1 {
		return a.leaf(spans[0].outcome, x)
	}
	middle := len(spans) / 2
	high := a.tree(spans[middle:], x)
	low := a.tree(spans[:middle], x)
	return a.jump(unix.BPF_JGE, spans[middle].first, high, low)
}

// leaf decides one range.
func (a *assembler) leaf(o outcome, x arch) label {
	next := a.ret(o.action)
	for _, r := range slices.Backward(o.rules) {
		yes, no := a.ret(r.action), next
		for _, c := range slices.Backward(r.conditions) {
			yes = a.condition(c, x, yes, no)
		}
		next = yes
	}
	return next
}

// condition tests one argument, its upper half first.
func (a *assembler) condition(c condition, x arch, yes, no label) label {
	high, low := uint32(c.value>>32), uint32(c.value)
	offset := uint32(offArgs + 8*c.index)
	lower := a.test(c.op, word{offset, uint32(c.mask), low}, yes, no)
	if x.narrow() {
		return lower
	}
	upper := word{offset + 4, uint32(c.mask >> 32), high}
	switch c.op {
	case specs.OpEqualTo:
		return a.test(specs.OpEqualTo, upper, lower, no)
	case specs.OpNotEqual:
		return a.test(specs.OpEqualTo, upper, lower, yes)
	case specs.OpGreaterThan, specs.OpGreaterEqual:
		// Above: yes. Equal: the lower half says. Below: no.
		return a.threeWay(upper, yes, lower, no)
	default:
		return a.threeWay(upper, no, lower, yes)
	}
}

// word is half of an argument, the bits of it that count, and what they are
// compared with.
type word struct{ offset, mask, k uint32 }

// threeWay goes by how a word compares.
func (a *assembler) threeWay(w word, above, equal, below label) label {
	rest := equal // nothing is below 0
	if w.k > 0 {
		rest = a.jump(unix.BPF_JEQ, w.k, equal, below)
	}
	return a.load(w.offset, a.jump(unix.BPF_JGT, w.k, above, rest))
}

// test goes by whether a comparison holds.
func (a *assembler) test(op specs.LinuxSeccompOperator, w word, yes, no label) label {
	var at label
	k := w.k
	switch op {
	case specs.OpEqualTo:
		if w.mask == 0 && k == 0 {
			return yes
		}
		at = a.jump(unix.BPF_JEQ, k, yes, no)
	case specs.OpNotEqual:
		at = a.jump(unix.BPF_JEQ, k, no, yes)
	case specs.OpGreaterThan:
		at = a.jump(unix.BPF_JGT, k, yes, no)
	case specs.OpGreaterEqual:
		at = a.jump(unix.BPF_JGE, k, yes, no)
	case specs.OpLessThan:
		at = a.jump(unix.BPF_JGE, k, no, yes)
	default: // specs.OpLessEqual
		at = a.jump(unix.BPF_JGT, k, no, yes)
	}
	if w.mask != math.MaxUint32 {
		a.follow(at)
		at = a.emit(unix.BPF_ALU|unix.BPF_AND|unix.BPF_K, w.mask)
	}
	return a.load(w.offset, at)
}
