package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"

	"lade/cmd/lade-toolbox/cmdline"
)

// builtin runs one of the shell's own commands as a program.
func builtin(name string) cmdline.Command {
	return func(args []string) error {
		return runText(append([]string{"--"}, args...), name+` "$@"`, name)
	}
}

// shellArgs is the shell's command line.
type shellArgs struct {
	set         []string // options for set: -e, -x …
	command     string
	hasCommand  bool
	interactive bool
	stdin       bool
	rest        []string
}

func parseShell(args []string) (shellArgs, error) {
	var s shellArgs
	for len(args) > 0 {
		a := args[0]
		if a == "--" || a == "-" {
			args = args[1:]
			break
		}
		if len(a) < 2 || a[0] != '-' && a[0] != '+' {
			break
		}
		args = args[1:]
		if a == "--login" {
			continue
		}
		for _, c := range a[1:] {
			switch c {
			case 'c':
				s.hasCommand = true
			case 'i':
				s.interactive = true
			case 's':
				s.stdin = true
			case 'l':
			case 'o':
				if len(args) == 0 {
					return s, cmdline.Usage("-o needs the name of an option")
				}
				s.set = append(s.set, a[:1]+"o", args[0])
				args = args[1:]
			case 'a', 'e', 'f', 'n', 'u', 'x':
				s.set = append(s.set, a[:1]+string(c))
			default:
				return s, cmdline.Usage("unknown option -%c", c)
			}
		}
	}
	if s.hasCommand {
		if len(args) == 0 {
			return s, cmdline.Usage("-c needs a command")
		}
		s.command, args = args[0], args[1:]
	}
	s.rest = args
	return s, nil
}

// shell is sh: of a command (-c), a script, or what comes through stdin.
func shell(args []string) error {
	s, err := parseShell(args)
	if err != nil {
		return err
	}
	name, params := "sh", s.rest
	if len(s.rest) > 0 && !s.stdin {
		name, params = s.rest[0], s.rest[1:] // $0: of -c by choice, of a script always
	}
	params = append(append(s.set, "--"), params...)
	switch {
	case s.hasCommand:
		return runText(params, s.command, name)
	case len(s.rest) > 0 && !s.stdin:
		text, err := os.ReadFile(name)
		if err != nil {
			fmt.Fprintln(os.Stderr, "sh:", err)
			return cmdline.StatusError(127)
		}
		return runText(params, string(text), name)
	case s.interactive || isTerminal(os.Stdin) && isTerminal(os.Stderr):
		return interact(params)
	}
	return follow(params, os.Stdin)
}

// newRunner returns an interpreter that works on this process's own streams.
func newRunner(params []string, t *traps, last map[syntax.Pos]bool) (*interp.Runner, error) {
	r, err := interp.New(
		interp.StdIO(os.Stdin, os.Stdout, os.Stderr), interp.Params(params...), interp.CallHandler(t.call),
		interp.ExecHandlers(func(next interp.ExecHandlerFunc) interp.ExecHandlerFunc { return execer(next, last) }),
	)
	if err != nil {
		return nil, cmdline.Usage("%v", err)
	}
	return r, nil
}

// execer says what a shell says of a command that it cannot run, and lets the
// commands at the given places take the shell's place, so that signals reach
// them and their status is the container's.
func execer(next interp.ExecHandlerFunc, last map[syntax.Pos]bool) interp.ExecHandlerFunc {
	return func(ctx context.Context, args []string) error {
		hc := interp.HandlerCtx(ctx)
		path, err := interp.LookPathDir(hc.Dir, hc.Env, args[0])
		if err != nil {
			code, says := 127, "not found"
			if st, err := os.Stat(args[0]); err == nil && strings.ContainsRune(args[0], '/') {
				if code, says = 126, "Permission denied"; st.IsDir() {
					says = "Is a directory"
				}
			}
			fmt.Fprintf(hc.Stderr, "sh: %s: %s\n", args[0], says)
			return interp.ExitStatus(code)
		}
		if q := quickly(args[0]); q != nil && isSelf(path) {
			if q(hc.Stdout, args[1:]) != nil {
				return interp.ExitStatus(1)
			}
			return nil
		}
		if last[hc.Pos] {
			replace(hc, path, args) // returns only if it cannot
		}
		return next(ctx, args)
	}
}

