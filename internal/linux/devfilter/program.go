package devfilter

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
)

// Insn is one eBPF instruction, struct bpf_insn.
type Insn struct {
	Code uint8
	Regs uint8 // destination in the lower four bits, source in the upper
	Off  int16
	Imm  int32
}

// Program is an eBPF program of type BPF_PROG_TYPE_CGROUP_DEVICE.
type Program struct{ Insns []Insn }

// Opcodes, as composed in linux/bpf.h.
const (
	opLoad32   = unix.BPF_LDX | unix.BPF_MEM | unix.BPF_W
	opMovImm   = unix.BPF_ALU64 | unix.BPF_MOV | unix.BPF_K
	opMovReg   = unix.BPF_ALU64 | unix.BPF_MOV | unix.BPF_X
	opAnd      = unix.BPF_ALU64 | unix.BPF_AND | unix.BPF_K
	opShift    = unix.BPF_ALU64 | unix.BPF_RSH | unix.BPF_K
	opJumpEq   = unix.BPF_JMP32 | unix.BPF_JEQ | unix.BPF_K
	opJumpNe   = unix.BPF_JMP32 | unix.BPF_JNE | unix.BPF_K
	opExit     = unix.BPF_JMP | unix.BPF_EXIT
	typeBlock  = 1 // BPF_DEVCG_DEV_BLOCK
	typeChar   = 2 // BPF_DEVCG_DEV_CHAR
	accessBits = 16
)

// Registers. The kernel passes struct bpf_cgroup_dev_ctx in r1, and takes the
// verdict from r0: 1 allows. r3 holds the accesses that are asked for and not
// yet allowed.
const (
	regVerdict, regContext, regType, regAccess, regMajor, regMinor = 0, 1, 2, 3, 4, 5
)

// Compile returns the program that decides as the policy does. The rules are
// tried from the last to the first.
func (p Policy) Compile() Program {
	c := []Insn{
		{Code: opLoad32, Regs: regType | regContext<<4, Off: 0}, // access_type
		{Code: opMovReg, Regs: regAccess | regType<<4},
		{Code: opAnd, Regs: regType, Imm: 0xffff},
		{Code: opShift, Regs: regAccess, Imm: accessBits},
		{Code: opLoad32, Regs: regMajor | regContext<<4, Off: 4},
		{Code: opLoad32, Regs: regMinor | regContext<<4, Off: 8},
	}
	for _, r := range slices.Backward(p.Rules) {
		c = append(c, r.compile()...)
	}
	return Program{append(c, verdict(p.Default)...)}
}

func verdict(allow bool) []Insn {
	v := Insn{Code: opMovImm, Regs: regVerdict}
	if allow {
		v.Imm = 1
	}
	return []Insn{v, {Code: opExit}}
}

// compile returns the instructions of one rule. A rule that does not decide
// jumps behind its last instruction.
func (r Rule) compile() []Insn {
	var c []Insn
	switch r.Type {
	case 'b':
		c = append(c, Insn{Code: opJumpNe, Regs: regType, Imm: typeBlock})
	case 'c':
		c = append(c, Insn{Code: opJumpNe, Regs: regType, Imm: typeChar})
	}
	if r.Major != Any {
		c = append(c, Insn{Code: opJumpNe, Regs: regMajor, Imm: int32(uint32(r.Major))})
	}
	if r.Minor != Any {
		c = append(c, Insn{Code: opJumpNe, Regs: regMinor, Imm: int32(uint32(r.Minor))})
	}
	switch {
	case r.Access == All:
		// Whatever is asked for, the rule is about it.
	case r.Allow:
		c = append(c,
			Insn{Code: opAnd, Regs: regAccess, Imm: int32(All &^ r.Access)},
			Insn{Code: opJumpNe, Regs: regAccess, Imm: 0})
	default:
		c = append(c,
			Insn{Code: opMovReg, Regs: regVerdict | regAccess<<4},
			Insn{Code: opAnd, Regs: regVerdict, Imm: int32(r.Access)},
			Insn{Code: opJumpEq, Regs: regVerdict, Imm: 0})
	}
	c = append(c, verdict(r.Allow)...)
	for i := range c {
		if c[i].Code == opJumpNe || c[i].Code == opJumpEq {
			c[i].Off = int16(len(c) - 1 - i)
		}
	}
	return c
}

// String lists the instructions for a reader, one to a line.
func (p Program) String() string {
	var b strings.Builder
	for i, in := range p.Insns {
		fmt.Fprintf(&b, "%d: code %#02x dst r%d src r%d off %d imm %d\n", i, in.Code, in.Regs&0xf, in.Regs>>4, in.Off, in.Imm)
	}
	return b.String()
}

