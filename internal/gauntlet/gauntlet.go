// Package gauntlet attacks an OCI runtime in the ways that were published for
// one runtime or another, by its command line alone, and tells whether it
// holds.
//
// Each row has an attack and a neighbour: something like it that is allowed and
// must work, since a runtime that refuses everything is no defence. An attack
// has a canary, a directory of the host with a secret in it; harm is what the
// attack itself reports, or any change to the canary, to the runtime's binary,
// to the machine's mounts or to core_pattern. The runtime is attacked as a
// copy: what succeeds in writing to it does not harm the machine's own.
package gauntlet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Token is the canary's secret.
const Token = "of the host alone"

// corePattern is what attackers like to write to: the host executes it.
const corePattern = "/proc/sys/kernel/core_pattern"

// patience is how long one command of the runtime may take.
const patience = 20 * time.Second

// Row is one attack.
type Row struct {
	Number    int
	CVE, Name string
	// Attack returns the harm that was done, or "". An error is a failure of the
	// attack itself, which then proves nothing.
	Attack func(m *Machine) (harm string, err error)
	// Works does what is like the attack, and allowed.
	Works func(m *Machine) error
}

// Runtime is what is attacked.
type Runtime struct {
	Path    string
	Env     []string // besides the environment
	Args    []string // before the command
	Rootfs  func(dir string) error
	Version string
}

// Machine is a runtime with a state directory, a bundle and a canary.
type Machine struct {
	Runtime Runtime
	Dir     string // everything of it is below
	Canary  string
	ctx     context.Context //nolint:containedctx // of one row, which is one call
	runs    int
	dirty   []string // containers that may be left
}

// New makes a machine below dir.
func New(ctx context.Context, r Runtime, dir string) (*Machine, error) {
	m := &Machine{Runtime: r, Dir: dir, Canary: filepath.Join(dir, "canary"), ctx: ctx}
	for _, d := range []string{m.Canary, m.Bundle(), m.Rootfs()} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(filepath.Join(m.Canary, "token"), []byte(Token), 0o644); err != nil {
		return nil, err
	}
	if err := r.Rootfs(m.Rootfs()); err != nil {
		return nil, err
	}
	if out, err := m.command("spec").CombinedOutput(); err != nil { //nolint:contextcheck // m has it
		return nil, fmt.Errorf("make a bundle: %w: %s", err, out)
	}
	return m, m.Configure(func(c *specs.Spec) {
		c.Process.Terminal = false
		c.Root = &specs.Root{Path: "rootfs"}
		c.Linux.CgroupsPath = "/gauntlet-" + filepath.Base(dir)
	})
}

// Bundle is the directory of the machine's bundle.
func (m *Machine) Bundle() string { return filepath.Join(m.Dir, "bundle") }

// Rootfs is its root.
func (m *Machine) Rootfs() string { return filepath.Join(m.Dir, "bundle", "rootfs") }

// Configure changes the bundle's configuration.
func (m *Machine) Configure(change func(*specs.Spec)) error {
	file := filepath.Join(m.Bundle(), "config.json")
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	c := &specs.Spec{}
	if err := json.Unmarshal(b, c); err != nil {
		return err
	}
	change(c)
	if b, err = json.Marshal(c); err != nil {
		return err
	}
	return os.WriteFile(file, b, 0o600)
}

func (m *Machine) command(args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(m.ctx, patience)
	global := append([]string{"--root", filepath.Join(m.Dir, "state")}, m.Runtime.Args...)
	cmd := exec.CommandContext(ctx, m.Runtime.Path, append(global, args...)...)
	cmd.Cancel = func() error { defer cancel(); return cmd.Process.Kill() }
	cmd.WaitDelay = time.Second
	cmd.Env = append(os.Environ(), m.Runtime.Env...)
	cmd.Dir = m.Bundle()
	return cmd
}

