package devfilter

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"lade/test/kerneltest"
)

func TestMain(m *testing.M) { kerneltest.Main(m, kerneltest.Options{}) }

// TestAttach lets a shell in a cgroup read devices under two policies.
func TestAttach(t *testing.T) {
	kerneltest.Root(t)
	kerneltest.UnifiedOnly(t)
	dir := filepath.Join("/sys/fs/cgroup", kerneltest.ID(t))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	read := func(device string) error {
		cmd := kerneltest.Command(t, "/bin/busybox", "head", "-c1", device)
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(f.Fd())}
		out, err := cmd.CombinedOutput()
		if err != nil && strings.Contains(string(out), "Operation not permitted") {
			return syscall.EPERM
		}
		return err
	}
	check := func(device string, want error) {
		t.Helper()
		if err := read(device); !errors.Is(err, want) {
			t.Errorf("read %s: %v, want %v", device, err, want)
		}
	}
	attach := func(rules ...specs.LinuxDeviceCgroup) {
		t.Helper()
		p, err := Parse(rules)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Compile().Attach(dir); err != nil {
			t.Fatal(err)
		}
	}
	check("/dev/zero", nil)
	check("/dev/urandom", nil)
	attach(Base()...)
	check("/dev/zero", nil)
	check("/dev/loop0", syscall.EPERM)
	attach(append(Base(), rule(false, "c", 1, 5, "r"))...)
	check("/dev/zero", syscall.EPERM)
	check("/dev/urandom", nil)
	attach(rule(true, "a", Any, Any, ""))
	check("/dev/zero", nil)
}

func TestAttachNamesTheDirectory(t *testing.T) {
	err := Policy{}.Compile().Attach("/no/such/cgroup")
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "/no/such/cgroup") {
		t.Fatal(err)
	}
}
