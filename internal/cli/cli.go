// Package cli is the command line of Lade: it builds the tree of commands, runs
// the one that was asked for, and turns what comes back into a message and an
// exit status.
//
// Every command is Docker's, with its flags, its output and its exit codes; the
// packages below command hold them. lade keeps no state and knows the engine
// only through package client.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"lade/api"
	"lade/internal/cli/command"
	"lade/internal/cli/command/container"
	contextcmd "lade/internal/cli/command/context"
	"lade/internal/cli/command/disk"
	"lade/internal/cli/command/image"
	"lade/internal/cli/command/manifest"
	"lade/internal/cli/command/network"
	"lade/internal/cli/command/registry"
	"lade/internal/cli/command/system"
	"lade/internal/cli/command/volume"
	"lade/internal/errdefs"
	"lade/internal/version"
)

// Main runs lade with the arguments after its name and returns its exit status.
func Main(ctx context.Context, env *command.Env, args []string) int {
	root := New(env, named(args))
	root.SetArgs(args)
	root.SetIn(env.In)
	root.SetOut(env.Out)
	root.SetErr(env.Err)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	report(env.Err, cmd, err)
	return command.ExitStatus(err)
}

// named returns the command that the arguments name, or "" if that is not plain
// to see. Making all thirty commands and their flags takes lade longer (1.5 ms)
// than everything else before its request; making one does not show.
func named(args []string) string {
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		switch name, _, whole := strings.Cut(args[0], "="); {
		case slices.Contains([]string{"-H", "--host", "-c", "--context", "--config"}, name) && !whole:
			args = args[min(2, len(args)):]
		case slices.Contains([]string{"--host", "--context", "--config"}, name), strings.HasPrefix(name, "-H"):
			args = args[1:]
		default:
			return ""
		}
	}
	if len(args) > 0 && slices.ContainsFunc(entries(), func(e entry) bool { return e.name == args[0] }) {
		return args[0]
	}
	return ""
}

// New returns the tree of commands: all of them, or only one of the root's.
func New(env *command.Env, only string) *cobra.Command {
	root := &cobra.Command{
		Use:              "lade [OPTIONS] COMMAND [ARG...]",
		Short:            "Containers that start at once and can be explained",
		Version:          version.Version,
		SilenceErrors:    true,
		SilenceUsage:     true,
		TraverseChildren: true,
		Args:             unknownCommand,
		RunE:             func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetVersionTemplate("Lade version {{.Version}}\n")
	root.SetFlagErrorFunc(flagError)
	root.SetUsageFunc(func(cmd *cobra.Command) error { return help(env, cmd) })
	root.SetHelpCommand(&cobra.Command{
		Use: "help [COMMAND]", Short: "Help about any command", Hidden: true,
		RunE: func(_ *cobra.Command, args []string) error {
			cmd, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return unknownCommand(cmd, rest)
			}
			return cmd.Help()
		},
	})
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) { _ = help(env, cmd) })
	globals(env, root.Flags())
	// Without a shorthand: -h is the host name of run.
	root.PersistentFlags().Bool("help", false, "Print usage")
	root.Flags().BoolP("version", "v", false, "Print version information and quit")
	for _, e := range append(entries(), absences()...) {
		if only != "" && e.name != only {
			continue
		}
		c := e.make(env)
		if e.heading != "" {
			c.Annotations = map[string]string{"heading": e.heading}
		}
		root.AddCommand(c)
	}
	tidy(root)
	return root
}

// globals adds the flags that come before a command.
func globals(env *command.Env, fs *pflag.FlagSet) {
	fs.StringVarP(&env.Host, "host", "H", "", "Socket of the engine (default $"+api.EnvHost+")")
	fs.StringVarP(&env.Context, "context", "c", "", "Name of the context to use (default $"+api.EnvContext+", or what 'lade context use' chose)")
	fs.StringVar(&env.Config, "config", "", "Directory of contexts and of docker's config.json")
	// lade itself logs nothing; what scripts for docker say is accepted.
	fs.BoolP("debug", "D", false, "Enable debug mode")
	fs.StringP("log-level", "l", "info", `Set the logging level ("debug", "info", "warn", "error", "fatal")`)
	for _, name := range []string{"debug", "log-level"} {
		fs.Lookup(name).Hidden = true
	}
}

