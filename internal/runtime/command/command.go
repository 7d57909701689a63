// Package command is the command line of the runtime: runc's, so that
// containerd, Docker, Podman and CRI-O drive it unchanged.
//
// It parses flags where those programs put them, calls package container, and
// prints what they read: exit codes, the last line of the log file, JSON on
// standard output. There is no framework below it: the time from execve to the
// first system call that matters is part of every start of a container.
package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"lade/internal/errdefs"
	"lade/internal/runtime/state"
	"lade/internal/version"
)

// app is one invocation.
type app struct {
	stdin          *os.File
	stdout, stderr io.Writer

	root, log, logFormat, rootless string
	debug, systemd, rootGiven      bool
}

// exitError carries the exit code of a command that has said all already, or
// the code that an error is to end with.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// command is one of the runtime's commands.
type command struct {
	name, args, about string
	run               func(*app, context.Context, []string) error
}

// commands are all commands, in the order of the help text.
func commands() []command {
	return []command{
		{"create", "[flags] ID", "create a container; its process waits for start", (*app).create},
		{"start", "ID", "execute the program of a created container", (*app).start},
		{"run", "[flags] ID", "create and start a container", (*app).run},
		{"exec", "[flags] ID COMMAND [ARG...]", "start another process in a container", (*app).exec},
		{"kill", "[--all] ID [SIGNAL]", "send a signal (default TERM) to the first process", (*app).kill},
		{"delete", "[--force] ID", "remove a container", (*app).delete},
		{"state", "ID", "print the state of a container as JSON", (*app).state},
		{"list", "[flags]", "list containers", (*app).list},
		{"ps", "[--format table|json] ID [PS OPTION...]", "list the processes of a container", (*app).ps},
		{"pause", "ID", "freeze all processes of a container", (*app).pause},
		{"resume", "ID", "thaw them", (*app).resume},
		{"events", "[--stats] [--interval 5s] ID", "print statistics, and tell when memory runs out", (*app).events},
		{"update", "[flags] ID", "change the resources of a container", (*app).update},
		{"explain", "[--format text|json] [--bundle DIR] [ID]", "print the kernel steps of a start", (*app).explain},
		{"spec", "[--bundle DIR]", "write an example config.json", (*app).spec},
		{"features", "", "print what this runtime can do as JSON", (*app).features},
	}
}

// Main runs the command line args, without the program's name, and returns the
// exit code.
func Main(ctx context.Context, args []string) int {
	a := &app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}
	err := a.main(ctx, args)
	if err == nil {
		return 0
	}
	code := 1
	if e, ok := errors.AsType[*exitError](err); ok {
		if e.err == nil {
			return e.code
		}
		code = e.code
	}
	a.fail(errdefs.Message(err))
	return code
}

// main parses the global flags and runs the command that follows them.
func (a *app) main(ctx context.Context, args []string) error {
	var help, showVersion bool
	flags := flagSet{
		text("root", &a.root), text("log", &a.log), text("log-format", &a.logFormat), text("rootless", &a.rootless),
		boolean("debug", &a.debug), boolean("systemd-cgroup", &a.systemd), text("criu", new(string)),
		boolean("help h", &help), boolean("version v", &showVersion),
	}
	rest, err := flags.parse(args, false)
	if err != nil {
		return err
	}
	a.rootGiven = a.root != ""
	if !a.rootGiven {
		a.root = defaultRoot()
	}
	switch {
	case showVersion:
		return a.version()
	case help || len(rest) == 0 || rest[0] == "help":
		return a.help()
	case a.logFormat != "" && a.logFormat != "text" && a.logFormat != "json":
		return errdefs.New(errdefs.Invalid, "unknown log-format %q: text and json are", a.logFormat)
	case a.systemd && !systemd():
		return errdefs.Hint(errdefs.New(errdefs.NotImplemented, "systemd cgroup flag passed, but systemd support for managing cgroups is not available"), "leave out --systemd-cgroup")
	}
	for _, c := range commands() {
		if c.name == rest[0] {
			return c.run(a, ctx, rest[1:])
		}
	}
	return errdefs.Hint(errdefs.New(errdefs.Invalid, "no such command: %q", rest[0]), "see lade-runtime --help")
}

// systemd reports whether cgroups can be had from systemd: never, so far.
func systemd() bool { return false }

func defaultRoot() string {
	if os.Geteuid() == 0 {
		return "/run/lade-runtime"
	}
	return filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "lade-runtime")
}

func (a *app) store() state.Store { return state.Store{Root: a.root} }

func (a *app) version() error {
	commit := version.Revision()
	if commit == "" {
		commit = "unknown"
	}
	_, err := fmt.Fprintf(a.stdout, "lade-runtime version %s\ncommit: %s\nspec: 1.3.0\n", version.Version, commit)
	return err
}

func (a *app) help() error {
	var b strings.Builder
	b.WriteString("lade-runtime: an OCI runtime with the command line of runc\n\nlade-runtime [--root DIR] [--log FILE] [--log-format text|json] [--debug] COMMAND ...\n\n")
	for _, c := range commands() {
		fmt.Fprintf(&b, "  %-9s %-38s %s\n", c.name, c.args, c.about)
	}
	_, err := io.WriteString(a.stdout, b.String())
	return err
}

// fail tells of an error: in the log, as callers parse it, and for people.
func (a *app) fail(message string) {
	_, _ = fmt.Fprintln(a.stderr, message)
	if a.log != "" {
		a.tell("error", message)
	}
}

// warn tells of something that is not done as it was asked for: in the log, if
// there is one, and otherwise for people.
func (a *app) warn(message string) {
	if a.log == "" {
		_, _ = fmt.Fprintln(a.stderr, "warning:", message)
		return
	}
	a.tell("warning", message)
}

// tell adds a line to the log, as callers parse it.
func (a *app) tell(level, message string) {
	f, err := os.OpenFile(a.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		_, _ = fmt.Fprintln(a.stderr, "write the log:", err)
		return
	}
	defer f.Close()
	now := time.Now().Format(time.RFC3339)
	if a.logFormat == "json" {
		line, _ := json.Marshal(struct {
			Level string `json:"level"`
			Msg   string `json:"msg"`
			Time  string `json:"time"`
		}{level, message, now})
		_, _ = f.Write(append(line, '\n'))
		return
	}
	_, _ = fmt.Fprintf(f, "time=%q level=%s msg=%q\n", now, level, message)
}

// one returns the only argument of a command.
func one(args []string) (string, error) {
	if len(args) != 1 {
		return "", errdefs.New(errdefs.Invalid, "one container ID is wanted, not %d arguments", len(args))
	}
	return args[0], nil
}
