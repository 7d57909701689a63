package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	corexargs "github.com/u-root/u-root/pkg/core/xargs"

	"lade/cmd/lade-toolbox/cmdline"
)

func xargs(args []string) error { return uroot(corexargs.New(), args) }

// isTerminal reports whether f is a terminal.
func isTerminal(f *os.File) bool {
	var t syscall.Termios
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), syscall.TCGETS, uintptr(unsafe.Pointer(&t)))
	return errno == 0
}

func tty([]string) error {
	if !isTerminal(os.Stdin) {
		fmt.Println("not a tty")
		return cmdline.StatusError(1)
	}
	name, err := os.Readlink("/proc/self/fd/0")
	fmt.Println(name)
	return err
}

func clearCmd([]string) error {
	fmt.Print("\x1b[H\x1b[2J\x1b[3J")
	return nil
}

func hostname(w io.Writer, args []string) error {
	o, rest, err := cmdline.Getopt(args, "sfi", nil)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return syscall.Sethostname([]byte(rest[0]))
	}
	name, err := os.Hostname()
	if o.Has('s') {
		name, _, _ = strings.Cut(name, ".")
	}
	_, _ = fmt.Fprintln(w, name)
	return err
}

func uname(w io.Writer, args []string) error {
	o, _, err := cmdline.Getopt(args, "asnrvmo", nil)
	if err != nil {
		return err
	}
	var u syscall.Utsname
	if err := syscall.Uname(&u); err != nil {
		return err
	}
	text := func(f [65]int8) string {
		var b []byte
		for _, c := range f {
			if c == 0 {
				break
			}
			b = append(b, byte(c))
		}
		return string(b)
	}
	var out []string
	for _, f := range []struct {
		c    byte
		text string
	}{{'s', text(u.Sysname)}, {'n', text(u.Nodename)}, {'r', text(u.Release)}, {'v', text(u.Version)}, {'m', text(u.Machine)}, {'o', "GNU/Linux"}} {
		if o.Has(f.c) || o.Has('a') || len(o) == 0 && f.c == 's' {
			out = append(out, f.text)
		}
	}
	_, _ = fmt.Fprintln(w, strings.Join(out, " "))
	return nil
}

func id(w io.Writer, args []string) error {
	o, _, err := cmdline.Getopt(args, "ugGn", nil)
	if err != nil {
		return err
	}
	uid, gid := uint32(os.Geteuid()), uint32(os.Getegid())
	groups, err := os.Getgroups()
	if err != nil {
		return err
	}
	if !slices.Contains(groups, int(gid)) {
		groups = append([]int{int(gid)}, groups...)
	}
	show := func(id uint32, name func(uint32) string) string {
		if o.Has('n') {
			return name(id)
		}
		return fmt.Sprint(id)
	}
	switch {
	case o.Has('u'):
		_, _ = fmt.Fprintln(w, show(uid, userName))
	case o.Has('g'):
		_, _ = fmt.Fprintln(w, show(gid, groupName))
	case o.Has('G'):
		var all []string
		for _, g := range groups {
			all = append(all, show(uint32(g), groupName))
		}
		_, _ = fmt.Fprintln(w, strings.Join(all, " "))
	default:
		named := func(id uint32, name string) string {
			if name == fmt.Sprint(id) {
				return name
			}
			return fmt.Sprintf("%d(%s)", id, name)
		}
		var all []string
		for _, g := range groups {
			all = append(all, named(uint32(g), groupName(uint32(g))))
		}
		_, _ = fmt.Fprintf(w, "uid=%s gid=%s groups=%s\n", named(uid, userName(uid)), named(gid, groupName(gid)), strings.Join(all, ","))
	}
	return nil
}

func whoami(w io.Writer, _ []string) error {
	u, err := user.LookupId(fmt.Sprint(os.Geteuid()))
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintln(w, u.Username)
	return nil
}

