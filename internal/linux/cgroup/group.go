package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
)

// Dir is a container's cgroup in one hierarchy.
type Dir struct {
	Path        string   `json:"path"`
	V2          bool     `json:"v2,omitempty"`
	Controllers []string `json:"controllers,omitempty"`
}

// Group is a container's cgroups. It is a plain value, kept with the
// container's state; the kernel's view may have changed since it was made.
type Group struct {
	Dirs []Dir `json:"dirs"`
	// Unit is the unit of systemd that they are, if it made them, and User
	// whether it is a user's systemd.
	Unit string `json:"unit,omitempty"`
	User bool   `json:"user,omitempty"`
}

// Unified returns the group's v2 directory, or "". A process can be born in
// it (CLONE_INTO_CGROUP), which is cheaper than moving there.
func (g Group) Unified() string {
	for _, d := range g.Dirs {
		if d.V2 {
			return d.Path
		}
	}
	return ""
}

// Paths returns the directory of each v1 controller, and that of v2 under "",
// as programs that parse a runtime's state expect them.
func (g Group) Paths() map[string]string {
	m := map[string]string{}
	for _, d := range g.Dirs {
		if d.V2 {
			m[""] = d.Path
			continue
		}
		for _, c := range d.Controllers {
			m[c] = d.Path
		}
	}
	return m
}

// Join moves process pid into the group, except into those directories that
// are named in already.
func (g Group) Join(pid int, already ...string) error {
	for _, d := range g.Dirs {
		if slices.Contains(already, d.Path) {
			continue
		}
		err := writeFile(d.Path+"/cgroup.procs", strconv.Itoa(pid))
		// A real-time process is refused where its class has no time.
		if errors.Is(err, unix.EINVAL) && slices.Contains(d.Controllers, "cpu") {
			err = errdefs.Hint(err, "a real-time process needs linux.resources.cpu.realtimeRuntime")
		}
		if err != nil {
			return fmt.Errorf("join cgroup: %w", err)
		}
	}
	return nil
}

// primary returns the directory through which processes are found and ended.
func (g Group) primary() (Dir, error) {
	for _, want := range []func(Dir) bool{
		func(d Dir) bool { return d.V2 },
		func(d Dir) bool { return slices.Contains(d.Controllers, "freezer") },
		func(Dir) bool { return true },
	} {
		if i := slices.IndexFunc(g.Dirs, want); i >= 0 {
			return g.Dirs[i], nil
		}
	}
	return Dir{}, errdefs.New(errdefs.NotFound, "the container has no cgroup")
}

// controller returns the directory of a controller.
func (g Group) controller(names ...string) (Dir, bool) {
	i := slices.IndexFunc(g.Dirs, func(d Dir) bool {
		return slices.ContainsFunc(names, func(n string) bool { return slices.Contains(d.Controllers, n) })
	})
	if i < 0 {
		return Dir{}, false
	}
	return g.Dirs[i], true
}

// Procs returns the processes in the group and in the cgroups below it. A
// group that is gone has none.
func (g Group) Procs() ([]int, error) {
	d, err := g.primary()
	if err != nil {
		return nil, nil //nolint:nilerr // no cgroup, no process
	}
	var pids []int
	err = walk(d.Path, func(dir string) error {
		b, err := readFile(dir + "/cgroup.procs")
		if errors.Is(err, unix.EOPNOTSUPP) {
			b, err = readFile(dir + "/cgroup.threads") // a threaded v2 cgroup
		}
		for f := range strings.FieldsSeq(string(b)) {
			if pid, convErr := strconv.Atoi(f); convErr == nil {
				pids = append(pids, pid)
			}
		}
		return gone(err)
	})
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	slices.Sort(pids)
	return slices.Compact(pids), nil
}

// gone turns the errors of a cgroup that was removed meanwhile into none.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// walk calls f for a cgroup and those below it, the lowest first.
func walk(dir string, f func(dir string) error) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return gone(err)
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := walk(filepath.Join(dir, e.Name()), f); err != nil {
				return err
			}
		}
	}
	return f(dir)
}

// Kill sends SIGKILL to every process in the group, and misses none that is
// born meanwhile. It does not wait for them to be gone; Remove does.
func (g Group) Kill(ctx context.Context) error {
	d, err := g.primary()
	if err != nil {
		return nil //nolint:nilerr // no cgroup, no process
	}
	if d.V2 {
		err := writeFile(d.Path+"/cgroup.kill", "1")
		if err == nil || errors.Is(err, unix.ENODEV) {
			return nil
		}
		// Either the cgroup is gone, or the kernel is older than 5.14.
		if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("kill cgroup: %w", err)
		}
	}
	// Frozen, they cannot fork. The signal takes effect at the thaw.
	frozen := g.Freeze(ctx) == nil
	pids, err := g.Procs()
	for _, pid := range pids {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	if frozen {
		err = errors.Join(err, g.Thaw())
	}
	return err
}

// backoff waits between looks at something for which the kernel has no event.
// It fails when ctx ends, or after the attempts, which take four seconds.
type backoff struct{ attempt int }

