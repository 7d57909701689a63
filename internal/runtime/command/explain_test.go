package command_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/runtime/container"
	"lade/internal/runtime/program"
	"lade/internal/runtime/state"
	"lade/test/kerneltest"
)

// changing are the system calls that change something: the ones that a program
// must account for.
var changing = strings.Fields(`mount umount2 pivot_root chroot move_mount open_tree fsopen fsconfig fsmount fspick mount_setattr
	clone clone3 fork vfork unshare setns mkdir mkdirat mknod mknodat symlink symlinkat link linkat rename renameat renameat2
	unlink unlinkat rmdir chown fchown lchown fchownat chmod fchmod fchmodat truncate ftruncate prctl capset seccomp keyctl add_key
	sethostname setdomainname setuid setgid setreuid setregid setresuid setresgid setfsuid setfsgid setgroups personality ioprio_set
	sched_setscheduler sched_setattr set_mempolicy umask setsid chdir fchdir execve execveat bpf setxattr fsetxattr
	write sendto sendmsg`)

// call is a system call as strace saw it.
type call struct {
	pid    int
	name   string
	args   []string
	result string
	line   string
}

var callLine = regexp.MustCompile(`^(\d+) +([a-z0-9_]+)\((.*)\) += (.*)$`)

// traced reads what strace wrote.
func traced(tb testing.TB, file string) []call {
	tb.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	lines := strings.Split(string(b), "\n")
	var calls []call
	for i, line := range lines {
		if head, ok := strings.CutSuffix(line, " <unfinished ...>"); ok {
			pid, _, _ := strings.Cut(line, " ")
			line = head + "= ?"
			for _, later := range lines[i+1:] {
				if rest, ok := strings.CutPrefix(later, pid); ok && strings.Contains(rest, " resumed>") {
					_, tail, _ := strings.Cut(rest, " resumed>")
					line = head + tail
					break
				}
			}
		}
		m := callLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		pid, _ := strconv.Atoi(m[1])
		calls = append(calls, call{pid, m[2], arguments(m[3]), m[4], line})
	}
	return calls
}

// arguments splits at the commas that are in no brackets and no quotes.
func arguments(s string) []string {
	var out []string
	depth, quoted, start := 0, false, 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case strings.IndexByte("([{<", c) >= 0:
			depth++
		case strings.IndexByte(")]}>", c) >= 0:
			depth--
		case c == ',' && depth == 0:
			out = append(out, strings.TrimSpace(s[start:i]))
			start = i + 1
		}
	}
	return append(out, strings.TrimSpace(s[start:]))
}

// is reports whether a step is a call: the same one, with the same strings and
// numbers. Descriptors and structures are not looked into.
func (c *call) is(s *program.Step) bool {
	if c.name != s.Call {
		return false
	}
	for i := range min(len(c.args), len(s.Args)) {
		a, got := &s.Args[i], c.args[i]
		switch a.Kind {
		case program.KindString:
			if text, err := strconv.Unquote(got); err == nil && text != a.S && (s.Call != "write" || text != a.S[:min(len(a.S), len(text))]) {
				return false
			}
		case program.KindInt, program.KindFlags:
			got, _, _ = strings.Cut(got, "<")
			n, err := strconv.ParseInt(got, 0, 64)
			if err != nil {
				u, err := strconv.ParseUint(got, 0, 64)
				if err != nil {
					continue
				}
				n = int64(u)
			}
			if uint32(n) != uint32(a.N) && s.Call != "clone3" {
				return false
			}
		default: // where it points to is not looked into
		}
	}
	return true
}

// explained runs the runtime under strace, and returns the calls that change
// something, with the program as it was carried out.
func (m *machine) explained(get func() (*program.Program, error), args ...string) ([]call, *program.Program, string) {
	m.t.Helper()
	dir := m.t.TempDir()
	trace, to := filepath.Join(dir, "trace"), filepath.Join(dir, "program.json")
	plan, err := get()
	if err != nil {
		m.t.Fatal(err)
	}
	at := slices.IndexFunc(args, func(s string) bool { return s == "run" || s == "exec" })
	args = slices.Insert(args, at+1, "--explain-to", to)
	cmd := m.command(args...)
	self, err := os.Executable()
	if err != nil {
		m.t.Fatal(err)
	}
	strace, err := exec.LookPath("strace")
	if err != nil {
		m.t.Skip("no strace")
	}
	cmd.Args = append([]string{"strace", "-f", "-qq", "-y", "-v", "-X", "raw", "-s", "65536", "-o", trace, "-e", "trace=" + strings.Join(append(changing, "openat"), ","), "-e", "signal=none", self}, cmd.Args[1:]...)
	cmd.Path = strace
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		m.t.Fatal(err)
	}
	b, err := os.ReadFile(to)
	if err != nil {
		m.t.Fatal(err)
	}
	var after struct{ Before, Beside, Early, Child []taken }
	if err := json.Unmarshal(b, &after); err != nil {
		m.t.Fatal(err)
	}
	for _, l := range []struct {
		steps []program.Step
		taken []taken
	}{{plan.Before, after.Before}, {plan.Beside, after.Beside}, {plan.Early, after.Early}, {plan.Child, after.Child}} {
		m.join(l.steps, l.taken)
	}
	return traced(m.t, trace), plan, dir
}