// entry is a command of the root that may or may not be made.
type entry struct {
	name    string
	heading string // in the help; empty is the heading of all that have none
	make    func(*command.Env) *cobra.Command
}

// entries returns all commands of the root.
func entries() []entry {
	return []entry{
		{"run", common, container.NewRun},
		{"exec", common, container.NewExec},
		{"ps", common, func(env *command.Env) *cobra.Command { return container.NewList(env, "ps") }},
		{"logs", common, container.NewLogs},
		{"pull", common, image.NewPull},
		{"push", common, image.NewPush},
		{"login", common, registry.NewLogin},
		{"logout", common, registry.NewLogout},
		{"images", common, func(env *command.Env) *cobra.Command { return image.NewList(env, "images") }},
		{"version", common, system.NewVersion},
		{"info", common, system.NewInfo},
		{"container", groups, func(env *command.Env) *cobra.Command {
			return group("container", "Manage containers", containers(env)...)
		}},
		{"image", groups, func(env *command.Env) *cobra.Command { return group("image", "Manage images", images(env)...) }},
		{"manifest", groups, func(env *command.Env) *cobra.Command {
			return group("manifest", "Manage image manifests and manifest lists", manifest.New(env)...)
		}},
		{"system", groups, func(env *command.Env) *cobra.Command {
			return group("system", "Manage Lade",
				disk.NewCheck(env), disk.NewUsage(env), disk.NewPrune(env), system.NewInfo(env), system.NewEvents(env), system.NewUpgrade(env))
		}},
		{"volume", groups, func(env *command.Env) *cobra.Command { return group("volume", "Manage volumes", volumes(env)...) }},
		{"context", groups, func(env *command.Env) *cobra.Command {
			return group("context", "Manage contexts: names for engines", contextcmd.New(env)...)
		}},
		{"network", groups, func(env *command.Env) *cobra.Command {
			return group("network", "Manage networks", networks(env)...)
		}},
		{"create", "", container.NewCreate},
		{"start", "", container.NewStart},
		{"attach", "", container.NewAttach},
		{"stop", "", container.NewStop},
		{"restart", "", container.NewRestart},
		{"kill", "", container.NewKill},
		{"pause", "", container.NewPause},
		{"unpause", "", container.NewUnpause},
		{"rm", "", container.NewRemove},
		{"wait", "", container.NewWait},
		{"rename", "", container.NewRename},
		{"update", "", container.NewUpdate},
		{"stats", "", container.NewStats},
		{"top", "", container.NewTop},
		{"why", "", container.NewWhy},
		{"commit", "", container.NewCommit},
		{"cp", "", container.NewCopy},
		{"diff", "", container.NewDiff},
		{"export", "", container.NewExport},
		{"port", "", container.NewPort},
		{"inspect", "", func(env *command.Env) *cobra.Command { return system.NewInspect(env, "") }},
		{"load", "", image.NewLoad},
		{"save", "", image.NewSave},
		{"import", "", image.NewImport},
		{"rmi", "", func(env *command.Env) *cobra.Command { return image.NewRemove(env, "rmi") }},
		{"tag", "", image.NewTag},
		{"history", "", image.NewHistory},
		{"events", "", system.NewEvents},
		{"explain", "", system.NewExplain},
		{"selftest", "", system.NewSelftest},
	}
}

// absences returns the commands of Docker's that Lade does not have.
func absences() []entry {
	var all []entry
	for _, a := range absent() {
		all = append(all, entry{a.name, "", func(*command.Env) *cobra.Command { return a.command() }})
	}
	return all
}

// images returns the commands of the group image.
func images(env *command.Env) []*cobra.Command {
	return []*cobra.Command{
		image.NewList(env, "ls", "list"), disk.NewPruneImages(env), image.NewHistory(env), image.NewTree(env), image.NewFiles(env), image.NewDiff(env),
		image.NewPull(env), image.NewPush(env), image.NewLoad(env), image.NewSave(env), image.NewImport(env),
		image.NewCopy(env), image.NewListTags(env), image.NewRemove(env, "rm", "remove"),
		image.NewTag(env), system.NewInspect(env, system.Image),
	}
}

