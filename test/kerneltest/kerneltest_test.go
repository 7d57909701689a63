package kerneltest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"lade/test/kerneltest"
)

func TestMain(m *testing.M) {
	kerneltest.Main(m, kerneltest.Options{Net: true, Dirs: []string{os.Getenv("LADE_LEAK_DIR")}})
}

func TestBusyboxRuns(t *testing.T) {
	kerneltest.Root(t)
	cmd := exec.Command("/bin/sh", "-c", "echo $((6*7)); test -d /proc && id -u")
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: kerneltest.Busybox(t)}
	cmd.Dir = "/"
	out, err := cmd.CombinedOutput()
	if err != nil || string(out) != "42\n0\n" {
		t.Fatalf("got %q, %v", out, err)
	}
}

func TestIDsDiffer(t *testing.T) {
	if a, b := kerneltest.ID(t), kerneltest.ID(t); a == b {
		t.Fatalf("both are %q", a)
	}
}

// TestLeaksAreFound runs TestLeak in a second test binary and expects each
// kind of leak in its complaint.
func TestLeaksAreFound(t *testing.T) {
	kerneltest.Root(t)
	for kind, want := range map[string]string{
		"descriptor": "descriptor ", "mount": "mount ", "process": "leaked processes: ",
		"zombie": "process ", "cgroup": "cgroup ", "file": "file ", "none": "",
	} {
		t.Run(kind, func(t *testing.T) {
			cmd := exec.Command("/proc/self/exe", "-test.run=^TestLeak$")
			cmd.Env = append(os.Environ(), "LADE_LEAK="+kind, "LADE_LEAK_DIR="+t.TempDir())
			out, err := cmd.CombinedOutput()
			if (err == nil) != (want == "") || !strings.Contains(string(out), want) {
				t.Fatalf("want %q; got %v and\n%s", want, err, out)
			}
			for line := range strings.Lines(string(out)) {
				if dir, ok := strings.CutPrefix(strings.TrimSpace(line), "cgroup "); ok {
					if err := os.Remove(dir); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
}

// TestLeak leaks on purpose, when TestLeaksAreFound asks for it.
func TestLeak(t *testing.T) {
	var err error
	switch os.Getenv("LADE_LEAK") {
	case "descriptor":
		_, err = syscall.Open("/", syscall.O_RDONLY, 0)
	case "mount":
		err = syscall.Mount("/tmp", "/tmp", "", syscall.MS_BIND, "")
	case "process":
		// The shell goes at once; what it started in the background stays.
		err = exec.Command("/bin/sh", "-c", "sleep 1000 >/dev/null 2>&1 &").Run()
	case "zombie":
		err = exec.Command("/bin/true").Start()
	case "cgroup":
		dirs, _ := filepath.Glob("/sys/fs/cgroup/unified")
		if len(dirs) == 0 {
			dirs = []string{"/sys/fs/cgroup"}
		}
		err = os.Mkdir(filepath.Join(dirs[0], kerneltest.ID(t)), 0o755)
	case "file":
		err = os.WriteFile(filepath.Join(os.Getenv("LADE_LEAK_DIR"), "x"), nil, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
