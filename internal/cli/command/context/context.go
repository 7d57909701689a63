// Package context holds the commands about contexts: names for engines.
package context

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"lade/api"
	"lade/internal/cli/command"
	"lade/internal/cli/contexts"
	"lade/internal/cli/format"
	"lade/internal/errdefs"
)

// New returns the commands of the group context.
func New(env *command.Env) []*cobra.Command {
	return []*cobra.Command{
		newCreate(env), newUpdate(env), newUse(env), newShow(env), newList(env), newInspect(env), newRemove(env), newExport(env), newImport(env),
	}
}

// complete completes names of contexts.
func complete(env *command.Env) cobra.CompletionFunc {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		s, err := env.Contexts()
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		names, _ := s.List()
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// parts are what is said of a context with flags.
type parts struct {
	description, docker, from string
}

func (p *parts) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.description, "description", "", "Description of the context")
	cmd.Flags().StringVar(&p.docker, "docker", "", "Set the engine: host=unix:///PATH, or from=CONTEXT")
}

// apply changes a context as the flags say.
func (p *parts) apply(cmd *cobra.Command, s *contexts.Store, c *contexts.Context) error {
	if cmd.Flags().Changed("description") {
		c.Description = p.description
	}
	if p.docker == "" {
		return nil
	}
	for field := range strings.SplitSeq(p.docker, ",") {
		key, val, _ := strings.Cut(field, "=")
		switch key {
		case "host":
			c.Host = val
		case "from":
			from, err := s.Get(val)
			if err != nil {
				return err
			}
			c.Host = from.Host
		case "ca", "cert", "key", "skip-tls-verify":
			return errdefs.New(errdefs.NotImplemented, "--docker %s: Lade's engine listens on a Unix socket, which has no certificates", key)
		default:
			return errdefs.New(errdefs.Invalid, "--docker %q: want host=unix:///PATH or from=CONTEXT", field)
		}
	}
	return nil
}

func newCreate(env *command.Env) *cobra.Command {
	var p parts
	cmd := &cobra.Command{
		Use: "create [OPTIONS] CONTEXT", Short: "Create a context", Args: command.Exactly(1), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := env.Contexts()
			if err != nil {
				return err
			}
			from := p.from
			if from == "" {
				from = env.ContextName(s)
			}
			c, err := s.Get(from)
			if err != nil {
				return err
			}
			if p.from == "" {
				c.Description = ""
			}
			c.Name = args[0]
			if err := p.apply(cmd, s, &c); err != nil {
				return err
			}
			if err := s.Create(c); err != nil {
				return err
			}
			fmt.Fprintln(env.Out, c.Name)
			fmt.Fprintf(env.Err, "Successfully created context %q\n", c.Name)
			return nil
		},
	}
	p.register(cmd)
	cmd.Flags().StringVar(&p.from, "from", "", "Create context from a named context")
	return cmd
}

func newUpdate(env *command.Env) *cobra.Command {
	var p parts
	cmd := &cobra.Command{
		Use: "update [OPTIONS] CONTEXT", Short: "Update a context", Args: command.Exactly(1), ValidArgsFunction: complete(env),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := env.Contexts()
			if err != nil {
				return err
			}
			c, err := s.Get(args[0])
			if err != nil {
				return err
			}
			if err := p.apply(cmd, s, &c); err != nil {
				return err
			}
			if err := s.Update(c); err != nil {
				return err
			}
			fmt.Fprintln(env.Out, c.Name)
			fmt.Fprintf(env.Err, "Successfully updated context %q\n", c.Name)
			return nil
		},
	}
	p.register(cmd)
	return cmd
}

func newUse(env *command.Env) *cobra.Command {
	return &cobra.Command{
		Use: "use CONTEXT", Short: "Set the current context", Args: command.Exactly(1), ValidArgsFunction: complete(env),
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := env.Contexts()
			if err != nil {
				return err
			}
			if err := s.Use(args[0]); err != nil {
				return err
			}
			fmt.Fprintln(env.Out, args[0])
			fmt.Fprintf(env.Err, "Current context is now %q\n", args[0])
			if h := os.Getenv(api.EnvHost); h != "" {
				fmt.Fprintf(env.Err, "Warning: %s overrides the context. To use %q, unset it, or give --context with each command.\n", api.EnvHost, args[0])
			}
			return nil
		},
	}
}

