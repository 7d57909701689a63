package seccomp

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
)

// check compares filter and naive evaluation over all numbers that matter and
// arguments around all values that the configuration names.
func check(t *testing.T, s *specs.LinuxSeccomp, goarch string) {
	t.Helper()
	f, err := Compile(s, Host{GOARCH: goarch})
	if err != nil {
		t.Fatal(err)
	}
	if f == nil {
		return
	}
	values := []uint64{0, 1, 1 << 32, ^uint64(0)}
	interesting := map[string][]specs.LinuxSeccompArg{}
	for _, c := range s.Syscalls {
		for _, a := range c.Args {
			values = append(values, a.Value, a.Value-1, a.Value+1, a.ValueTwo, a.Value|a.ValueTwo, a.Value^1<<40, a.Value&0xffffffff|1<<32)
		}
		for _, n := range c.Names {
			interesting[n] = append(interesting[n], c.Args...)
		}
	}
	slices.Sort(values)
	values = slices.Compact(values)
	random := rand.New(rand.NewPCG(1, 2))
	own, _ := native(goarch)
	for a := range archCount {
		if !own.runs(a) {
			continue // below, one such entry stands for all
		}
		numbers := []uint32{a.base() + 500, a.base() + 1000, 0x3fffffff, 0x40000000, 0x7fffffff, 0xfffffffe, 0xffffffff, armPrivate - 1, armPrivate + 9}
		withArgs := map[uint32]bool{}
		for _, c := range calls {
			if c.numbers[a] < 0 {
				continue
			}
			n := a.base() + uint32(c.numbers[a])
			numbers = append(numbers, n, n+1)
			if len(interesting[c.name]) > 0 || c.name == "ipc" || c.name == "socketcall" {
				withArgs[n] = true
			}
		}
		slices.Sort(numbers)
		for _, n := range slices.Compact(numbers) {
			rounds := 1
			if withArgs[n] {
				rounds = min(4*len(values), 40)
			}
			for range rounds {
				d := data{number: n, arch: a.audit()}
				for j := range d.args {
					d.args[j] = values[random.IntN(len(values))]
				}
				want := naive(s, goarch, d)
				got, _, err := interpret(f.Insns, d)
				if err != nil || got != want {
					t.Fatalf("%s, column %d, number %#x, args %#x: got %#x (%v), want %#x", goarch, a, n, d.args, got, err, want)
				}
			}
		}
	}
	if got, _, _ := interpret(f.Insns, data{arch: unix.AUDIT_ARCH_S390X}); got != unix.SECCOMP_RET_KILL_THREAD {
		t.Errorf("foreign entry: %#x", got)
	}
}

var machines = []string{"amd64", "386", "arm64", "arm", "riscv64"}

func TestCompile(t *testing.T) {
	all := []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32, specs.ArchAARCH64, specs.ArchARM, specs.ArchRISCV64, specs.ArchS390X}
	allow := func(names ...string) specs.LinuxSyscall {
		return specs.LinuxSyscall{Names: names, Action: specs.ActAllow}
	}
	var many []specs.LinuxSyscall
	for i, c := range calls {
		if i%2 != 0 {
			many = append(many, specs.LinuxSyscall{Names: []string{c.name}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Index: uint(i % 6), Op: specs.OpMaskedEqual, Value: uint64(i) << 20, ValueTwo: 1 << 20}}})
		}
	}
	tests := map[string]*specs.LinuxSeccomp{
		"allow list":                  {DefaultAction: specs.ActErrno, Architectures: all, Syscalls: []specs.LinuxSyscall{allow("read", "write", "openat", "exit", "no_such_call", "socket", "semop")}},
		"deny list":                   {DefaultAction: specs.ActAllow, Architectures: all, Syscalls: []specs.LinuxSyscall{{Names: []string{"mount", "socket", "shmat", "clone3"}, Action: specs.ActErrno, ErrnoRet: new(uint(38))}}},
		"no rules":                    {DefaultAction: specs.ActKillProcess, Architectures: all},
		"own architecture only":       {DefaultAction: specs.ActErrno, DefaultErrnoRet: new(uint(22)), Syscalls: []specs.LinuxSyscall{allow("getpid")}},
		"every action":                {DefaultAction: specs.ActTrap, Architectures: all, Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActTrace, ErrnoRet: new(uint(7))}, {Names: []string{"openat"}, Action: specs.ActLog}, {Names: []string{"close"}, Action: specs.ActKill}, {Names: []string{"dup"}, Action: specs.ActKillThread}, {Names: []string{"dup3"}, Action: specs.ActNotify}}},
		"unconditional wins":          {DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{{Names: []string{"kill"}, Action: specs.ActKill, Args: []specs.LinuxSeccompArg{{Index: 1, Op: specs.OpEqualTo, Value: 9}}}, allow("kill"), {Names: []string{"kill"}, Action: specs.ActLog}}},
		"any on the same argument":    {DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{{Names: []string{"prctl"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Index: 0, Op: specs.OpEqualTo, Value: 1}, {Index: 0, Op: specs.OpEqualTo, Value: 2}, {Index: 1, Op: specs.OpGreaterThan, Value: 1 << 33}}}}},
		"every operator":              {DefaultAction: specs.ActErrno, Architectures: all, Syscalls: operators()},
		"conditions on all arguments": {DefaultAction: specs.ActErrno, Architectures: all, Syscalls: []specs.LinuxSyscall{{Names: []string{"mmap"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Index: 0, Op: specs.OpEqualTo}, {Index: 1, Op: specs.OpNotEqual, Value: 1}, {Index: 2, Op: specs.OpLessEqual, Value: 1 << 32}, {Index: 5, Op: specs.OpGreaterEqual, Value: 1<<40 + 5}}}}},
		"long jumps":                  {DefaultAction: specs.ActErrno, Syscalls: many},
	}
	for name, s := range tests {
		for _, m := range machines {
			t.Run(name+"/"+m, func(t *testing.T) { check(t, s, m) })
		}
	}
}

