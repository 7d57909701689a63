package seccomp

import (
	"runtime"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
)

// Host is what a filter depends on besides the configuration.
type Host struct {
	// GOARCH is the machine's architecture; empty means that of this program.
	GOARCH string
}

// Filter is what seccomp(2) takes.
type Filter struct {
	Insns []unix.SockFilter
	// Flags are SECCOMP_FILTER_FLAG_*. NEW_LISTENER is among them when Notify
	// is set; seccomp then returns the listener's descriptor.
	Flags uint
	// Notify says that a rule asks a listener in user space.
	Notify bool
}

// condition compares the bits of an argument under mask with a value.
type condition struct {
	index       uint
	op          specs.LinuxSeccompOperator
	mask, value uint64
}

// rule gives an outcome when all conditions hold.
type rule struct {
	conditions []condition
	action     uint32 // SECCOMP_RET_* with its data
}

// outcome is what becomes of one system call: action, or that of the first of
// rules that applies, and action where none does.
type outcome struct {
	action uint32
	rules  []rule
	always bool // a rule without conditions has decided
}

// profile is a configuration, checked and by numbers.
type profile struct {
	native   arch
	archs    []arch
	fallback uint32 // the default action
	calls    [archCount]numbered
	outcomes []outcome
	notify   bool
}

// numbered holds, for the calls of one architecture that the configuration
// names, one more than their place in profile.outcomes.
type numbered struct {
	low  [lowCalls]uint16 // by number
	own  [16]uint16       // arm's own, from armPrivate on
	some bool
}

// lowCalls is more than the highest number of any call but arm's own.
const lowCalls = 640

// slot returns the place for a call's number.
func (n *numbered) slot(number uint32) *uint16 {
	if number < armPrivate {
		return &n.low[number]
	}
	return &n.own[number-armPrivate]
}

// all calls f for every call that is named, by number.
func (n *numbered) all(f func(number uint32, outcome int)) {
	for i, o := range n.low {
		if o > 0 {
			f(uint32(i), int(o)-1)
		}
	}
	for i, o := range n.own {
		if o > 0 {
			f(armPrivate+uint32(i), int(o)-1)
		}
	}
}

// Compile returns the filter for a configuration, or nil where it asks for
// none. Its errors are of class Invalid, or NotImplemented for a machine that
// it makes no filters for.
func Compile(s *specs.LinuxSeccomp, h Host) (*Filter, error) {
	if s == nil || s.DefaultAction == "" && len(s.Syscalls) == 0 {
		return nil, nil
	}
	p, err := parse(s, h)
	if err != nil {
		return nil, err
	}
	flags, err := parseFlags(s.Flags)
	if err != nil {
		return nil, err
	}
	if p.notify {
		flags |= unix.SECCOMP_FILTER_FLAG_NEW_LISTENER
	} else {
		// The kernel refuses it without a listener, to which alone it applies.
		flags &^= unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
	}
	insns, err := p.assemble()
	if err != nil {
		return nil, err
	}
	return &Filter{Insns: insns, Flags: flags, Notify: p.notify}, nil
}

// flagTsync is not in the specification, but in use.
const flagTsync specs.LinuxSeccompFlag = "SECCOMP_FILTER_FLAG_TSYNC"

// parseFlags returns the flags as bits.
func parseFlags(names []specs.LinuxSeccompFlag) (uint, error) {
	if names == nil {
		// Nothing said is not the same as an empty list: like runc, spare the
		// container the mitigation that a filter switches on before Linux 5.16.
		return unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW, nil
	}
	var flags uint
	for _, name := range names {
		switch name {
		case flagTsync:
			// The process that loads the filter has one thread.
		case specs.LinuxSeccompFlagLog:
			flags |= unix.SECCOMP_FILTER_FLAG_LOG
		case specs.LinuxSeccompFlagSpecAllow:
			flags |= unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW
		case specs.LinuxSeccompFlagWaitKillableRecv:
			flags |= unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
		default:
			return 0, errdefs.New(errdefs.Invalid, "seccomp flag %q is not known", name)
		}
	}
	return flags, nil
}

func parse(s *specs.LinuxSeccomp, h Host) (*profile, error) {
	goarch := h.GOARCH
	if goarch == "" {
		goarch = runtime.GOARCH
	}
	own, err := native(goarch)
	if err != nil {
		return nil, err
	}
	// The machine's own architecture takes part whether named or not.
	p := &profile{native: own, archs: []arch{own}}
	for _, name := range s.Architectures {
		a, known, err := parseArch(name)
		if err != nil {
			return nil, err
		}
		if known && own.runs(a) && !slices.Contains(p.archs, a) {
			p.archs = append(p.archs, a)
		}
	}
	if p.fallback, err = parseAction(s.DefaultAction, s.DefaultErrnoRet); err != nil {
		return nil, errdefs.New(errdefs.Invalid, "seccomp default action: %w", err)
	}
	if s.DefaultAction == specs.ActNotify {
		return nil, errdefs.New(errdefs.Invalid, "SCMP_ACT_NOTIFY cannot be used as default action")
	}
	for i, c := range s.Syscalls {
		if err := p.addCall(c); err != nil {
			return nil, errdefs.New(errdefs.Invalid, "seccomp rule %d: %w", i, err)
		}
	}
	return p, nil
}