func env(args []string) error {
	list := os.Environ()
	for len(args) > 0 {
		switch a := args[0]; {
		case a == "-i" || a == "-":
			list = nil
		case a == "-u" && len(args) > 1:
			args = args[1:]
			list = slices.DeleteFunc(list, func(e string) bool { return strings.HasPrefix(e, args[0]+"=") })
		case strings.Contains(a, "="):
			name, _, _ := strings.Cut(a, "=")
			list = append(slices.DeleteFunc(list, func(e string) bool { return strings.HasPrefix(e, name+"=") }), a)
		default:
			return become(args, list)
		}
		args = args[1:]
	}
	for _, e := range list {
		fmt.Println(e)
	}
	return nil
}

// become runs a program in this process's place.
func become(args, environ []string) error {
	path, err := exec.LookPath(args[0])
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: not found\n", args[0])
		return cmdline.StatusError(127)
	}
	if err := syscall.Exec(path, args, environ); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", args[0], err)
		return cmdline.StatusError(126)
	}
	return nil
}

func printenv(args []string) error {
	if len(args) == 0 {
		return env(nil)
	}
	for _, a := range args {
		v, ok := os.LookupEnv(a)
		if !ok {
			return cmdline.StatusError(1)
		}
		fmt.Println(v)
	}
	return nil
}

func which(args []string) error {
	o, rest, err := cmdline.Getopt(args, "as", nil)
	if err != nil {
		return err
	}
	var missing error
	for _, a := range rest {
		p, err := exec.LookPath(a)
		if err != nil {
			missing = cmdline.StatusError(1)
		} else if !o.Has('s') {
			fmt.Println(p)
		}
	}
	return missing
}

func sleep(args []string) error {
	var total time.Duration
	for _, a := range args {
		d, err := cmdline.Duration(a)
		if err != nil {
			return err
		}
		total += d
	}
	if len(args) == 0 {
		return cmdline.Usage("missing operand")
	}
	if total < 0 { // two infinities
		total = 1<<63 - 1
	}
	<-time.After(total)
	return nil
}

func timeout(args []string) error {
	sig, kill := syscall.SIGTERM, time.Duration(0)
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		var err error
		switch {
		case args[0] == "-s" && len(args) > 1:
			sig, err = signalOf(args[1])
			args = args[1:]
		case args[0] == "-k" && len(args) > 1:
			kill, err = cmdline.Duration(args[1])
			args = args[1:]
		default:
			err = cmdline.Usage("unknown option %s", args[0])
		}
		if err != nil {
			return err
		}
		args = args[1:]
	}
	if len(args) < 2 {
		return cmdline.Usage("usage: timeout [-s SIGNAL] [-k TIME] TIME COMMAND")
	}
	d, err := cmdline.Duration(args[0])
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[1], args[2:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(sig) }
	cmd.WaitDelay = kill
	err = cmd.Run()
	if ctx.Err() != nil {
		return cmdline.StatusError(124)
	}
	return exitOf(args[1], err)
}

// exitOf turns the end of a program into a shell's status.
func exitOf(name string, err error) error {
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		if ws, ok := e.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			return cmdline.StatusError(128 + int(ws.Signal()))
		}
		return cmdline.StatusError(e.ExitCode())
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: not found\n", name)
		return cmdline.StatusError(127)
	}
	return nil
}

// signals are those that people name.
func signals() map[string]syscall.Signal {
	return map[string]syscall.Signal{
		"HUP": syscall.SIGHUP, "INT": syscall.SIGINT, "QUIT": syscall.SIGQUIT, "KILL": syscall.SIGKILL, "USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2, "PIPE": syscall.SIGPIPE,
		"ALRM": syscall.SIGALRM, "TERM": syscall.SIGTERM, "CHLD": syscall.SIGCHLD, "CONT": syscall.SIGCONT, "STOP": syscall.SIGSTOP, "TSTP": syscall.SIGTSTP, "WINCH": syscall.SIGWINCH, "ABRT": syscall.SIGABRT,
	}
}