// replace becomes the program at path.
func replace(hc interp.HandlerContext, path string, args []string) {
	for fd, s := range []any{hc.Stdin, hc.Stdout, hc.Stderr} {
		f, ok := s.(*os.File)
		if !ok {
			return
		}
		if int(f.Fd()) != fd && syscall.Dup3(int(f.Fd()), fd, 0) != nil {
			return
		}
	}
	if os.Chdir(hc.Dir) != nil {
		return
	}
	_ = syscall.Exec(path, args, environ(hc.Env))
}

func environ(e expand.Environ) []string {
	var list []string
	for name, v := range e.Each {
		if v.Exported && v.IsSet() && v.Kind == expand.String {
			list = append(list, name+"="+v.String())
		}
	}
	return list
}

// lastCommands returns the places of commands after which the shell has
// nothing more to do: the last command, and those of the exec builtin. A shell
// that has a trap to run, a background command, or bytes to feed to somebody
// (a here document, a process substitution) does have something to do: these
// are goroutines.
func lastCommands(f *syntax.File) map[syntax.Pos]bool {
	last := map[syntax.Pos]bool{}
	for i, stmt := range f.Stmts {
		call, ok := stmt.Cmd.(*syntax.CallExpr)
		if !ok || stmt.Negated || len(call.Args) == 0 {
			continue
		}
		if i == len(f.Stmts)-1 || call.Args[0].Lit() == "exec" {
			last[call.Pos()] = true
			last[call.Args[0].Pos()] = true
		}
	}
	busy := false
	syntax.Walk(f, func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.CallExpr:
			busy = busy || len(n.Args) > 0 && n.Args[0].Lit() == "trap"
		case *syntax.Stmt:
			busy = busy || n.Background || n.Coprocess
		case *syntax.Redirect:
			busy = busy || n.Hdoc != nil || n.Op == syntax.WordHdoc
		case *syntax.ProcSubst:
			busy = true
		}
		return true
	})
	if busy {
		return nil
	}
	return last
}

// runText runs a script.
func runText(params []string, text, name string) error {
	f, err := syntax.NewParser().Parse(strings.NewReader(text), name)
	if err != nil {
		fmt.Fprintln(os.Stderr, "sh:", err)
		return cmdline.StatusError(2)
	}
	t := newTraps()
	r, err := newRunner(params, t, lastCommands(f))
	if err != nil {
		return err
	}
	return t.run(r, f)
}

// follow runs statements as they come.
func follow(params []string, in io.Reader) error {
	t := newTraps()
	r, err := newRunner(params, t, nil)
	if err != nil {
		return err
	}
	for stmt, perr := range syntax.NewParser().StmtsSeq(in) {
		if perr != nil {
			fmt.Fprintln(os.Stderr, "sh:", perr)
			return cmdline.StatusError(2)
		}
		if err = t.run(r, stmt); r.Exited() {
			break
		}
	}
	return err
}

// interact is the shell at a terminal. Ctrl-C ends the command that runs, not
// the shell: the signal is caught here, and at its default there.
func interact(params []string) error {
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGINT, syscall.SIGQUIT)
	signal.Ignore(syscall.SIGTTOU, syscall.SIGTTIN, syscall.SIGTSTP)
	r, err := newRunner(params, newTraps(), nil)
	if err != nil {
		return err
	}
	p := syntax.NewParser()
	prompt := func() {
		sign := "$"
		if os.Geteuid() == 0 {
			sign = "#"
		}
		fmt.Fprintf(os.Stderr, "%s %s ", r.Dir, sign)
	}
	prompt()
	var last error
	for stmts, err := range p.InteractiveSeq(os.Stdin) {
		if err != nil {
			fmt.Fprintln(os.Stderr, "sh:", err)
			return interact(params) // the parser is at sea; a new one is not
		}
		if p.Incomplete() {
			fmt.Fprint(os.Stderr, "> ")
			continue
		}
		for _, stmt := range stmts {
			if last = r.Run(context.Background(), stmt); r.Exited() {
				return exit(last)
			}
			complain(last)
		}
		prompt()
	}
	fmt.Fprintln(os.Stderr)
	return exit(last)
}

func complain(err error) {
	if _, quiet := errors.AsType[interp.ExitStatus](err); err != nil && !quiet {
		fmt.Fprintln(os.Stderr, "sh:", err)
	}
}

// exit turns the interpreter's outcome into the program's.
func exit(err error) error {
	if s, ok := errors.AsType[interp.ExitStatus](err); ok {
		return cmdline.StatusError(s)
	}
	return err
}