// taken is a step as --explain-to has it.
type taken struct {
	Call       string
	Args       []string
	Result     *struct{ Begin, Nanoseconds int64 }
	Then, Else []taken
}

// join puts results to the steps of a program, which must be the one that was
// carried out: what is printed before is what happens.
func (m *machine) join(steps []program.Step, list []taken) {
	m.t.Helper()
	if len(steps) != len(list) {
		m.t.Fatalf("%d steps were planned, %d carried out", len(steps), len(list))
	}
	for i := range steps {
		s := &steps[i]
		for k := range s.Args {
			if s.Call != list[i].Call || len(s.Args) != len(list[i].Args) || s.Args[k].Text() != list[i].Args[k] {
				m.t.Fatalf("planned %s, carried out %s%q", s.Text(), list[i].Call, list[i].Args)
			}
		}
		if r := list[i].Result; r != nil {
			if r.Begin == 0 || r.Nanoseconds < 0 {
				m.t.Errorf("%s took %d ns", s.Text(), r.Nanoseconds)
			}
			s.Result = &program.Result{Begin: r.Begin, Nanoseconds: r.Nanoseconds}
		}
		m.join(s.Then, list[i].Then)
		m.join(s.Else, list[i].Else)
	}
}

// unexplained compares what the kernel saw with the program.
func unexplained(calls []call, p *program.Program, records ...string) (found []string) {
	report := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	var runtimeSide, childSide []*program.Step
	for _, list := range [][]program.Step{p.Before, {p.Clone}, p.Beside} {
		program.Walk(list, func(s *program.Step) { runtimeSide = append(runtimeSide, s) })
	}
	timed := true
	program.Walk(append(slices.Clone(p.Early), p.Child...), func(s *program.Step) {
		// What comes after the last record is taken in any case, up to the execve
		// that succeeds.
		if timed = timed && s.Call != "seccomp" && !strings.Contains(s.Text(), "{executing}"); s.Result == nil && timed || !slices.Contains(changing, s.Call) {
			return
		}
		childSide = append(childSide, s)
	})
	// The container's program is the last to be executed.
	end := len(calls)
	for i := range calls {
		if calls[i].name == "execve" && calls[i].result == "0" {
			end = i
		}
	}
	child := checkRuntime(report, calls[:end], runtimeSide, records)
	checkChild(report, calls, childSide, child)
	return found
}

// own reports whether a call of the runtime's changes nothing but itself: its
// threads and streams, and the records that it writes.
func own(c *call, records []string) bool {
	const readBoundingSet, nameMemory = "0x17", "0x53564d41"
	all := strings.Join(c.args, " ")
	switch c.name {
	case "clone", "clone3":
		return regexp.MustCompile(`flags=0x[0-9a-f]*[1-9a-f]0f00\b`).MatchString(all) // CLONE_VM, FS, FILES, SIGHAND: a thread
	case "execve", "execveat":
		return true
	case "prctl":
		return c.args[0] == readBoundingSet || c.args[0] == nameMemory
	case "openat":
		kernel := strings.Contains(all, `"/proc/`) || strings.Contains(all, `"/sys/`)
		return !kernel || len(c.args) < 3 || !writes(c.args[2])
	case "write", "sendto", "sendmsg":
		target, _, _ := strings.Cut(c.args[0], ">")
		return !strings.Contains(target, "</proc/") && !strings.Contains(target, "</sys/") && !strings.Contains(target, "NETLINK")
	}
	return slices.ContainsFunc(records, func(dir string) bool { return strings.Contains(all, dir) })
}

func writes(flags string) bool {
	n, _ := strconv.ParseInt(flags, 0, 64)
	return n&3 != 0
}

