package seccomp

import (
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
)

// arch is a column of the table of system calls.
type arch int

const (
	archAMD64 arch = iota
	archX86
	archX32
	archARM64
	archARM
	archRISCV64
	archCount
)

// call is one line of the table.
type call struct {
	name    string
	numbers [archCount]int32
}

// lookup returns the numbers of a system call, or nil. Every name of a profile
// comes by here while a container starts: hence a table made beforehand.
func lookup(name string) *[archCount]int32 {
	for h := hash(name) % uint32(len(buckets)); buckets[h] != 0; h = (h + 1) % uint32(len(buckets)) {
		if c := &calls[buckets[h]-1]; c.name == name {
			return &c.numbers
		}
	}
	return nil
}

// hash is FNV-1a, with the upper bits folded in.
func hash(name string) uint32 {
	h := uint32(2166136261)
	for i := range len(name) {
		h = (h ^ uint32(name[i])) * 16777619
	}
	return h ^ h>>15
}

// x32Bit is set in the numbers of x32's calls, which share amd64's entry.
const x32Bit = 0x40000000

// base is what is added to the table's numbers in what the kernel passes.
func (a arch) base() uint32 {
	if a == archX32 {
		return x32Bit
	}
	return 0
}

// narrow reports whether arguments have 32 bits.
func (a arch) narrow() bool { return a == archX86 || a == archARM }

// audit is the kernel's name for the entry through which calls come.
func (a arch) audit() uint32 {
	switch a {
	case archX86:
		return unix.AUDIT_ARCH_I386
	case archARM64:
		return unix.AUDIT_ARCH_AARCH64
	case archARM:
		return unix.AUDIT_ARCH_ARM
	case archRISCV64:
		return unix.AUDIT_ARCH_RISCV64
	default:
		return unix.AUDIT_ARCH_X86_64
	}
}

// native returns the architecture that Go calls goarch.
func native(goarch string) (arch, error) {
	switch goarch {
	case "amd64":
		return archAMD64, nil
	case "386":
		return archX86, nil
	case "arm64":
		return archARM64, nil
	case "arm":
		return archARM, nil
	case "riscv64":
		return archRISCV64, nil
	}
	return 0, errdefs.New(errdefs.NotImplemented, "seccomp filters for %s are not made", goarch)
}

// runs reports whether processes of b can run on a kernel for a.
func (a arch) runs(b arch) bool {
	switch a {
	case archAMD64:
		return b == archAMD64 || b == archX86 || b == archX32
	case archARM64:
		return b == archARM64 || b == archARM
	default:
		return a == b
	}
}

// parseArch returns the architecture that a configuration calls name. known is
// false for those that exist and that this package does not compile for.
func parseArch(name specs.Arch) (a arch, known bool, err error) {
	switch name {
	case specs.ArchX86_64:
		return archAMD64, true, nil
	case specs.ArchX86:
		return archX86, true, nil
	case specs.ArchX32:
		return archX32, true, nil
	case specs.ArchAARCH64:
		return archARM64, true, nil
	case specs.ArchARM:
		return archARM, true, nil
	case specs.ArchRISCV64:
		return archRISCV64, true, nil
	case specs.ArchMIPS, specs.ArchMIPS64, specs.ArchMIPS64N32, specs.ArchMIPSEL, specs.ArchMIPSEL64, specs.ArchMIPSEL64N32,
		specs.ArchPPC, specs.ArchPPC64, specs.ArchPPC64LE, specs.ArchS390, specs.ArchS390X, specs.ArchPARISC, specs.ArchPARISC64,
		specs.ArchLOONGARCH64, specs.ArchM68K, specs.ArchSH, specs.ArchSHEB:
		return 0, false, nil
	}
	return 0, false, errdefs.New(errdefs.Invalid, "seccomp architecture %q is not known", name)
}

// multiplexed returns the x86 call through which name can also be made, and
// the number that its first argument then holds.
func multiplexed(name string) (through string, number uint32) {
	switch i := slices.Index(socketCalls[:], name); {
	case i >= 0:
		return "socketcall", uint32(i) + 1
	}
	for n, s := range ipcCalls {
		if s == name {
			return "ipc", uint32(n)
		}
	}
	return "", 0
}

// socketCalls are the calls behind socketcall, by number from 1.
var socketCalls = [...]string{
	"socket", "bind", "connect", "listen", "accept", "getsockname", "getpeername", "socketpair", "send", "recv",
	"sendto", "recvfrom", "shutdown", "setsockopt", "getsockopt", "sendmsg", "recvmsg", "accept4", "recvmmsg", "sendmmsg",
}

// ipcCalls are the calls behind ipc, by number.
var ipcCalls = [...]string{
	1: "semop", 2: "semget", 3: "semctl", 4: "semtimedop",
	11: "msgsnd", 12: "msgrcv", 13: "msgget", 14: "msgctl",
	21: "shmat", 22: "shmdt", 23: "shmget", 24: "shmctl",
}