func signalOf(s string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil && n >= 0 && n <= 64 {
		return syscall.Signal(n), nil
	}
	if sig, ok := signals()[strings.TrimPrefix(strings.ToUpper(s), "SIG")]; ok {
		return sig, nil
	}
	return 0, cmdline.Usage("unknown signal %s", s)
}

func kill(args []string) error {
	sig := syscall.SIGTERM
	if len(args) > 0 && args[0] == "-l" {
		for n, s := range signals() {
			fmt.Printf("%2d %s\n", int(s), n)
		}
		return nil
	}
	if len(args) > 1 && strings.HasPrefix(args[0], "-") {
		name := args[0][1:]
		if name == "s" {
			args = args[1:]
			name = args[0]
		}
		if name != "-" {
			var err error
			if sig, err = signalOf(name); err != nil {
				return err
			}
		}
		args = args[1:]
	}
	return cmdline.Each(args, func(a string) error {
		pid, err := strconv.Atoi(a)
		if err != nil {
			return cmdline.Usage("%q is no process id", a)
		}
		if err := syscall.Kill(pid, sig); err != nil {
			return fmt.Errorf("%d: %w", pid, err)
		}
		return nil
	})
}

// process is what /proc says of a process.
type process struct {
	pid, ppid int
	uid       uint32
	state     string
	tty       int
	command   string
	name      string
	rss       int64
}

func processes() ([]process, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var all []process
	for _, d := range dirs {
		stat, err := os.ReadFile(d + "/stat")
		st, err2 := os.Stat(d)
		if err != nil || err2 != nil {
			continue // it ended
		}
		open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
		if open < 0 || end < open {
			continue
		}
		f := strings.Fields(string(stat[end+1:]))
		if len(f) < 22 {
			continue
		}
		p := process{name: string(stat[open+1 : end]), state: f[0]}
		p.pid, _ = strconv.Atoi(filepath.Base(d))
		p.ppid, _ = strconv.Atoi(f[1])
		p.tty, _ = strconv.Atoi(f[4])
		pages, _ := strconv.ParseInt(f[21], 10, 64)
		p.rss = pages * int64(os.Getpagesize()) / 1024
		if s, ok := st.Sys().(*syscall.Stat_t); ok {
			p.uid = s.Uid
		}
		cmd, _ := os.ReadFile(d + "/cmdline")
		p.command = strings.TrimSpace(string(bytes.ReplaceAll(cmd, []byte{0}, []byte{' '})))
		if p.command == "" {
			p.command = "[" + p.name + "]"
		}
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b process) int { return a.pid - b.pid })
	return all, nil
}

// ps lists all processes, whatever options are given: a container has few.
func ps([]string) error {
	all, err := processes()
	if err != nil {
		return err
	}
	fmt.Printf("%5s %5s %-8s %s %8s %s\n", "PID", "PPID", "USER", "S", "RSS", "COMMAND")
	for _, p := range all {
		fmt.Printf("%5d %5d %-8s %s %8d %s\n", p.pid, p.ppid, userName(p.uid), p.state, p.rss, p.command)
	}
	return nil
}

func pidof(args []string) error {
	all, err := processes()
	if err != nil {
		return err
	}
	var found []string
	for _, p := range all {
		prog, _, _ := strings.Cut(p.command, " ")
		if slices.Contains(args, p.name) || slices.Contains(args, filepath.Base(prog)) {
			found = append(found, fmt.Sprint(p.pid))
		}
	}
	if len(found) == 0 {
		return cmdline.StatusError(1)
	}
	fmt.Println(strings.Join(found, " "))
	return nil
}

func nproc(w io.Writer, _ []string) error {
	_, _ = fmt.Fprintln(w, runtime.NumCPU())
	return nil
}