// checkRuntime finds each call of the runtime's in the program, in order, and
// returns the child.
func checkRuntime(report func(string, ...any), calls []call, steps []*program.Step, records []string) (child int) {
	threads := map[int]bool{calls[0].pid: true}
	seen := map[*program.Step]bool{}
	next := 0
	for i := range calls {
		c := &calls[i]
		if c.name == "clone" || c.name == "clone3" {
			made, _ := strconv.Atoi(strings.Fields(c.result)[0])
			if threads[c.pid] && own(c, records) {
				threads[made] = true
				continue
			}
		}
		if !threads[c.pid] || c.name == "openat" && own(c, nil) {
			continue
		}
		found := -1
		for k := next; k < len(steps) && found < 0; k++ {
			if covers(steps[k], c) {
				found = k
			}
		}
		switch {
		case found < 0 && own(c, records):
			continue
		case found < 0:
			report("not in the program, or not in its order: %s", c.line)
			continue
		}
		next, seen[steps[found]] = found, true
		if steps[found].Call == "clone3" {
			child, _ = strconv.Atoi(strings.Fields(c.result)[0])
		}
	}
	for _, s := range steps {
		if slices.Contains(changing, s.Call) && s.Result != nil && !seen[s] {
			report("the program has %s, and the kernel saw no such call", s.Text())
		}
	}
	return child
}

// covers reports whether a step of the runtime accounts for a call.
func covers(s *program.Step, c *call) bool {
	all := strings.Join(c.args, " ")
	switch s.Call {
	case "cgroup":
		words := strings.Fields(s.Args[0].S)
		if len(words) > 1 && words[0] == "filter" {
			return c.name == "bpf" || strings.Contains(all, words[1])
		}
		return len(words) > 1 && strings.Contains(all, words[1])
	case "write_proc":
		return strings.Contains(all, "/"+s.Args[0].S)
	case "user_namespace":
		return slices.Contains([]string{"clone", "clone3"}, c.name) || strings.Contains(all, "_map") || strings.Contains(all, "/setgroups")
	case "hook":
		return slices.Contains([]string{"clone", "clone3", "setns", "unshare"}, c.name)
	case "idmap_mount":
		return c.name == "mount_setattr"
	case "net_device":
		return c.name == "sendto" || c.name == "setns"
	case "copy_up":
		return strings.HasPrefix(c.name, "mkdir") || strings.HasPrefix(c.name, "fch")
	case "mkdir":
		return c.name == "mkdirat" || c.name == "mkdir"
	}
	return c.is(s)
}

// checkChild compares the child's calls with its steps, one by one.
func checkChild(report func(string, ...any), calls []call, steps []*program.Step, child int) {
	last := child
	for i := range calls { // a child that clones itself goes on as its child
		if c := &calls[i]; c.pid == child && c.name == "clone3" {
			for _, later := range calls[i+1:] {
				if later.pid != child && later.name == "setsid" {
					last = later.pid
				}
			}
		}
	}
	k, pid := 0, child
	for i := range calls {
		c := &calls[i]
		if c.pid != pid || c.name == "openat" || c.name == "execveat" {
			continue
		}
		if k == len(steps) {
			report("after the program: %s", c.line)
			return
		}
		for c.name != "execve" && steps[k].Call == "execve" && k+1 < len(steps) {
			k++
		}
		if !c.is(steps[k]) {
			report("the kernel saw %s\nthe program has %s", c.line, steps[k].Text())
			return
		}
		if c.name == "execve" && c.result == "0" {
			return
		}
		k++
		if c.name == "clone3" {
			pid = last
		}
	}
	report("only %d of %d steps were seen; next would be %s", k, len(steps), steps[min(k, len(steps)-1)].Text())
}

