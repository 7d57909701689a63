package image

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"lade/api"
	"lade/internal/cli/command"
	"lade/internal/cli/format"
	"lade/internal/errdefs"
)

// asText reads a --format that is text or json.
func asText(kind string) (bool, error) {
	switch kind {
	case "text":
		return true, nil
	case "json":
		return false, nil
	}
	return false, errdefs.New(errdefs.Invalid, "--format %q: want text or json", kind)
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// NewTree returns the command image tree.
func NewTree(env *command.Env) *cobra.Command {
	var kind string
	cmd := &cobra.Command{
		Use:               "tree [OPTIONS]",
		Short:             "Show which layers images share",
		Args:              command.Exactly(0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := asText(kind)
			if err != nil {
				return err
			}
			c, err := env.Client()
			if err != nil {
				return err
			}
			tree, err := c.ImageTree(cmd.Context())
			if err != nil {
				return err
			}
			if !text {
				return writeJSON(env.Out, tree)
			}
			writeTree(env.Out, tree.Roots, "")
			for _, name := range tree.Empty {
				fmt.Fprintf(env.Out, "no layers  %s\n", name)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&kind, "format", "text", "text or json")
	return cmd
}

// writeTree shows layers, those that stand on another below it and further in.
func writeTree(w io.Writer, layers []api.TreeLayer, indent string) {
	for i, l := range layers {
		branch, further := "", ""
		if indent != "" || len(layers) > 1 {
			branch, further = "├─ ", "│  "
			if i == len(layers)-1 {
				branch, further = "└─ ", "   "
			}
		}
		if len(layers) == 1 && indent != "" { // one on another: no need to go further in
			branch, further = "", ""
		}
		names := ""
		if len(l.Images) > 0 {
			names = "  " + strings.Join(l.Images, ", ")
		}
		fmt.Fprintf(w, "%s%s%s %8s%s%s\n", indent, branch, shortDigest(l.DiffID), format.Size(l.Size), shared(l.Users), names)
		writeTree(w, l.Above, indent+further)
	}
}

func shared(users int) string {
	if users < 2 {
		return ""
	}
	return fmt.Sprintf("  shared by %d", users)
}

func shortDigest(d string) string {
	d = strings.TrimPrefix(d, "sha256:")
	return d[:min(len(d), 12)]
}

// NewFiles returns the command image files.
func NewFiles(env *command.Env) *cobra.Command {
	var kind, layer string
	cmd := &cobra.Command{
		Use:               "files [OPTIONS] IMAGE",
		Short:             "List the files of an image or of one of its layers",
		Args:              command.Exactly(1),
		ValidArgsFunction: env.CompleteImages(),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := asText(kind)
			if err != nil {
				return err
			}
			c, err := env.Client()
			if err != nil {
				return err
			}
			files, err := c.ImageFiles(cmd.Context(), args[0], layer)
			if err != nil {
				return err
			}
			if !text {
				return writeJSON(env.Out, files)
			}
			var b strings.Builder
			for _, f := range files {
				target := ""
				if f.Target != "" {
					target = " -> " + f.Target
				}
				fmt.Fprintf(&b, "%-8s %04o %5d:%-5d %10d %s%s\n", f.Type, f.Mode, f.UID, f.GID, f.Size, printable(f.Path), printable(target))
			}
			_, err = io.WriteString(env.Out, b.String())
			return err
		},
	}
	cmd.Flags().StringVar(&layer, "layer", "", "Only this layer: a number from 1, the lowest, or a digest")
	cmd.Flags().StringVar(&kind, "format", "text", "text or json")
	return cmd
}

// printable keeps a name of an image from commanding the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}

// NewDiff returns the command image diff.
func NewDiff(env *command.Env) *cobra.Command {
	var kind string
	cmd := &cobra.Command{
		Use:   "diff [OPTIONS] FROM TO",
		Short: "Show how one image differs from another",
		Long: "Show what is added (A), changed (C) and deleted (D) from the first image to the second, and by how many bytes.\n" +
			"Files are compared with their content, owner, mode and attributes, not with their times.",
		Args:              command.Exactly(2),
		ValidArgsFunction: env.CompleteImages(),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := asText(kind)
			if err != nil {
				return err
			}
			c, err := env.Client()
			if err != nil {
				return err
			}
			changes, err := c.ImageDiff(cmd.Context(), args[0], args[1])
			if err != nil {
				return err
			}
			if !text {
				return writeJSON(env.Out, changes)
			}
			var b strings.Builder
			for _, x := range changes {
				fmt.Fprintf(&b, "%s %+12d %s\n", x.Kind, x.Size, printable(x.Path))
			}
			_, err = io.WriteString(env.Out, b.String())
			return err
		},
	}
	cmd.Flags().StringVar(&kind, "format", "text", "text or json")
	return cmd
}
