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
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"lade/api"
	"lade/internal/cli/command"
	"lade/internal/cli/command/container"
	"lade/internal/cli/command/system"
	"lade/internal/errdefs"
	"lade/internal/version"
)

// Main runs lade with the arguments after its name and returns its exit status.
func Main(ctx context.Context, env *command.Env, args []string) int {
	root := New(env)
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

// New returns the tree of commands.
func New(env *command.Env) *cobra.Command {
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
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) { _ = help(env, cmd) })
	root.Flags().StringVarP(&env.Host, "host", "H", "", "Socket of the engine (default $"+api.EnvHost+")")
	// Without a shorthand: -h is the host name of run.
	root.PersistentFlags().Bool("help", false, "Print usage")
	root.Flags().BoolP("version", "v", false, "Print version information and quit")
	add(root, common,
		container.NewRun(env), container.NewList(env, "ps"), container.NewLogs(env), system.NewVersion(env))
	tidy(root)
	return root
}

// The headings of the help.
const (
	common = "Common Commands:"
	groups = "Management Commands:"
)

func add(root *cobra.Command, heading string, cmds ...*cobra.Command) {
	for _, c := range cmds {
		if heading != "" {
			c.Annotations = map[string]string{"heading": heading}
		}
		root.AddCommand(c)
	}
}

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
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		err = errdefs.Hint(err, "did you mean %s?", strings.Join(near, " or "))
	}
	return &command.Usage{Err: err}
}

// flagError is for flags that cannot be parsed.
func flagError(cmd *cobra.Command, err error) error {
	if errors.Is(err, pflag.ErrHelp) { // -h where it stands for nothing else
		return err
	}
	if near := nearestFlag(cmd.Flags(), err.Error()); near != "" {
		err = errdefs.Hint(err, "did you mean %s?", near)
	}
	return &command.Exit{Status: command.StatusEngine, Err: &command.Usage{Err: err}}
}

// report writes an error for a person: what happened, what to do, and how the
// command is called if that was the trouble.
func report(w io.Writer, cmd *cobra.Command, err error) {
	if e, ok := errors.AsType[*command.Exit](err); ok && e.Err == nil {
		return
	}
	fmt.Fprintf(w, "lade: %s\n", strings.TrimSpace(err.Error()))
	if hint := errdefs.HintOf(err); hint != "" {
		fmt.Fprintf(w, "      %s\n", hint)
	}
	if _, ok := errors.AsType[*command.Usage](err); ok {
		fmt.Fprintf(w, "\nUsage:  %s\n\nRun '%s --help' for more information\n", cmd.UseLine(), cmd.CommandPath())
	}
}

// Streams returns an environment of this process's streams.
func Streams() *command.Env {
	return &command.Env{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}
}