func newShow(env *command.Env) *cobra.Command {
	return &cobra.Command{
		Use: "show", Short: "Print the name of the current context", Args: command.Exactly(0), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			s, err := env.Contexts()
			if err != nil {
				return err
			}
			fmt.Fprintln(env.Out, env.ContextName(s))
			return nil
		},
	}
}

func newInspect(env *command.Env) *cobra.Command {
	var text string
	cmd := &cobra.Command{
		Use: "inspect [OPTIONS] [CONTEXT] [CONTEXT...]", Short: "Display detailed information on one or more contexts", ValidArgsFunction: complete(env),
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := env.Contexts()
			if err != nil {
				return err
			}
			if len(args) == 0 {
				args = []string{env.ContextName(s)}
			}
			var all []json.RawMessage
			var errs []error
			for _, name := range args {
				c, err := s.Get(name)
				if err != nil {
					errs = append(errs, err)
					continue
				}
				d := detail{Meta: c.Meta(), TLSMaterial: map[string][]string{}, Storage: storage{MetadataPath: s.Path(name), TLSPath: "<IN MEMORY>"}}
				if name == contexts.Default {
					d.Storage.MetadataPath = "<IN MEMORY>"
				}
				raw, err := json.Marshal(d)
				if err == nil && text != "" {
					err = format.Object(env.Out, text, raw, &detail{})
				}
				errs = append(errs, err)
				all = append(all, raw)
			}
			if text == "" {
				errs = append(errs, format.Array(env.Out, all))
			}
			return errors.Join(errs...)
		},
	}
	cmd.Flags().StringVarP(&text, "format", "f", "", "Format output using a Go template, or 'json'")
	return cmd
}

// detail is a context as inspect shows it.
type detail struct {
	contexts.Meta
	TLSMaterial map[string][]string
	Storage     storage
}

type storage struct {
	MetadataPath, TLSPath string
}

func newRemove(env *command.Env) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "rm [OPTIONS] CONTEXT [CONTEXT...]", Aliases: []string{"remove"}, Short: "Remove one or more contexts",
		Args: command.AtLeast(1), ValidArgsFunction: complete(env),
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := env.Contexts()
			if err != nil {
				return err
			}
			var errs []error
			for _, name := range args {
				switch err := remove(s, name, force); {
				case err == nil:
					fmt.Fprintln(env.Out, name)
				case force && errdefs.Is(err, errdefs.NotFound):
				default:
					errs = append(errs, err)
				}
			}
			return command.Join(errs)
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Force the removal of a context in use")
	return cmd
}

func remove(s *contexts.Store, name string, force bool) error {
	if name == s.Current() && name != contexts.Default && !force {
		return errdefs.New(errdefs.Conflict, "context %q is in use, set -f flag to force remove", name)
	}
	return s.Remove(name)
}

func newExport(env *command.Env) *cobra.Command {
	return &cobra.Command{
		Use: "export CONTEXT [FILE|-]", Short: "Export a context to a tar archive FILE or a tar stream on STDOUT", ValidArgsFunction: complete(env),
		Args: func(cmd *cobra.Command, args []string) error {
			return errors.Join(command.AtLeast(1)(cmd, args), command.AtMost(2)(cmd, args))
		},
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := env.Contexts()
			if err != nil {
				return err
			}
			c, err := s.Get(args[0])
			if err != nil {
				return err
			}
			file := c.Name + ".dockercontext"
			if len(args) == 2 {
				file = args[1]
			}
			if file == "-" {
				return c.Export(env.Out)
			}
			f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if err != nil {
				return fmt.Errorf("export context %q: %w", c.Name, err)
			}
			if err := errors.Join(c.Export(f), f.Close()); err != nil {
				_ = os.Remove(file)
				return err
			}
			fmt.Fprintf(env.Err, "Written file %q\n", file)
			return nil
		},
	}
}

func newImport(env *command.Env) *cobra.Command {
	return &cobra.Command{
		Use: "import CONTEXT FILE|-", Short: "Import a context from a tar archive", Args: command.Exactly(2),
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := env.Contexts()
			if err != nil {
				return err
			}
			from := env.In
			if args[1] != "-" {
				f, err := os.Open(args[1])
				if err != nil {
					return fmt.Errorf("import context %q: %w", args[0], err)
				}
				defer f.Close()
				from = f
			}
			c, err := contexts.Import(args[0], from)
			if err != nil {
				return err
			}
			if err := s.Create(c); err != nil {
				return err
			}
			fmt.Fprintln(env.Out, c.Name)
			fmt.Fprintf(env.Err, "Successfully imported context %q\n", c.Name)
			return nil
		},
	}
}
