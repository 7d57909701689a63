package seccomp

import (
	"testing"

	"golang.org/x/sys/unix"

	"lade/internal/spec"
)

// TestDefaultProfile checks Docker's profile, over all numbers, and its cost.
func TestDefaultProfile(t *testing.T) {
	for _, m := range machines {
		t.Run(m, func(t *testing.T) {
			for _, caps := range [][]string{spec.Capabilities(), nil, {"CAP_SYS_ADMIN", "CAP_BPF"}} {
				check(t, spec.DefaultSeccompFor(caps, m), m)
			}
		})
	}
	f, err := Compile(spec.DefaultSeccompFor(spec.Capabilities(), "amd64"), Host{GOARCH: "amd64"})
	if err != nil {
		t.Fatal(err)
	}
	total, most, calls := 0, 0, 0
	for n := range uint32(470) {
		_, steps, err := interpret(f.Insns, data{number: n, arch: unix.AUDIT_ARCH_X86_64})
		if err != nil {
			t.Fatal(err)
		}
		total, most, calls = total+steps, max(most, steps), calls+1
	}
	mean := float64(total) / float64(calls)
	t.Logf("%d instructions; a call costs %.1f of them on average, %d at most", len(f.Insns), mean, most)
	if mean > 13 || most > 40 || len(f.Insns) > 1500 {
		t.Errorf("the filter has become slow")
	}
}

// TestDefaultProfileDecides names what matters most.
func TestDefaultProfileDecides(t *testing.T) {
	f, err := Compile(spec.DefaultSeccompFor(spec.Capabilities(), "amd64"), Host{GOARCH: "amd64"})
	if err != nil {
		t.Fatal(err)
	}
	const allow, eperm, enosys = uint32(unix.SECCOMP_RET_ALLOW), unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM), unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	call := func(name string, args ...uint64) data {
		d := data{number: uint32(lookup(name)[archAMD64]), arch: unix.AUDIT_ARCH_X86_64}
		copy(d.args[:], args)
		return d
	}
	tests := []struct {
		name string
		d    data
		want uint32
	}{
		{"read", call("read"), allow},
		{"mount", call("mount"), eperm},
		{"a thread", call("clone", unix.CLONE_VM|unix.CLONE_THREAD), allow},
		{"a user namespace", call("clone", unix.CLONE_NEWUSER|uint64(unix.SIGCHLD)), eperm},
		{"clone3", call("clone3"), enosys},
		{"a call of the future", data{number: 600, arch: unix.AUDIT_ARCH_X86_64}, enosys},
		{"io_uring_setup", call("io_uring_setup"), eperm},
		{"TCP", call("socket", unix.AF_INET), allow},
		{"netlink", call("socket", unix.AF_NETLINK), allow},
		{"AF_ALG", call("socket", unix.AF_ALG), eperm},
		{"AF_VSOCK", call("socket", unix.AF_VSOCK), eperm},
		{"AF_ALG, as the kernel reads it", call("socket", 1<<32|unix.AF_ALG), eperm},
		{"AF_XDP", call("socket", unix.AF_XDP), allow},
		{"which personality", call("personality", 0xffffffff), allow},
		{"no random addresses", call("personality", 0x0040000), eperm},
		{"x32 write", data{number: x32Bit + 1, arch: unix.AUDIT_ARCH_X86_64}, allow},
		{"x86 mount", data{number: 21, arch: unix.AUDIT_ARCH_I386}, eperm},
		{"an ARM call", data{number: 1, arch: unix.AUDIT_ARCH_ARM}, unix.SECCOMP_RET_KILL_THREAD},
	}
	for _, tt := range tests {
		if got, _, err := interpret(f.Insns, tt.d); got != tt.want || err != nil {
			t.Errorf("%s: got %#x, %v; want %#x", tt.name, got, err, tt.want)
		}
	}
}

func BenchmarkCompileDefault(b *testing.B) {
	s := spec.DefaultSeccomp(spec.Capabilities())
	for b.Loop() {
		if _, err := Compile(s, Host{}); err != nil {
			b.Fatal(err)
		}
	}
}