// operators makes rules with every operator for different calls.
func operators() []specs.LinuxSyscall {
	var out []specs.LinuxSyscall
	names := []string{"ioctl", "fcntl", "prctl", "personality", "madvise", "mprotect", "kill"}
	ops := []specs.LinuxSeccompOperator{specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpEqualTo, specs.OpGreaterEqual, specs.OpGreaterThan, specs.OpMaskedEqual}
	for i, op := range ops {
		for j, v := range []uint64{0, 5, 0xffffffff, 1 << 32, 1<<32 + 5, ^uint64(0)} {
			a := specs.ActAllow
			if j%2 == 1 {
				a = specs.ActLog
			}
			out = append(out, specs.LinuxSyscall{Names: []string{names[(i+j)%len(names)]}, Action: a, Args: []specs.LinuxSeccompArg{{Index: uint(j), Op: op, Value: v, ValueTwo: v & 4}}})
		}
	}
	return out
}

func TestRefuses(t *testing.T) {
	call := func(c specs.LinuxSyscall) *specs.LinuxSeccomp {
		return &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{c}}
	}
	tests := map[string]*specs.LinuxSeccomp{
		`default action: action "x" is not known`: {DefaultAction: "x"},
		"as default action":                       {DefaultAction: specs.ActNotify},
		`architecture "SCMP_ARCH_Z80"`:            {DefaultAction: specs.ActErrno, Architectures: []specs.Arch{"SCMP_ARCH_Z80"}},
		`flag "X"`:                                {DefaultAction: specs.ActErrno, Flags: []specs.LinuxSeccompFlag{"X"}},
		`rule 0: action ""`:                       call(specs.LinuxSyscall{Names: []string{"read"}}),
		"empty string is not a valid syscall":     call(specs.LinuxSyscall{Names: []string{""}, Action: specs.ActAllow}),
		"write syscall":                           call(specs.LinuxSyscall{Names: []string{"write"}, Action: specs.ActNotify}),
		"argument 6":                              call(specs.LinuxSyscall{Names: []string{"read"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Index: 6, Op: specs.OpEqualTo}}}),
		`operator "=="`:                           call(specs.LinuxSyscall{Names: []string{"read"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Op: "=="}}}),
		"errnoRet 5000":                           call(specs.LinuxSyscall{Names: []string{"read"}, Action: specs.ActErrno, ErrnoRet: new(uint(5000))}),
	}
	for want, s := range tests {
		if _, err := Compile(s, Host{}); !errdefs.Is(err, errdefs.Invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v; want class invalid and %q", err, want)
		}
	}
	if _, err := Compile(&specs.LinuxSeccomp{DefaultAction: specs.ActAllow}, Host{GOARCH: "s390x"}); !errdefs.Is(err, errdefs.NotImplemented) {
		t.Errorf("s390x: %v", err)
	}
	big := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno}
	for i := range 2000 {
		big.Syscalls = append(big.Syscalls, specs.LinuxSyscall{Names: []string{"read"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Op: specs.OpEqualTo, Value: uint64(i) << 30}}})
	}
	if _, err := Compile(big, Host{}); !errdefs.Is(err, errdefs.Invalid) || !strings.Contains(err.Error(), "4096") {
		t.Errorf("too many rules: %v", err)
	}
}