// Run runs a command of the runtime, and returns all that it prints.
func (m *Machine) Run(args ...string) (string, error) {
	out, err := m.command(args...).CombinedOutput()
	return string(out), err
}

func (m *Machine) id() string {
	m.runs++
	id := fmt.Sprintf("gauntlet-%s-%d", filepath.Base(m.Dir), m.runs)
	m.dirty = append(m.dirty, id)
	return id
}

// Try runs a script in a container, and returns what it prints.
func (m *Machine) Try(script string) (string, error) {
	if err := m.Configure(func(c *specs.Spec) { c.Process.Args = []string{"/bin/sh", "-c", script} }); err != nil {
		return "", err
	}
	return m.Run("run", "--bundle", m.Bundle(), m.id())
}

// Expect runs a script that must print want.
func (m *Machine) Expect(script, want string) error {
	if out, err := m.Try(script); err != nil || out != want {
		return fmt.Errorf("%s: got %q, %w; want %q", script, out, errors.Join(err), want)
	}
	return nil
}

// Background starts a container that a script runs in, and returns its name.
func (m *Machine) Background(script string) (string, error) {
	id := m.id()
	err := m.Configure(func(c *specs.Spec) { c.Process.Args = []string{"/bin/sh", "-c", script} })
	if err != nil {
		return "", err
	}
	cmd := m.command("run", "--detach", "--bundle", m.Bundle(), id)
	if err := cmd.Run(); err != nil { // without streams: the container would hold them
		return "", fmt.Errorf("start a container in the background: %w", err)
	}
	return id, nil
}

// Link puts a symbolic link into the root.
func (m *Machine) Link(name, to string) error {
	file := filepath.Join(m.Rootfs(), name)
	return errors.Join(os.RemoveAll(file), os.MkdirAll(filepath.Dir(file), 0o755), os.Symlink(to, file))
}

// Tmpfs adds a mount to the configuration.
func (m *Machine) Tmpfs(dest string) error {
	return m.Configure(func(c *specs.Spec) {
		c.Mounts = append(c.Mounts, specs.Mount{Destination: dest, Type: "tmpfs", Source: "tmpfs"})
	})
}

// Close removes the containers that are left.
func (m *Machine) Close() {
	for _, id := range m.dirty {
		_, _ = m.Run("delete", "--force", id)
	}
}

// snapshot is what an attack must not change.
func (m *Machine) snapshot() map[string]string {
	s := map[string]string{}
	for _, file := range []string{"/proc/self/mountinfo", corePattern} {
		b, _ := os.ReadFile(file)
		s[file] = string(b)
	}
	if b, err := os.ReadFile(m.Runtime.Path); err == nil {
		s["the runtime's binary"] = fmt.Sprintf("%x", sha256.Sum256(b))
	}
	_ = filepath.Walk(m.Canary, func(path string, info os.FileInfo, err error) error {
		text := fmt.Sprint(err)
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			text = fmt.Sprint(st.Ino, st.Mode, st.Uid, st.Gid, st.Size)
		}
		s[path] = text
		return nil
	})
	return s
}

// Outcome of a row.
type Outcome struct {
	Row   Row
	Harm  string // "" is green
	Error error  // the attack could not be made, or the neighbour does not work
	Took  time.Duration
}

// Verdict is the outcome in a word.
func (o Outcome) Verdict() string {
	switch {
	case o.Harm != "":
		return "RED"
	case o.Error != nil:
		return "broken"
	}
	return "green"
}

// Attack makes one attack on a fresh machine, and returns the harm.
func Attack(ctx context.Context, r Runtime, row Row, dir string) (string, error) {
	m, err := New(ctx, r, dir)
	if err != nil {
		return "", err
	}
	before := m.snapshot()
	harm, err := row.Attack(m)
	if err != nil {
		harm = ""
	}
	m.Close() //nolint:contextcheck // what was made goes, whoever gave up
	after := m.snapshot()
	if was := before[corePattern]; after[corePattern] != was {
		// The only harm that outlives the attack.
		err = errors.Join(err, os.WriteFile(corePattern, []byte(was), 0))
	}
	for name, was := range before {
		if after[name] != was {
			harm += " changed: " + name
		}
	}
	for name := range after {
		if _, ok := before[name]; !ok {
			harm += " made on the host: " + name
		}
	}
	return strings.TrimSpace(harm), err
}