// volumes returns the commands of the group volume.
func volumes(env *command.Env) []*cobra.Command {
	return []*cobra.Command{
		volume.NewCreate(env), volume.NewList(env), volume.NewRemove(env), volume.NewPrune(env), volume.NewUpdate(env),
		system.NewInspect(env, system.Volume),
	}
}

// containers returns the commands of the group container.
func containers(env *command.Env) []*cobra.Command {
	return []*cobra.Command{
		container.NewRun(env), container.NewExec(env), disk.NewPruneContainers(env), container.NewList(env, "ls", "list", "ps"), container.NewLogs(env),
		container.NewCreate(env), container.NewStart(env), container.NewAttach(env), container.NewStop(env),
		container.NewRestart(env), container.NewKill(env), container.NewPause(env), container.NewUnpause(env),
		container.NewRemove(env), container.NewWait(env), container.NewRename(env), container.NewUpdate(env), container.NewStats(env), container.NewTop(env), container.NewWhy(env), container.NewCommit(env),
		container.NewCopy(env), container.NewDiff(env), container.NewExport(env), container.NewPort(env),
		system.NewInspect(env, system.Container), system.NewExplain(env),
	}
}

// networks returns the commands of the group network.
func networks(env *command.Env) []*cobra.Command {
	return []*cobra.Command{
		network.NewList(env), network.NewCreate(env), network.NewRemove(env), network.NewPrune(env), network.NewConnect(env),
		network.NewDisconnect(env), network.NewVerify(env), network.NewExplain(env), system.NewInspect(env, system.Network),
	}
}

// group returns a command that holds others.
func group(name, short string, cmds ...*cobra.Command) *cobra.Command {
	g := &cobra.Command{
		Use: name + " COMMAND", Short: short, Args: unknownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	g.AddCommand(cmds...)
	return g
}

// The headings of the help.
const (
	common = "Common Commands:"
	groups = "Management Commands:"
)

// tidy sets for all commands what cobra wants to be told for each.
func tidy(cmd *cobra.Command) {
	cmd.DisableFlagsInUseLine = true
	for _, c := range cmd.Commands() {
		tidy(c)
	}
}

// unknownCommand says which command a person may have meant.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := fmt.Errorf("unknown command: %s %s", cmd.CommandPath(), args[0])
	var names []string
	for _, c := range cmd.Commands() {
		names = append(names, append(c.Aliases, c.Name())...)
	}
	if near := nearest(args[0], names); near != "" {
		err = errdefs.Hint(err, "did you mean '%s %s'?", cmd.CommandPath(), near)
	}
	return &command.UsageError{Err: err}
}

// flagError is for flags that cannot be parsed.
func flagError(cmd *cobra.Command, err error) error {
	if errors.Is(err, pflag.ErrHelp) { // -h where it stands for nothing else
		return err
	}
	if near := nearestFlag(cmd.Flags(), err.Error()); near != "" {
		err = errdefs.Hint(err, "did you mean %s?", near)
	}
	return &command.ExitError{Status: command.StatusEngine, Err: &command.UsageError{Err: err}}
}

// report writes an error for a person: what happened, what to do, and how the
// command is called if that was the trouble.
func report(w io.Writer, cmd *cobra.Command, err error) {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range many.Unwrap() {
			report(w, cmd, e)
		}
		return
	}
	if e, ok := errors.AsType[*command.ExitError](err); ok && e.Err == nil {
		return
	}
	fmt.Fprintf(w, "lade: %s\n", strings.TrimSpace(err.Error()))
	if hint := errdefs.HintOf(err); hint != "" {
		fmt.Fprintf(w, "      %s\n", hint)
	}
	if _, ok := errors.AsType[*command.UsageError](err); ok {
		fmt.Fprintf(w, "\nUsage:  %s\n\nRun '%s --help' for more information\n", cmd.UseLine(), cmd.CommandPath())
	}
}

// statusInterrupted is how a shell reports a program that ^C ended.
const statusInterrupted = 128 + 2

// Streams returns an environment of this process's streams.
func Streams() *command.Env {
	env := &command.Env{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}
	env.OnLeave(func() { os.Exit(statusInterrupted) })
	return env
}
