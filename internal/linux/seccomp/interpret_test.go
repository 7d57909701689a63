package seccomp

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// data is struct seccomp_data.
type data struct {
	number uint32
	arch   uint32
	args   [6]uint64
}

func (d data) bytes() []byte {
	b := make([]byte, 64)
	binary.LittleEndian.PutUint32(b[0:], d.number)
	binary.LittleEndian.PutUint32(b[4:], d.arch)
	for i, a := range d.args {
		binary.LittleEndian.PutUint64(b[16+8*i:], a)
	}
	return b
}

// interpret runs a classic BPF program as the kernel would, and counts the
// instructions.
func interpret(prog []unix.SockFilter, d data) (action uint32, steps int, err error) {
	var acc uint32
	mem := d.bytes()
	for pc := 0; pc < len(prog); pc++ {
		in := prog[pc]
		steps++
		jump := func(c bool) {
			if c {
				pc += int(in.Jt)
			} else {
				pc += int(in.Jf)
			}
		}
		switch in.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			if in.K%4 != 0 || in.K > 60 {
				return 0, steps, fmt.Errorf("%d: load from %d", pc, in.K)
			}
			acc = binary.LittleEndian.Uint32(mem[in.K:])
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			acc &= in.K
		case unix.BPF_JMP | unix.BPF_JA:
			pc += int(in.K)
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			jump(acc == in.K)
		case unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K:
			jump(acc > in.K)
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			jump(acc >= in.K)
		case unix.BPF_RET | unix.BPF_K:
			return in.K, steps, nil
		default:
			return 0, steps, fmt.Errorf("%d: code %#x", pc, in.Code)
		}
	}
	return 0, steps, fmt.Errorf("ran off the end")
}

// naive decides a system call straight from the configuration, rule by rule.
// It says what doc.go says, and shares only the table with the compiler.
func naive(s *specs.LinuxSeccomp, goarch string, d data) uint32 {
	own, _ := native(goarch)
	archs := []arch{own}
	for _, name := range s.Architectures {
		if a, known, _ := parseArch(name); known && own.runs(a) {
			archs = append(archs, a)
		}
	}
	fallback, _ := parseAction(s.DefaultAction, s.DefaultErrnoRet)
	i := slices.IndexFunc(archs, func(a arch) bool { return a != archX32 && a.audit() == d.arch })
	if i < 0 {
		return unix.SECCOMP_RET_KILL_THREAD
	}
	a, number := archs[i], d.number
	if a == archAMD64 && number >= x32Bit {
		switch {
		case number == ^uint32(0):
			return fallback
		case !slices.Contains(archs, archX32):
			return unix.SECCOMP_RET_KILL_THREAD
		}
		a, number = archX32, number-x32Bit
	}
	newest := int64(-1)
	var conditional []uint32
	decided := false
	var always uint32
	for _, c := range s.Syscalls {
		action, _ := parseAction(c.Action, c.ErrnoRet)
		for _, name := range c.Names {
			numbers := lookup(name)
			if numbers == nil {
				continue
			}
			args := c.Args
			hit := numbers[a] >= 0 && uint32(numbers[a]) == number
			through, mux := "", uint32(0)
			if a == archX86 {
				through, mux = multiplexed(name)
			}
			if through != "" && len(args) == 0 {
				t := lookup(through)[archX86]
				note(&newest, t)
				if uint32(t) == number {
					hit = true
					args = []specs.LinuxSeccompArg{{Index: 0, Op: specs.OpMaskedEqual, Value: 0xffff, ValueTwo: uint64(mux)}}
				}
			}
			note(&newest, numbers[a])
			if !hit || action == fallback {
				continue
			}
			if len(args) == 0 {
				if !decided {
					decided, always = true, action
				}
				continue
			}
			if matches(args, d, a) {
				conditional = append(conditional, action)
			}
		}
	}
	switch {
	case decided:
		return always
	case len(conditional) > 0:
		return conditional[0]
	}
	known := newest >= 0
	lenient := fallback&unix.SECCOMP_RET_ACTION_FULL == unix.SECCOMP_RET_ALLOW ||
		fallback&unix.SECCOMP_RET_ACTION_FULL == unix.SECCOMP_RET_LOG || fallback&unix.SECCOMP_RET_ACTION_FULL == unix.SECCOMP_RET_TRACE
	if !known || lenient {
		return fallback
	}
	above := int64(number) > newest
	if a == archARM && number < armPrivate {
		// Above all of the calls that are not arm's own.
		above = int64(number) > newestBelow(s, a, armPrivate)
	}
	if above {
		return unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	}
	return fallback
}

func note(newest *int64, n int32) {
	if n >= 0 {
		*newest = max(*newest, int64(n))
	}
}

func newestBelow(s *specs.LinuxSeccomp, a arch, limit int64) int64 {
	newest, any := int64(-1), int64(-1)
	for _, c := range s.Syscalls {
		for _, name := range c.Names {
			if numbers := lookup(name); numbers != nil {
				note(&any, numbers[a])
				if int64(numbers[a]) < limit {
					note(&newest, numbers[a])
				}
			}
		}
	}
	if any < limit {
		return any
	}
	return newest
}

func matches(args []specs.LinuxSeccompArg, d data, a arch) bool {
	count := map[uint]int{}
	twice := false
	for _, c := range args {
		count[c.Index]++
		twice = twice || count[c.Index] > 1
	}
	for _, c := range args {
		ok := holds(c, d.args[c.Index], a)
		if ok && twice {
			return true
		}
		if !ok && !twice {
			return false
		}
	}
	return !twice
}

func holds(c specs.LinuxSeccompArg, v uint64, a arch) bool {
	one, two := c.Value, c.ValueTwo
	if a.narrow() {
		v, one, two = v&0xffffffff, one&0xffffffff, two&0xffffffff
	}
	switch c.Op {
	case specs.OpEqualTo:
		return v == one
	case specs.OpNotEqual:
		return v != one
	case specs.OpLessThan:
		return v < one
	case specs.OpLessEqual:
		return v <= one
	case specs.OpGreaterEqual:
		return v >= one
	case specs.OpGreaterThan:
		return v > one
	case specs.OpMaskedEqual:
		return v&one == two
	}
	return false
}