func (b *backoff) wait(ctx context.Context) error {
	const first, last, attempts = 500 * time.Microsecond, 50 * time.Millisecond, 90
	if b.attempt++; b.attempt > attempts {
		return context.DeadlineExceeded
	}
	t := time.NewTimer(min(first<<min(b.attempt, 10), last))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// Remove takes the group's directories away, with all cgroups below them. It
// waits until the last process has left, at most as long as ctx lasts, and
// five seconds. What is gone already is no error.
func (g Group) Remove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var errs []error
	for _, d := range g.Dirs {
		if err := d.remove(ctx); err != nil {
			errs = append(errs, fmt.Errorf("remove cgroup: %w", err))
		}
	}
	return errors.Join(errs...)
}

func (d Dir) remove(ctx context.Context) error {
	var again backoff
	for {
		err := gone(unix.Rmdir(d.Path))
		if errors.Is(err, unix.EBUSY) {
			// There are processes, or cgroups below.
			err = walk(d.Path, func(dir string) error {
				return gone(unix.Rmdir(dir))
			})
		}
		if err == nil {
			return nil
		}
		busy := errors.Is(err, unix.EBUSY)
		if busy && d.V2 {
			// Woken when the last process leaves. The directory can be held
			// a moment longer, which has no event.
			_ = waitEvent(ctx, d.Path, "populated", "0")
		}
		if !busy || again.wait(ctx) != nil {
			return &fs.PathError{Op: "rmdir", Path: d.Path, Err: err}
		}
	}
}

// waitEvent waits until a key in a v2 cgroup's cgroup.events has a value.
func waitEvent(ctx context.Context, dir, key, want string) error {
	fd, err := openRetry(dir+"/cgroup.events", unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var wake [2]int
	if err := unix.Pipe2(wake[:], unix.O_CLOEXEC); err != nil {
		return err
	}
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_, _ = unix.Write(wake[1], []byte{0})
		close(done)
	})
	defer func() {
		// The descriptor must not be another's by the time it is written to.
		if !stop() {
			<-done
		}
		unix.Close(wake[0])
		unix.Close(wake[1])
	}()
	buf := make([]byte, 256)
	for {
		n, err := unix.Pread(fd, buf, 0)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(buf[:n])) {
			if k, v, _ := strings.Cut(strings.TrimSpace(line), " "); k == key && v == want {
				return nil
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		_, err = unix.Poll([]unix.PollFd{
			{Fd: int32(fd), Events: unix.POLLPRI},
			{Fd: int32(wake[0]), Events: unix.POLLIN},
		}, -1)
		if err != nil && err != unix.EINTR {
			return err
		}
	}
}

// Freeze stops every process in the group, and returns when all have stopped.
// On an error the group runs.
func (g Group) Freeze(ctx context.Context) error {
	err := g.stop(ctx)
	if err != nil {
		_ = g.Thaw()
		return fmt.Errorf("freeze cgroup: %w", err)
	}
	return nil
}

// Thaw lets the processes of the group run again.
func (g Group) Thaw() error {
	d, err := g.freezer()
	if err != nil {
		return fmt.Errorf("thaw cgroup: %w", err)
	}
	if d.V2 {
		err = writeFile(d.Path+"/cgroup.freeze", "0")
	} else {
		err = writeFile(d.Path+"/freezer.state", "THAWED")
	}
	if err != nil {
		return fmt.Errorf("thaw cgroup: %w", err)
	}
	return nil
}

// freezer returns the directory through which the group is frozen.
func (g Group) freezer() (Dir, error) {
	if dir := g.Unified(); dir != "" {
		return Dir{Path: dir, V2: true}, nil
	}
	if d, ok := g.controller("freezer"); ok {
		return d, nil
	}
	return Dir{}, errdefs.Hint(errdefs.New(errdefs.NotImplemented, "there is neither cgroup v2 nor the freezer of v1"),
		"mount one: mount -t cgroup -o freezer none /sys/fs/cgroup/freezer")
}

func (g Group) stop(ctx context.Context) error {
	d, err := g.freezer()
	if err != nil {
		return err
	}
	if d.V2 {
		if err := writeFile(d.Path+"/cgroup.freeze", "1"); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		return waitEvent(ctx, d.Path, "frozen", "1")
	}
	var again backoff
	for {
		// To write it anew catches processes that were born meanwhile.
		if err := writeFile(d.Path+"/freezer.state", "FROZEN"); err != nil {
			return err
		}
		b, err := readFile(d.Path + "/freezer.state")
		if err != nil || strings.TrimSpace(string(b)) == "FROZEN" {
			return err
		}
		if err := again.wait(ctx); err != nil {
			return fmt.Errorf("wait for the processes to stop: %w", err)
		}
	}
}

// Frozen reports whether the group is frozen, or about to be. A group that is
// gone is not.
func (g Group) Frozen() (bool, error) {
	d, err := g.freezer()
	if err != nil {
		return false, nil //nolint:nilerr // what cannot be frozen is not
	}
	return d.frozen()
}

// frozen reports whether the cgroup itself is to be frozen; without a freezer
// it is not.
func (d Dir) frozen() (bool, error) {
	file := d.Path + "/freezer.self_freezing"
	if d.V2 {
		file = d.Path + "/cgroup.freeze"
	}
	b, err := readFile(file)
	if err != nil {
		return false, gone(err)
	}
	return strings.TrimSpace(string(b)) == "1", nil
}