func TestFlags(t *testing.T) {
	notify := []specs.LinuxSyscall{{Names: []string{"mount"}, Action: specs.ActNotify}}
	tests := []struct {
		s    specs.LinuxSeccomp
		want uint
	}{
		{specs.LinuxSeccomp{}, unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW},
		{specs.LinuxSeccomp{Flags: []specs.LinuxSeccompFlag{}}, 0},
		{specs.LinuxSeccomp{Flags: []specs.LinuxSeccompFlag{"SECCOMP_FILTER_FLAG_TSYNC", specs.LinuxSeccompFlagLog, specs.LinuxSeccompFlagWaitKillableRecv}}, unix.SECCOMP_FILTER_FLAG_LOG},
		{specs.LinuxSeccomp{Syscalls: notify, Flags: []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagWaitKillableRecv}}, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV},
	}
	for _, tt := range tests {
		tt.s.DefaultAction = specs.ActAllow
		f, err := Compile(&tt.s, Host{})
		if err != nil || f.Flags != tt.want || f.Notify != (len(tt.s.Syscalls) > 0) {
			t.Errorf("%+v: got %+v, %v; want %#x", tt.s, f, err, tt.want)
		}
	}
	for _, none := range []*specs.LinuxSeccomp{nil, {}} {
		if f, err := Compile(none, Host{}); f != nil || err != nil {
			t.Errorf("nothing asked: %v, %v", f, err)
		}
	}
}

// TestFeaturesHold: what is said to be known compiles.
func TestFeaturesHold(t *testing.T) {
	s := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Architectures: Architectures(), Flags: Flags()}
	for i, a := range Actions() {
		s.Syscalls = append(s.Syscalls, specs.LinuxSyscall{Names: []string{calls[i+20].name}, Action: a})
	}
	for i, op := range Operators() {
		s.Syscalls = append(s.Syscalls, specs.LinuxSyscall{Names: []string{calls[i+60].name}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Op: op}}})
	}
	for _, m := range machines {
		check(t, s, m)
	}
}

// TestFilterAsText keeps a small filter readable, and as it is.
func TestFilterAsText(t *testing.T) {
	s := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{
		{Names: []string{"read", "write", "open"}, Action: specs.ActAllow},
		{Names: []string{"personality"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Op: specs.OpEqualTo, Value: 8}}},
	}}
	f, err := Compile(s, Host{GOARCH: "amd64"})
	if err != nil {
		t.Fatal(err)
	}
	want := `0 ld 4
1 jeq 0xc000003e 0 13
2 ld 0
3 jge 0x88 7 0
4 jge 0x3 0 5
5 jge 0x87 0 8
6 ld 20
7 jeq 0x0 0 6
8 ld 16
9 jeq 0x8 0 4
10 ret 0x7fff0000
11 jge 0x40000000 1 0
12 ret 0x50026
13 jge 0xffffffff 0 1
14 ret 0x50001
15 ret 0x0
`
	if diff := cmp.Diff(want, text(f.Insns)); diff != "" {
		t.Error(diff)
	}
	check(t, s, "amd64")
}

func text(insns []unix.SockFilter) string {
	var b strings.Builder
	for i, in := range insns {
		switch in.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			fmt.Fprintf(&b, "%d ld %d\n", i, in.K)
		case unix.BPF_RET | unix.BPF_K:
			fmt.Fprintf(&b, "%d ret %#x\n", i, in.K)
		case unix.BPF_JMP | unix.BPF_JA:
			fmt.Fprintf(&b, "%d ja %d\n", i, in.K)
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			fmt.Fprintf(&b, "%d and %#x\n", i, in.K)
		default:
			op := map[uint16]string{unix.BPF_JEQ: "jeq", unix.BPF_JGT: "jgt", unix.BPF_JGE: "jge"}[in.Code&0xf0]
			fmt.Fprintf(&b, "%d %s %#x %d %d\n", i, op, in.K, in.Jt, in.Jf)
		}
	}
	return b.String()
}

func TestDeterministic(t *testing.T) {
	s := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: operators()}
	a, _ := Compile(s, Host{})
	b, _ := Compile(s, Host{})
	if diff := cmp.Diff(a, b); diff != "" {
		t.Error(diff)
	}
}

// FuzzCompile feeds configurations as JSON; whatever compiles must decide as
// the naive evaluation does.
func FuzzCompile(f *testing.F) {
	for _, s := range []specs.LinuxSeccomp{
		{DefaultAction: specs.ActErrno, Architectures: []specs.Arch{specs.ArchX86, specs.ArchX32}, Syscalls: operators()},
		{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"socket", "ipc", "semop"}, Action: specs.ActErrno, ErrnoRet: new(uint(5))}}},
	} {
		b, err := json.Marshal(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var s specs.LinuxSeccomp
		if json.Unmarshal(b, &s) != nil {
			return
		}
		for _, m := range machines {
			if fl, err := Compile(&s, Host{GOARCH: m}); err == nil && fl != nil {
				check(t, &s, m)
			}
		}
	})
}
