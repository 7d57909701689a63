package seccomp

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/spec"
	"lade/test/kerneltest"
)

const childEnv = "LADE_SECCOMP_TEST_PROFILE"

func TestMain(m *testing.M) {
	if profile := os.Getenv(childEnv); profile != "" {
		os.Stderr.WriteString(confined(profile).Error())
		os.Exit(125)
	}
	kerneltest.Main(m, kerneltest.Options{})
}

// confined loads a filter into this process and becomes a shell.
func confined(profile string) error {
	var s specs.LinuxSeccomp
	if err := json.Unmarshal([]byte(profile), &s); err != nil {
		return err
	}
	f, err := Compile(&s, Host{})
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	prog := unix.SockFprog{Len: uint16(len(f.Insns)), Filter: &f.Insns[0]}
	_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(f.Flags), uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return errno
	}
	return syscall.Exec("/bin/busybox", append([]string{"sh", "-c"}, os.Args[1:]...), []string{"PATH=/bin"})
}

// TestKernel lets the kernel judge a shell by compiled filters.
func TestKernel(t *testing.T) {
	kerneltest.Root(t)
	tests := []struct {
		name   string
		rule   specs.LinuxSyscall
		script string
		want   string
		signal syscall.Signal
	}{
		{"allowed", specs.LinuxSyscall{Names: []string{"chroot"}, Action: specs.ActErrno}, "busybox mkdir /proc/x; echo here", "can't create directory '/proc/x': No such file or directory\nhere\n", 0},
		{"errno", specs.LinuxSyscall{Names: []string{"mkdir", "mkdirat"}, Action: specs.ActErrno}, "busybox mkdir /proc/x; echo here", "Operation not permitted\nhere\n", 0},
		{"other errno", specs.LinuxSyscall{Names: []string{"mkdir", "mkdirat"}, Action: specs.ActErrno, ErrnoRet: new(uint(unix.EXDEV))}, "busybox mkdir /proc/x; echo here", "Invalid cross-device link\nhere\n", 0},
		{"argument", specs.LinuxSyscall{Names: []string{"kill"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{{Index: 1, Op: specs.OpEqualTo, Value: 10}}}, "kill -12 $$; trap 'echo got' 12; kill -10 $$; kill -12 $$", "", syscall.SIGUSR2},
		{"argument refused", specs.LinuxSyscall{Names: []string{"kill"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{{Index: 1, Op: specs.OpEqualTo, Value: 10}}}, "trap 'echo got' 12; kill -10 $$; kill -12 $$", "Operation not permitted\ngot\n", 0},
		{"kill process", specs.LinuxSyscall{Names: []string{"mkdir", "mkdirat"}, Action: specs.ActKillProcess}, "exec busybox mkdir /proc/x", "", syscall.SIGSYS},
		{"kill thread", specs.LinuxSyscall{Names: []string{"mkdir", "mkdirat"}, Action: specs.ActKill}, "exec busybox mkdir /proc/x", "", syscall.SIGSYS},
		{"trap", specs.LinuxSyscall{Names: []string{"mkdir", "mkdirat"}, Action: specs.ActTrap}, "exec busybox mkdir /proc/x", "", syscall.SIGSYS},
		{"log", specs.LinuxSyscall{Names: []string{"mkdir", "mkdirat"}, Action: specs.ActLog}, "busybox mkdir /proc/x; echo here", "here\n", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			profile, err := json.Marshal(specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Architectures: []specs.Arch{specs.ArchX86, specs.ArchX32}, Syscalls: []specs.LinuxSyscall{tt.rule}})
			if err != nil {
				t.Fatal(err)
			}
			cmd := kerneltest.Command(t, "/proc/self/exe", tt.script)
			cmd.Env = append(os.Environ(), childEnv+"="+string(profile))
			out, err := cmd.CombinedOutput()
			var signal syscall.Signal
			if exit, ok := errors.AsType[*exec.ExitError](err); ok {
				if ws := exit.Sys().(syscall.WaitStatus); ws.Signaled() {
					signal = ws.Signal()
				}
			}
			if signal != tt.signal || !strings.HasSuffix(string(out), tt.want) {
				t.Errorf("got %v and %q; want signal %v and %q", err, out, tt.signal, tt.want)
			}
		})
	}
}

// TestKernelDefaultProfile runs a shell under Docker's filter.
func TestKernelDefaultProfile(t *testing.T) {
	kerneltest.Root(t)
	profile, err := json.Marshal(spec.DefaultSeccomp(spec.Capabilities()))
	if err != nil {
		t.Fatal(err)
	}
	script := `d=$(busybox mktemp -d) && cd $d && echo 1 >a && busybox ln -s a b && busybox cat b && (echo 2 | busybox cat) &&
		busybox rm a b && busybox rmdir $d
		busybox unshare -m true; busybox mount -t tmpfs x /tmp; busybox unshare -U true; busybox sleep 0 & wait; echo end`
	cmd := kerneltest.Command(t, "/proc/self/exe", script)
	cmd.Env = append(os.Environ(), childEnv+"="+string(profile))
	out, err := cmd.CombinedOutput()
	want := "1\n2\nunshare: unshare(0x20000): Operation not permitted\nmount: permission denied (are you root?)\nunshare: unshare(0x10000000): Operation not permitted\nend\n"
	if err != nil || string(out) != want {
		t.Errorf("%v; got %q, want %q", err, out, want)
	}
}