// TestExplain: strace sees what the program says, all of it, in its order.
func TestExplain(t *testing.T) {
	check := func(t *testing.T, m *machine, calls []call, p *program.Program, to string) {
		t.Helper()
		for _, d := range unexplained(calls, p, m.state, to) {
			t.Error(d)
		}
	}
	start := func(t *testing.T, m *machine) {
		t.Helper()
		id := kerneltest.ID(t)
		m.args("/bin/true")
		calls, p, to := m.explained(func() (*program.Program, error) {
			return container.Explain(state.Store{Root: m.state}, container.CreateOptions{ID: id, Bundle: m.bundle})
		}, "run", "--bundle", m.bundle, id)
		check(t, m, calls, p, to)
		if t.Name() == "TestExplain/default" {
			missed(t, m, calls, p, to)
		}
	}
	rich := func(c *specs.Spec) {
		c.Linux.MaskedPaths = append(c.Linux.MaskedPaths, "/proc/timer_list")
		c.Linux.Sysctl = map[string]string{"kernel.shmmni": "100"}
		c.Linux.Devices = append(c.Linux.Devices, specs.LinuxDevice{Path: "/dev/zero", Type: "c", Major: 1, Minor: 5})
		c.Process.User = specs.User{UID: 5, GID: 6, AdditionalGids: []uint32{7}}
		c.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"swapon"}, Action: specs.ActErrno}}}
		c.Mounts = append(c.Mounts, specs.Mount{Destination: "/data", Type: "bind", Source: "/etc", Options: []string{"rbind", "ro"}})
		score := 100
		c.Process.OOMScoreAdj = &score
	}
	for name, change := range map[string]func(*testing.T, *specs.Spec){
		"default": func(*testing.T, *specs.Spec) {},
		"rich":    func(_ *testing.T, c *specs.Spec) { rich(c) },
		"user namespace": func(t *testing.T, c *specs.Spec) {
			t.Helper()
			mapped(t, c)
			rich(c)
		},
		"hooks": func(_ *testing.T, c *specs.Spec) {
			h := []specs.Hook{{Path: "/bin/true"}}
			c.Hooks = &specs.Hooks{CreateRuntime: h, CreateContainer: h}
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, func(c *specs.Spec) { change(t, c) })
			start(t, m)
		})
	}
	t.Run("exec", func(t *testing.T) {
		m := newMachine(t, nil)
		id := m.background("sleep", "1000")
		calls, p, to := m.explained(func() (*program.Program, error) {
			return container.ExplainExec(state.Store{Root: m.state}, container.ExecOptions{ID: id, Process: func(p *specs.Process) (*specs.Process, error) {
				p.Args = []string{"/bin/true"}
				return p, nil
			}})
		}, "exec", id, "/bin/true")
		check(t, m, calls, p, to)
	})
	t.Run("joined", func(t *testing.T) {
		owner := newMachine(t, func(c *specs.Spec) { mapped(t, c) })
		id := owner.background("sleep", "1000")
		m := newMachine(t, func(c *specs.Spec) {
			mapped(t, c)
			c.Linux.UIDMappings, c.Linux.GIDMappings = nil, nil
			for i := range c.Linux.Namespaces {
				ns := &c.Linux.Namespaces[i]
				switch ns.Type {
				case specs.UserNamespace:
					ns.Path = owner.namespace(id, "user")
				case specs.NetworkNamespace:
					ns.Path = owner.namespace(id, "net")
				case specs.IPCNamespace:
					ns.Path = owner.namespace(id, "ipc")
				default: // new
				}
			}
		})
		start(t, m)
	})
}

// missed shows that a step that were not in the program would be missed.
func missed(t *testing.T, m *machine, calls []call, p *program.Program, to string) {
	t.Helper()
	for name, lists := range map[string][]*[]program.Step{
		"pivot_root": {&p.Child}, "mount": {&p.Child}, "prctl": {&p.Child}, "sethostname": {&p.Child}, "capset": {&p.Child},
		"cgroup": {&p.Before, &p.Beside}, "open_tree": {&p.Before},
	} {
		without := *p
		without.Child, without.Before, without.Beside = slices.Clone(p.Child), slices.Clone(p.Before), slices.Clone(p.Beside)
		for _, list := range lists {
			to := map[*[]program.Step]*[]program.Step{&p.Child: &without.Child, &p.Before: &without.Before, &p.Beside: &without.Beside}[list]
			if i := slices.IndexFunc(*to, func(s program.Step) bool { return s.Call == name }); i >= 0 {
				*to = slices.Delete(*to, i, i+1)
			}
		}
		if len(unexplained(calls, &without, m.state, to)) == 0 {
			t.Errorf("nobody would miss %s", name)
		}
	}
}

// TestExplainTo: what is written is a program with times, as text and as JSON.
func TestExplainTo(t *testing.T) {
	m := newMachine(t, nil)
	m.args("true")
	file := filepath.Join(m.bundle, "program")
	m.must("run", "--explain-to", file, "--bundle", m.bundle, kerneltest.ID(t))
	b, err := os.ReadFile(file)
	if err != nil || !regexp.MustCompile(`(?m)^ +\d+ +\d+\.\d{3} +\d+\.\d  +pivot_root\(`).Match(b) {
		t.Errorf("%v: pivot_root has no time:\n%s", err, b)
	}
	m.must("run", "--explain-to", file+".json", "--bundle", m.bundle, kerneltest.ID(t))
	if b, err = os.ReadFile(file + ".json"); err != nil || !json.Valid(b) || !bytes.Contains(b, []byte(`"nanoseconds"`)) {
		t.Error(fmt.Errorf("%w: no results", err))
	}
}