// attachType is BPF_CGROUP_DEVICE, which is also the program's expected type.
const attachType = unix.BPF_CGROUP_DEVICE

// Attach loads the program and puts it on the cgroup v2 directory dir. It
// replaces the one program that is there, so that it also changes the policy
// of a running container without a gap; it leaves several, which others put
// there, and adds to them. The program stays until the directory goes.
func (p Program) Attach(dir string) error {
	if err := p.attach(dir); err != nil {
		return fmt.Errorf("attach device filter to %s: %w", dir, err)
	}
	return nil
}

func (p Program) attach(dir string) error {
	cgroup, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(cgroup)
	prog, err := p.load()
	if err != nil {
		return err
	}
	defer unix.Close(prog)
	attr := struct {
		target, prog, kind, flags, replace uint32
	}{uint32(cgroup), uint32(prog), attachType, unix.BPF_F_ALLOW_MULTI, 0}
	old, err := attached(cgroup)
	if err != nil {
		return fmt.Errorf("look for a filter: %w", err)
	}
	if old >= 0 {
		defer unix.Close(old)
		attr.flags |= unix.BPF_F_REPLACE
		attr.replace = uint32(old)
	}
	_, err = bpf(unix.BPF_PROG_ATTACH, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	return err
}

// load hands the program to the kernel's verifier.
func (p Program) load() (int, error) {
	license := []byte("Apache-2.0\x00")
	log := make([]byte, 4096)
	// Pinned, none of it can be on a stack, which may move before the call.
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(&p.Insns[0])
	pin.Pin(&license[0])
	pin.Pin(&log[0])
	// The head of union bpf_attr for BPF_PROG_LOAD.
	attr := struct {
		kind, count     uint32
		insns, license  uint64
		logLevel, logSz uint32
		log             uint64
		kernel, flags   uint32
		name            [16]byte
		ifindex, expect uint32
	}{
		kind: unix.BPF_PROG_TYPE_CGROUP_DEVICE, count: uint32(len(p.Insns)),
		insns: address(&p.Insns[0]), license: address(&license[0]), expect: attachType,
	}
	copy(attr.name[:], "lade_devices")
	fd, err := bpf(unix.BPF_PROG_LOAD, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EACCES) {
		// Only a refused program is worth the cost of the verifier's log.
		attr.logLevel, attr.logSz, attr.log = 1, uint32(len(log)), address(&log[0])
		fd, err = bpf(unix.BPF_PROG_LOAD, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	}
	switch {
	case err == nil:
		return fd, nil
	case errors.Is(err, unix.EPERM):
		return -1, errdefs.Hint(fmt.Errorf("load: %w", err), "loading a BPF program needs CAP_BPF or CAP_SYS_ADMIN on the host, and before Linux 5.11 a higher memlock limit")
	}
	return -1, fmt.Errorf("load: %w: %s", err, unix.ByteSliceToString(log))
}

// attached returns a descriptor of the only device program on the cgroup, or
// -1 when there is none or several.
func attached(cgroup int) (int, error) {
	ids := make([]uint32, 64)
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(&ids[0])
	query := struct {
		target, kind, queryFlags, attachFlags uint32
		ids                                   uint64
		count                                 uint32
	}{target: uint32(cgroup), kind: attachType, ids: address(&ids[0]), count: uint32(len(ids))}
	_, err := bpf(unix.BPF_PROG_QUERY, unsafe.Pointer(&query), unsafe.Sizeof(query))
	switch {
	case errors.Is(err, unix.ENOSPC):
		return -1, nil
	case err != nil:
		return -1, err
	case query.count != 1:
		return -1, nil
	}
	byID := struct{ id, next, flags uint32 }{id: ids[0]}
	return bpf(unix.BPF_PROG_GET_FD_BY_ID, unsafe.Pointer(&byID), unsafe.Sizeof(byID))
}

// address returns a pointer as the 64 bits that union bpf_attr wants. The
// caller has it pinned.
func address[T any](p *T) uint64 { return uint64(uintptr(unsafe.Pointer(p))) }

func bpf(cmd uintptr, attr unsafe.Pointer, size uintptr) (int, error) {
	for {
		r, _, errno := unix.Syscall(unix.SYS_BPF, cmd, uintptr(attr), size)
		if errno == 0 {
			return int(r), nil
		}
		// The verifier gives up when a signal is pending.
		if errno != unix.EAGAIN && errno != unix.EINTR {
			return -1, errno
		}
	}
}
