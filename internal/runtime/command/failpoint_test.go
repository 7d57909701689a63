package command_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lade/internal/runtime/container"
	"lade/internal/runtime/plan/step"
	"lade/internal/runtime/program"
	"lade/test/kerneltest"
)

// A race is won at one point: after a path has been resolved, and before what
// was found is used. There the test binary as runtime stops, with these
// variables set: the path, and a directory of the host with two named pipes.
// The steps that stop it stand in its program, like any others, so that the
// runtime itself knows nothing of this.
const (
	pauseAt = "LADE_TEST_PAUSE_AT"
	pauseIn = "LADE_TEST_PAUSE_IN"
)

// paused adds the pause to a mutation.
func paused(m container.Mutation) container.Mutation {
	name := os.Getenv(pauseAt)
	if name == "" {
		return m
	}
	first := m.Program
	m.Program = func(p *program.Program) {
		if first != nil {
			first(p)
		}
		p.Child = withPause(p.Child, name, os.Getenv(pauseIn))
	}
	return m
}

// withPause stops wherever a name has been resolved: says so in one pipe, by
// opening it, and waits until somebody opens the other.
func withPause(list []program.Step, name, dir string) []program.Step {
	var out []program.Step
	for _, s := range list {
		s.Then, s.Else = withPause(s.Then, name, dir), withPause(s.Else, name, dir)
		out = append(out, s)
		if s.Call != "openat2" || s.Args[1].S != name {
			continue
		}
		out = append(out, openPipe(filepath.Join(dir, "reached"), unix.O_WRONLY), step.Close("pipe"))
		out = append(out, openPipe(filepath.Join(dir, "go"), unix.O_RDONLY), step.Close("pipe"))
	}
	return out
}

func openPipe(path string, flags int) program.Step {
	return program.Step{Call: "openat", Yield: "pipe", Args: []program.Arg{
		program.CWD(), program.String(path), program.Int(flags | unix.O_CLOEXEC), program.Int(0),
	}}
}

// byName uses what was resolved under a name by that name again.
func byName(name string) container.Mutation {
	var change func(list []program.Step)
	change = func(list []program.Step) {
		i := slices.IndexFunc(list, func(s program.Step) bool { return s.Call == "openat2" && s.Args[1].S == name })
		for k := range list {
			s := &list[k]
			change(s.Then)
			change(s.Else)
			switch {
			case i < 0 || k < i:
			case s.Call == "mkdirat" && s.Args[0].S == string(list[i].Yield):
				s.Args[0], s.Args[1] = program.FD("root"), program.String(name+"/"+s.Args[1].S)
			case s.Call == "move_mount" && s.Args[2].S == string(list[i].Yield):
				s.Args[2], s.Args[3] = program.FD("root"), program.String(name)
				s.Args[4] = program.Int(unix.MOVE_MOUNT_F_EMPTY_PATH | unix.MOVE_MOUNT_T_SYMLINKS)
				return
			}
		}
	}
	return container.Mutation{Program: func(p *program.Program) { change(p.Child) }}
}

// tryPaused is try, with something done while the runtime has resolved name
// and not used it yet.
func (m *machine) tryPaused(name, script string, do func() error) (string, error) {
	m.t.Helper()
	dir := m.t.TempDir()
	reached, proceed := filepath.Join(dir, "reached"), filepath.Join(dir, "go")
	if err := errors.Join(unix.Mkfifo(reached, 0o600), unix.Mkfifo(proceed, 0o600)); err != nil {
		m.t.Fatal(err)
	}
	m.env = append(m.env, pauseAt+"="+name, pauseIn+"="+dir)
	fd, err := unix.Open(reached, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		m.t.Fatal(err)
	}
	defer unix.Close(fd)
	done := make(chan error, 1)
	go func() {
		// Hung up: somebody had it open for writing.
		p := []unix.PollFd{{Fd: int32(fd)}}
		n, err := unix.Poll(p, int(kerneltest.Patience.Milliseconds()/2))
		for errors.Is(err, unix.EINTR) {
			n, err = unix.Poll(p, int(kerneltest.Patience.Milliseconds()/2))
		}
		if n != 1 {
			done <- errors.Join(errors.New("the runtime does not come to the point"), err)
			return
		}
		err = do()
		// For both: it waits for nobody.
		g, err2 := os.OpenFile(proceed, os.O_RDWR, 0)
		m.t.Cleanup(func() { _ = g.Close() })
		done <- errors.Join(err, err2)
	}()
	out, err := m.try(script)
	if err := <-done; err != nil {
		m.t.Fatalf("%v; it said %q", err, out)
	}
	return out, err
}

// swapped makes the directory mnt/a and the link mnt/b to the host, and returns
// what exchanges them.
func (m *machine) swapped(canary string) func() error {
	m.t.Helper()
	m.link("mnt/b", canary)
	a, b := filepath.Join(m.rootfs, "mnt/a"), filepath.Join(m.rootfs, "mnt/b")
	if err := os.Mkdir(a, 0o755); err != nil {
		m.t.Fatal(err)
	}
	return func() error { return unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE) }
}

func mountOnSwapped(t *testing.T, m *machine, canary string) string {
	t.Helper()
	swap := m.swapped(canary)
	m.tmpfs("/mnt/a")
	out, err := m.tryPaused("mnt/a", "cat /proc/self/mountinfo", swap)
	if err != nil {
		t.Errorf("the mount on the directory that was found fails: %s", out)
	} else if !strings.Contains(out, " /mnt/b ") { // its name by now
		return "the mount is not in the root"
	}
	return ""
}

func makeInSwapped(t *testing.T, m *machine, canary string) string {
	t.Helper()
	swap := m.swapped(canary)
	m.tmpfs("/mnt/a/new")
	_, _ = m.tryPaused("mnt/a", "true", swap)
	_, inside := os.Stat(filepath.Join(m.rootfs, "mnt/b/new"))
	if _, err := os.Stat(filepath.Join(canary, "new")); inside != nil && err != nil {
		t.Errorf("nothing was made in the directory that was found: %v", inside)
	}
	return "" // what is made in the canary is found by the test
}
