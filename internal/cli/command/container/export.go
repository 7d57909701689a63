package container

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"lade/internal/cli/command"
	"lade/internal/cli/terminal"
	"lade/internal/errdefs"
)

// NewExport returns the command export.
func NewExport(env *command.Env) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:               "export [OPTIONS] CONTAINER",
		Short:             "Export a container's filesystem as a tar archive",
		Args:              command.Exactly(1),
		ValidArgsFunction: env.CompleteContainers(),
		RunE: func(cmd *cobra.Command, args []string) error {
			if output == "" && terminal.Is(env.Out) {
				return errdefs.Hint(errdefs.New(errdefs.Invalid, "cowardly refusing to save to a terminal"), "use the -o flag or redirect")
			}
			if err := checkOutput(output); err != nil {
				return err
			}
			c, err := env.Client()
			if err != nil {
				return err
			}
			r, err := c.Export(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			defer r.Close()
			if output == "" {
				_, err := io.Copy(env.Out, r)
				return err
			}
			return writeWhole(output, r)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "Write to a file, instead of STDOUT")
	return cmd
}

// checkOutput refuses a file that cannot be made before the engine works for it.
func checkOutput(p string) error {
	if p == "" {
		return nil
	}
	if st, err := os.Stat(filepath.Dir(p)); err != nil || !st.IsDir() {
		return errdefs.New(errdefs.Invalid, "invalid output path: directory %q does not exist", filepath.Dir(p))
	}
	if st, err := os.Stat(p); err == nil && !st.Mode().IsRegular() {
		return errdefs.New(errdefs.Invalid, "invalid output path: %q is not a regular file", p)
	}
	return nil
}

// writeWhole writes a file whose name appears when all of it is there.
func writeWhole(p string, r io.Reader) error {
	f, err := os.CreateTemp(filepath.Dir(p), "."+filepath.Base(p)+"-")
	if err != nil {
		return fmt.Errorf("write %s: %w", p, err)
	}
	_, err = io.Copy(f, r)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), p)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", p, errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}
