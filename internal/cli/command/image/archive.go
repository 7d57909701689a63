package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"lade/client"
	"lade/internal/cli/command"
	"lade/internal/cli/terminal"
	"lade/internal/errdefs"
)

// NewSave returns the command save.
func NewSave(env *command.Env) *cobra.Command {
	var output, platform string
	cmd := &cobra.Command{
		Use:               "save [OPTIONS] IMAGE [IMAGE...]",
		Short:             "Save one or more images to a tar archive (streamed to STDOUT by default)",
		Args:              command.AtLeast(1),
		ValidArgsFunction: env.CompleteImages(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return save(cmd.Context(), env, args, output, platform)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "Write to a file, instead of STDOUT")
	cmd.Flags().StringVar(&platform, "platform", "", "Save only the given platform (os[/arch[/variant]])")
	return cmd
}

func save(ctx context.Context, env *command.Env, refs []string, output, platform string) error {
	if output == "" && terminal.Is(env.Out) {
		return errdefs.With(errdefs.Invalid, errors.New("cowardly refusing to save to a terminal. Use the -o flag or redirect"))
	}
	p, err := command.ParsePlatform(platform)
	if err != nil {
		return err
	}
	c, err := env.Client()
	if err != nil {
		return err
	}
	archive, err := c.SaveImages(ctx, refs, p)
	if err != nil {
		return err
	}
	defer archive.Close()
	if output == "" {
		_, err = io.Copy(env.Out, archive)
		return broken(err)
	}
	return writeFile(output, archive)
}

// writeFile makes a file that is whole or not there. What is no plain file, as
// /dev/null, is written to as it is.
func writeFile(name string, from io.Reader) error {
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		if info.IsDir() {
			return errdefs.New(errdefs.Invalid, "save images: %s is a directory", name)
		}
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return fmt.Errorf("save images: %w", err)
		}
		_, err = io.Copy(f, from)
		return errors.Join(broken(err), f.Close())
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".tmp-save-")
	if err != nil {
		return fmt.Errorf("save images: %w", err)
	}
	_, err = io.Copy(f, from)
	if err = errors.Join(broken(err), f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

func broken(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return errdefs.Hint(errdefs.New(errdefs.DataLoss, "save images: the engine broke off: %w", err), "its log says why")
	}
	if err != nil {
		return fmt.Errorf("save images: %w", err)
	}
	return nil
}

// NewImport returns the command import.
func NewImport(env *command.Env) *cobra.Command {
	var o client.ImportOptions
	cmd := &cobra.Command{
		Use:   "import [OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
		Short: "Import the contents from a tarball to create a filesystem image",
		Args:  command.AtLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 2 {
				return &command.UsageError{Err: fmt.Errorf("'%s' accepts at most 2 arguments", cmd.CommandPath())}
			}
			if len(args) == 2 {
				o.Name = args[1]
			}
			return importTar(cmd.Context(), env, args[0], o)
		},
	}
	cmd.Flags().StringArrayVarP(&o.Changes, "change", "c", nil, "Apply Dockerfile instruction to the created image")
	cmd.Flags().StringVarP(&o.Message, "message", "m", "", "Set commit message for imported image")
	cmd.Flags().StringVar(&o.Platform, "platform", "", "Set platform if server is multi-platform capable")
	return cmd
}

func importTar(ctx context.Context, env *command.Env, source string, o client.ImportOptions) error {
	tar := env.In
	o.Source = "-"
	switch {
	case strings.HasPrefix(source, "http://"), strings.HasPrefix(source, "https://"):
		o.Source, tar = source, nil
	case source != "-":
		f, err := os.Open(source)
		if err != nil {
			return fmt.Errorf("import: %w", err)
		}
		defer f.Close()
		tar = f
	}
	c, err := env.Client()
	if err != nil {
		return err
	}
	id, err := c.ImportImage(ctx, tar, o)
	if err != nil {
		return err
	}
	fmt.Fprintln(env.Out, id)
	return nil
}
