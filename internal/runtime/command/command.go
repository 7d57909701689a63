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
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"lade/internal/errdefs"
	"lade/internal/linux/sdbus"
	"lade/internal/runtime/state"
	"lade/internal/version"
)

// app is one invocation.
type app struct {
	stdin          *os.File
	stdout, stderr io.Writer
	name           string // that it goes by

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
		{"checkpoint", "[flags] ID", "not supported yet", (*app).checkpoint},
		{"restore", "[flags] ID", "not supported yet", (*app).checkpoint},
		{"features", "", "print what this runtime can do as JSON", (*app).features},
	}
}

// Main runs the command line args, without the program's name, and returns the
// exit code.
func Main(ctx context.Context, args []string) int {
	a := &app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, name: "lade-runtime"}
	if filepath.Base(os.Args[0]) == "runc" {
		a.name = "runc" // installed in its place, it answers to its name
	}
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
	case !slices.Contains([]string{"", "auto", "true", "false"}, a.rootless):
		return errdefs.New(errdefs.Invalid, "--rootless %q: true, false and auto are", a.rootless)
	case a.systemd && !sdbus.Running() && os.Getenv("DBUS_SYSTEM_BUS_ADDRESS") == "":
		return errdefs.Hint(errdefs.New(errdefs.NotImplemented, "systemd cgroup flag passed, but systemd support for managing cgroups is not available"), "leave out --systemd-cgroup")
	}
	for _, c := range commands() {
		if c.name != rest[0] {
			continue
		}
		err := c.run(a, ctx, rest[1:])
		if h, ok := errors.AsType[*helpError](err); ok {
			return a.commandHelp(c, h.flags)
		}
		return err
	}
	if len(rest) > 1 && isHelp(rest[1]) {
		return errdefs.New(errdefs.Invalid, "No help topic for '%s'", rest[0])
	}
	return errdefs.Hint(errdefs.New(errdefs.Invalid, "no such command: %q", rest[0]), "see lade-runtime --help")
}

func defaultRoot() string {
	if os.Geteuid() == 0 {
		return "/run/lade-runtime"
	}
	dir := os.Getenv("XDG_RUNTIME_DIR")
	if dir == "" {
		dir = filepath.Join("/run/user", strconv.Itoa(os.Geteuid())) // what it would be
	}
	return filepath.Join(dir, "lade-runtime")
}

func (a *app) store() state.Store { return state.Store{Root: a.root} }

func (a *app) version() error {
	commit := version.Revision()
	if commit == "" {
		commit = "unknown"
	}
	_, err := fmt.Fprintf(a.stdout, "%s version %s\ncommit: %s\nspec: 1.3.0\n", a.name, version.Version, commit)
	return err
}

// one returns the only argument of a command.
func one(args []string) (string, error) {
	if len(args) != 1 {
		return "", errdefs.New(errdefs.Invalid, "one container ID is wanted, not %d arguments", len(args))
	}
	return args[0], nil
}
