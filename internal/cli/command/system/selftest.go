package system

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/spf13/cobra"

	"lade/internal/cli/command"
	"lade/internal/errdefs"
)

// NewSelftest returns the command selftest. What it does is a program of its
// own, which is executed: lade is started too often to carry it.
func NewSelftest(env *command.Env) *cobra.Command {
	return &cobra.Command{
		Use:   "selftest gauntlet [--runtime BINARY]",
		Short: "Attack a runtime in the ways that were published, and show what holds",
		Long: `Attack an OCI runtime in the ways that were published for one runtime or another,
and show for each whether it holds, and whether what is like it and allowed
still works. The runtime is Lade's own, or --runtime BINARY. It takes root, and
ends with status 1 if an attack succeeds.`,
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 && len(args) != 3 && len(args) != 2 || args[0] != "gauntlet" {
				return cmd.Help()
			}
			path, err := selftest()
			if err != nil {
				return err
			}
			c := exec.CommandContext(cmd.Context(), path, args...)
			c.Stdin, c.Stdout, c.Stderr = env.In, env.Out, env.Err
			err = c.Run()
			if e, ok := errors.AsType[*exec.ExitError](err); ok && e.ExitCode() > 0 {
				return &command.ExitError{Status: e.ExitCode()}
			}
			return err
		},
	}
}

// selftest looks for lade-selftest beside this program, then in $PATH.
func selftest() (string, error) {
	const program = "lade-selftest"
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), program)
		if info, err := os.Stat(beside); err == nil && info.Mode().IsRegular() {
			return beside, nil
		}
	}
	path, err := exec.LookPath(program)
	if err != nil {
		return "", errdefs.Hint(errdefs.New(errdefs.NotFound, "no %s beside lade or in $PATH", program), "install %s beside lade", program)
	}
	return path, nil
}