// addCall adds one entry of the configuration, which may name many calls.
func (p *profile) addCall(c specs.LinuxSyscall) error {
	action, err := parseAction(c.Action, c.ErrnoRet)
	if err != nil {
		return err
	}
	rules, err := parseArgs(c.Args, action)
	if err != nil {
		return err
	}
	if c.Action == specs.ActNotify {
		p.notify = true
		if slices.Contains(c.Names, "write") {
			// Whoever loads the filter must get the listener out.
			return errdefs.New(errdefs.Invalid, "SCMP_ACT_NOTIFY cannot be used for the write syscall")
		}
	}
	for _, name := range c.Names {
		if name == "" {
			return errdefs.New(errdefs.Invalid, "empty string is not a valid syscall")
		}
		numbers := lookup(name)
		if numbers == nil {
			continue
		}
		for _, a := range p.archs {
			if n := numbers[a]; n >= 0 {
				p.add(a, uint32(n), rules)
			}
		}
		if len(c.Args) > 0 || !slices.Contains(p.archs, archX86) {
			continue
		}
		if through, number := multiplexed(name); through != "" {
			only := condition{index: 0, op: specs.OpEqualTo, mask: 0xffff, value: uint64(number)}
			p.add(archX86, uint32(lookup(through)[archX86]), []rule{{[]condition{only}, action}})
		}
	}
	return nil
}

// add adds rules to a system call. That a rule is there makes the call known,
// even where the rule changes nothing.
func (p *profile) add(a arch, number uint32, rules []rule) {
	calls := &p.calls[a]
	calls.some = true
	slot := calls.slot(number)
	if *slot == 0 {
		*slot = p.plain(outcome{action: p.fallback})
	}
	for _, r := range rules {
		o := &p.outcomes[*slot-1]
		switch {
		case o.always || r.action == p.fallback:
		case len(r.conditions) == 0:
			*slot = p.plain(outcome{action: r.action, always: true})
		case len(o.rules) == 0:
			p.outcomes = append(p.outcomes, outcome{action: p.fallback, rules: []rule{r}})
			*slot = uint16(len(p.outcomes))
		default:
			o.rules = append(o.rules, r)
		}
	}
}

// plain returns one more than the place of an outcome without conditional
// rules. All calls with the same one share it: there are hundreds.
func (p *profile) plain(o outcome) uint16 {
	for i := range p.outcomes {
		if have := &p.outcomes[i]; have.action == o.action && have.always == o.always && len(have.rules) == 0 {
			return uint16(i + 1)
		}
	}
	p.outcomes = append(p.outcomes, o)
	return uint16(len(p.outcomes))
}

// parseArgs returns the rules that the conditions of one entry make.
func parseArgs(args []specs.LinuxSeccompArg, action uint32) ([]rule, error) {
	if len(args) == 0 {
		return []rule{{nil, action}}, nil
	}
	var all []condition
	var seen, twice [6]bool
	for _, a := range args {
		if a.Index > 5 {
			return nil, errdefs.New(errdefs.Invalid, "argument %d: a system call has arguments 0 to 5", a.Index)
		}
		c := condition{index: a.Index, op: a.Op, mask: ^uint64(0), value: a.Value}
		switch a.Op {
		case specs.OpMaskedEqual:
			c = condition{index: a.Index, op: specs.OpEqualTo, mask: a.Value, value: a.ValueTwo}
		case specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpEqualTo, specs.OpGreaterEqual, specs.OpGreaterThan:
		default:
			return nil, errdefs.New(errdefs.Invalid, "operator %q is not known", a.Op)
		}
		twice[a.Index] = seen[a.Index]
		seen[a.Index] = true
		all = append(all, c)
	}
	if !slices.Contains(twice[:], true) {
		return []rule{{all, action}}, nil
	}
	rules := make([]rule, 0, len(all))
	for _, c := range all {
		rules = append(rules, rule{[]condition{c}, action})
	}
	return rules, nil
}

// maxErrno is the highest that the kernel returns.
const maxErrno = 4095

// parseAction returns what a filter returns for an action.
func parseAction(a specs.LinuxSeccompAction, errnoRet *uint) (uint32, error) {
	data := uint32(unix.EPERM)
	if errnoRet != nil {
		if *errnoRet > maxErrno {
			return 0, errdefs.New(errdefs.Invalid, "errnoRet %d is out of range", *errnoRet)
		}
		data = uint32(*errnoRet)
	}
	switch a {
	case specs.ActErrno:
		return unix.SECCOMP_RET_ERRNO | data, nil
	case specs.ActTrace:
		return unix.SECCOMP_RET_TRACE | data, nil
	case specs.ActKill, specs.ActKillThread:
		return unix.SECCOMP_RET_KILL_THREAD, nil
	case specs.ActKillProcess:
		return unix.SECCOMP_RET_KILL_PROCESS, nil
	case specs.ActTrap:
		return unix.SECCOMP_RET_TRAP, nil
	case specs.ActAllow:
		return unix.SECCOMP_RET_ALLOW, nil
	case specs.ActLog:
		return unix.SECCOMP_RET_LOG, nil
	case specs.ActNotify:
		return unix.SECCOMP_RET_USER_NOTIF, nil
	}
	return 0, errdefs.New(errdefs.Invalid, "action %q is not known", a)
}
