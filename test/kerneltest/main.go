package kerneltest

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Options says what Main isolates and looks after, beyond what it always does.
type Options struct {
	// Net runs the tests in a network namespace of their own in which only lo
	// exists, and is up. Every other link found at the end is a leak.
	Net bool
	// Dirs are directories that must hold the same names after the tests as
	// before; one that does not exist counts as empty.
	Dirs []string
}

// inside marks the process that runs the tests, in its own namespaces.
const inside = "LADE_KERNELTEST_INSIDE"

// grace is how long an orphan may take to die by itself.
const grace = 3 * time.Second

// prSetChildSubreaper is PR_SET_CHILD_SUBREAPER, which package syscall lacks.
const prSetChildSubreaper = 36

// Main runs the tests of m and exits. It stands alone in TestMain.
func Main(m *testing.M, o Options) {
	flag.Parse()
	switch {
	case os.Geteuid() != 0 || fuzzing():
		os.Exit(m.Run())
	case os.Getenv(inside) != "":
		os.Exit(runInside(m, o))
	}
	code, err := runOutside(o)
	if err != nil {
		fmt.Fprintf(os.Stderr, "kerneltest: %v\n", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// fuzzing reports whether go test -fuzz started the binary: its coordinator
// and workers talk through inherited descriptors, and run in place.
func fuzzing() bool {
	return slices.ContainsFunc(os.Args, func(a string) bool {
		return strings.HasPrefix(a, "-test.fuzz=") || strings.HasPrefix(a, "-test.fuzzworker")
	})
}

// runOutside starts the binary again in its namespaces, adopts and reaps what
// becomes an orphan below it, and complains about processes that remain.
func runOutside(o Options) (int, error) {
	// The parent-death signal goes by thread, so this one must stay.
	runtime.LockOSThread()
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prSetChildSubreaper, 1, 0); errno != 0 {
		return 1, fmt.Errorf("become a subreaper: %w", errno)
	}
	// Before the child starts, or its end could be missed.
	signals := make(chan os.Signal, 64)
	signal.Notify(signals, syscall.SIGCHLD, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT)

	flags := syscall.CLONE_NEWNS
	if o.Net {
		flags |= syscall.CLONE_NEWNET
	}
	p, err := os.StartProcess("/proc/self/exe", os.Args, &os.ProcAttr{
		Env:   append(os.Environ(), inside+"=1"),
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
		Sys:   &syscall.SysProcAttr{Cloneflags: uintptr(flags), Pdeathsig: syscall.SIGKILL},
	})
	if err != nil {
		return 1, fmt.Errorf("start the tests in their namespaces: %w", err)
	}
	code, running := 1, true
	var end <-chan time.Time
	for {
		for {
			var status syscall.WaitStatus
			pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
			if err == syscall.EINTR {
				continue
			}
			if pid == p.Pid {
				code, running, end = exitCode(status), false, time.After(grace)
			}
			if pid <= 0 {
				break
			}
		}
		left := children()
		if !running && len(left) == 0 {
			return code, nil
		}
		select {
		case s := <-signals:
			if sig, ok := s.(syscall.Signal); ok && sig != syscall.SIGCHLD && running {
				_ = syscall.Kill(p.Pid, sig)
			}
		case <-end:
			return code, killLeft(left)
		}
	}
}

func exitCode(s syscall.WaitStatus) int {
	if s.Signaled() {
		return 128 + int(s.Signal())
	}
	return s.ExitStatus()
}

// killLeft ends the processes that the tests left, and names them.
func killLeft(pids []int) error {
	var names []string
	for _, pid := range pids {
		cmd, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		names = append(names, fmt.Sprintf("%d (%s)", pid, strings.TrimSpace(strings.ReplaceAll(string(cmd), "\x00", " "))))
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	return fmt.Errorf("leaked processes: %s", strings.Join(names, ", "))
}

// children returns the children of this process, zombies included.
func children() []int {
	var pids []int
	tasks, _ := os.ReadDir("/proc/self/task")
	for _, t := range tasks {
		b, _ := os.ReadFile("/proc/self/task/" + t.Name() + "/children")
		for f := range strings.FieldsSeq(string(b)) {
			if pid, err := strconv.Atoi(f); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// runInside runs the tests and compares the kernel's state before and after.
func runInside(m *testing.M, o Options) int {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		fmt.Fprintf(os.Stderr, "kerneltest: make / private: %v\n", err)
		return 1
	}
	if o.Net {
		if err := loopbackUp(); err != nil {
			fmt.Fprintf(os.Stderr, "kerneltest: %v\n", err)
			return 1
		}
	}
	// Children of the tests that use kerneltest themselves start afresh.
	_ = os.Unsetenv(inside)
	before := look(o)
	code := m.Run()
	if leaks := look(o).minus(before); len(leaks) > 0 {
		fmt.Fprintf(os.Stderr, "kerneltest: the tests left behind:\n\t%s\n", strings.Join(leaks, "\n\t"))
		code = max(code, 1)
	}
	return code
}