func uptime([]string) error {
	raw, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return err
	}
	d := time.Duration(cmdline.Number(string(raw)) * float64(time.Second)).Round(time.Minute)
	load, err := os.ReadFile("/proc/loadavg")
	fmt.Printf("up %s, load %s\n", strings.TrimSuffix(d.String(), "0s"), strings.Join(strings.Fields(string(load))[:3], " "))
	return err
}

func free(args []string) error {
	o, _, err := cmdline.Getopt(args, "bkmgh", nil)
	if err != nil {
		return err
	}
	raw, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return err
	}
	m := map[string]int64{}
	for line := range strings.Lines(string(raw)) {
		name, v, _ := strings.Cut(line, ":")
		m[name] = int64(cmdline.Number(v))
	}
	show := func(k int64) string {
		switch {
		case o.Has('h'):
			return cmdline.Human(k * 1024)
		case o.Has('b'):
			return fmt.Sprint(k * 1024)
		case o.Has('m'):
			return fmt.Sprint(k / 1024)
		case o.Has('g'):
			return fmt.Sprint(k / 1024 / 1024)
		}
		return fmt.Sprint(k)
	}
	cache := m["Buffers"] + m["Cached"]
	fmt.Printf("%-6s%12s%12s%12s%12s%12s\n", "", "total", "used", "free", "buff/cache", "available")
	fmt.Printf("%-6s%12s%12s%12s%12s%12s\n", "Mem:", show(m["MemTotal"]), show(m["MemTotal"]-m["MemFree"]-cache), show(m["MemFree"]), show(cache), show(m["MemAvailable"]))
	fmt.Printf("%-6s%12s%12s%12s\n", "Swap:", show(m["SwapTotal"]), show(m["SwapTotal"]-m["SwapFree"]), show(m["SwapFree"]))
	return nil
}

func date(args []string) error {
	o, rest, err := cmdline.Getopt(args, "uId:R", nil)
	if err != nil {
		return err
	}
	now := time.Now()
	if d := o.Last('d', ""); d != "" {
		sec, err := strconv.ParseInt(strings.TrimPrefix(d, "@"), 10, 64)
		if !strings.HasPrefix(d, "@") || err != nil {
			return cmdline.Usage("-d knows only @SECONDS")
		}
		now = time.Unix(sec, 0)
	}
	if o.Has('u') {
		now = now.UTC()
	}
	switch {
	case o.Has('I'):
		fmt.Println(now.Format("2006-01-02"))
	case o.Has('R'):
		fmt.Println(now.Format(time.RFC1123Z))
	case len(rest) > 0 && strings.HasPrefix(rest[0], "+"):
		fmt.Println(strftime(rest[0][1:], now))
	case len(rest) == 0:
		fmt.Println(now.Format("Mon Jan _2 15:04:05 MST 2006"))
	default:
		return cmdline.Usage("unknown operand %s", rest[0])
	}
	return nil
}

func strftime(format string, t time.Time) string {
	layouts := map[byte]string{'Y': "2006", 'm': "01", 'd': "02", 'H': "15", 'M': "04", 'S': "05", 'y': "06", 'b': "Jan", 'B': "January", 'a': "Mon", 'A': "Monday", 'Z': "MST", 'z': "-0700", 'F': "2006-01-02", 'T': "15:04:05", 'j': "002", 'e': "_2", 'I': "03", 'p': "PM", 'N': "000000000", 'c': "Mon Jan _2 15:04:05 2006", 'D': "01/02/06", 'R': "15:04"}
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			b.WriteByte(format[i])
			continue
		}
		i++
		switch c := format[i]; {
		case c == 's':
			b.WriteString(strconv.FormatInt(t.Unix(), 10))
		case c == 'N':
			fmt.Fprintf(&b, "%09d", t.Nanosecond())
		case c == 'n':
			b.WriteByte('\n')
		case c == 't':
			b.WriteByte('\t')
		case layouts[c] != "":
			b.WriteString(t.Format(layouts[c]))
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}
