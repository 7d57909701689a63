package kerneltest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// Root skips the test unless it runs as root.
func Root(tb testing.TB) {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Skip("needs root")
	}
}

// Feature ends the test when err, the outcome of a probe, says that the kernel
// lacks a feature: by a skip where the kernel is older than major.minor, which
// brought it, and as a failure where it is not. No hole hides behind a skip.
func Feature(tb testing.TB, name string, major, minor int, err error) {
	tb.Helper()
	if err == nil {
		return
	}
	haveMajor, haveMinor := kernel(tb)
	if haveMajor < major || haveMajor == major && haveMinor < minor {
		tb.Skipf("%s needs Linux %d.%d, this is %d.%d: %v", name, major, minor, haveMajor, haveMinor, err)
	}
	tb.Fatalf("%s is in Linux since %d.%d, but not in this %d.%d: %v", name, major, minor, haveMajor, haveMinor, err)
}

func kernel(tb testing.TB) (major, minor int) {
	tb.Helper()
	b, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err == nil {
		_, err = fmt.Sscanf(string(b), "%d.%d", &major, &minor)
	}
	if err != nil {
		tb.Fatalf("read the kernel's version: %v", err)
	}
	return major, minor
}

// prefix begins every name from ID; the process id sets this binary apart.
func prefix() string { return fmt.Sprintf("ladetest%d-", os.Getpid()) }

var ids atomic.Int64 // numbers names within this test binary

// ID returns a name for a container or a cgroup that no other test has.
func ID(tb testing.TB) string {
	tb.Helper()
	return fmt.Sprintf("%s%d", prefix(), ids.Add(1))
}

// UnifiedOnly makes this machine look for the rest of the test as if it had
// nothing but cgroup v2: on one with a hybrid layout, the unified hierarchy is
// bound over /sys/fs/cgroup in the mount namespace of the test binary. The
// controllers that v1 holds stay away. It needs Main.
func UnifiedOnly(tb testing.TB) {
	tb.Helper()
	const root, unified = "/sys/fs/cgroup", "/sys/fs/cgroup/unified"
	if _, err := os.Stat(root + "/cgroup.procs"); err == nil {
		return
	}
	if err := syscall.Mount(unified, root, "", syscall.MS_BIND, ""); err != nil {
		tb.Fatalf("bind %s over %s: %v", unified, root, err)
	}
	before := subtree(tb)
	tb.Cleanup(func() {
		// Whoever makes cgroups in a v2 tree hands controllers down in it. Here
		// that would keep them from v1, where others look for them.
		for _, c := range subtree(tb) {
			if !slices.Contains(before, c) {
				must(tb, os.WriteFile(root+"/cgroup.subtree_control", []byte("-"+c), 0))
			}
		}
		if err := syscall.Unmount(root, syscall.MNT_DETACH); err != nil {
			tb.Errorf("unmount %s: %v", root, err)
		}
	})
}

// subtree returns the controllers that the root of the v2 tree hands down.
func subtree(tb testing.TB) []string {
	tb.Helper()
	b, err := os.ReadFile("/sys/fs/cgroup/cgroup.subtree_control")
	must(tb, err)
	return strings.Fields(string(b))
}

// Busybox makes a root file system in which a container can run: a static
// busybox with all its applets in /bin, and the usual directories. It returns
// its path; the directory goes when the test ends.
func Busybox(tb testing.TB) string {
	tb.Helper()
	const program = "/bin/busybox"
	applets, err := exec.CommandContext(tb.Context(), program, "--list").Output()
	if err != nil {
		tb.Fatalf("list busybox's applets (apt-get install busybox-static): %v", err)
	}
	root := filepath.Join(tb.TempDir(), "rootfs")
	for _, d := range []string{"bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "usr/bin", "var"} {
		must(tb, os.MkdirAll(filepath.Join(root, d), 0o755))
	}
	must(tb, os.Chmod(filepath.Join(root, "tmp"), 0o1777|os.ModeSticky))
	b, err := os.ReadFile(program)
	must(tb, err)
	must(tb, os.WriteFile(filepath.Join(root, "bin/busybox"), b, 0o755))
	for a := range strings.FieldsSeq(string(applets)) {
		if a != "busybox" {
			must(tb, os.Symlink("busybox", filepath.Join(root, "bin", a)))
		}
	}
	for name, text := range map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
		"etc/group":  "root:x:0:\nnogroup:x:65534:\n",
	} {
		must(tb, os.WriteFile(filepath.Join(root, name), []byte(text), 0o644))
	}
	return root
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