// Try makes one attack, and sees whether its neighbour works.
func Try(ctx context.Context, r Runtime, row Row, dir string) Outcome {
	begin := time.Now()
	o := Outcome{Row: row}
	if o.Harm, o.Error = Attack(ctx, r, row, filepath.Join(dir, "attack")); o.Error == nil && row.Works != nil {
		m, err := New(ctx, r, filepath.Join(dir, "works"))
		if err == nil {
			err = row.Works(m)
			m.Close() //nolint:contextcheck // see above
		}
		if err != nil {
			o.Error = fmt.Errorf("what is allowed does not work: %w", err)
		}
	}
	o.Took = time.Since(begin)
	return o
}

// Copy returns the runtime with a copy of its binary in dir.
func (r Runtime) Copy(dir string) (Runtime, error) {
	b, err := os.ReadFile(r.Path)
	if err != nil {
		return r, err
	}
	r.Path = filepath.Join(dir, filepath.Base(r.Path))
	if err := os.WriteFile(r.Path, b, 0o755); err != nil {
		return r, err
	}
	out, err := exec.Command(r.Path, "--version").Output() //nolint:noctx // it ends by itself
	if err != nil {
		return r, fmt.Errorf("ask %s for its version: %w", r.Path, err)
	}
	r.Version, _, _ = strings.Cut(string(out), "\n")
	if strings.HasPrefix(r.Version, "crun ") {
		r.Args = []string{"--cgroup-manager=disabled"} // it knows no machine with both versions of cgroups
	}
	return r, nil
}

// Scoreboard runs all rows and prints them as they come, then the sum. It
// reports whether all are green.
func Scoreboard(ctx context.Context, w io.Writer, r Runtime, dir string) bool {
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	fmt.Fprintf(w, "%s, Linux %s\n\n", r.Version, bytes.TrimSpace(kernel))
	count := map[string]int{}
	for i, row := range Rows() {
		o := Try(ctx, r, row, filepath.Join(dir, fmt.Sprint("row", i)))
		count[o.Verdict()]++
		fmt.Fprintf(w, "%3d  %-7s %6.2f s  %-16s %s\n", row.Number, o.Verdict(), o.Took.Seconds(), row.CVE, row.Name)
		if o.Harm != "" {
			fmt.Fprintf(w, "     %s\n", o.Harm)
		}
		if o.Error != nil {
			fmt.Fprintf(w, "     %v\n", o.Error)
		}
	}
	fmt.Fprintf(w, "\n%d green, %d red, %d broken\n", count["green"], count["RED"], count["broken"])
	return count["RED"]+count["broken"] == 0
}

// Busybox fills a root with a static busybox and the links to it.
func Busybox(dir string) error {
	const program = "/bin/busybox"
	applets, err := exec.Command(program, "--list").Output() //nolint:noctx // it ends by itself
	if err != nil {
		return fmt.Errorf("a static busybox is wanted at %s: %w", program, err)
	}
	for _, d := range []string{"bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "var", "mnt"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	b, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "bin/busybox"), b, 0o755); err != nil {
		return err
	}
	for a := range strings.FieldsSeq(string(applets)) {
		if a != "busybox" {
			if err := os.Symlink("busybox", filepath.Join(dir, "bin", a)); err != nil {
				return err
			}
		}
	}
	return os.WriteFile(filepath.Join(dir, "etc/passwd"), []byte("root:x:0:0:root:/root:/bin/sh\n"), 0o644)
}
