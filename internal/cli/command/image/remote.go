package image

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/moby/moby/api/types/registry"
	"github.com/spf13/cobra"

	"lade/client"
	"lade/internal/cli/command"
	"lade/internal/cli/credentials"
)

// NewCopy returns the command copy of the group image.
func NewCopy(env *command.Env) *cobra.Command {
	var o client.CopyOptions
	var quiet bool
	cmd := &cobra.Command{
		Use:   "copy [OPTIONS] SOURCE DESTINATION",
		Short: "Copy an image between registries, layouts, archives and the engine's store",
		Long: "Copy an image between places, as it is and with all its platforms:\n" +
			"docker://NAME[:TAG|@DIGEST], oci:DIRECTORY[:TAG], oci-archive:FILE[:TAG],\n" +
			"docker-archive:FILE[:NAME] (one platform) or lade:NAME, which is the engine's store.",
		Args: command.Exactly(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.From, o.To = args[0], args[1]
			return copyImage(cmd.Context(), env, o, quiet)
		},
	}
	cmd.Flags().StringVar(&o.Platform, "platform", "", "Copy only the given platform (os[/arch[/variant]])")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "Suppress verbose output")
	return cmd
}

func copyImage(ctx context.Context, env *command.Env, o client.CopyOptions, quiet bool) error {
	o.Auths = map[string]registry.AuthConfig{}
	for _, p := range []*string{&o.From, &o.To} {
		if name, ok := strings.CutPrefix(*p, "docker://"); ok {
			repository, _, _ := command.SplitReference(command.FullReference(name))
			domain, _, _ := strings.Cut(repository, "/")
			if a, err := env.Credentials().Lookup(ctx, repository); err == nil && a != (registry.AuthConfig{}) {
				o.Auths[credentials.Domain(domain)] = a
			}
			continue
		}
		if kind, path, ok := strings.Cut(*p, ":"); ok && (kind == "oci" || kind == "oci-archive" || kind == "docker-archive") && path != "" {
			abs, err := filepath.Abs(path)
			if err != nil {
				return fmt.Errorf("copy: %w", err)
			}
			*p = kind + ":" + abs
		}
	}
	c, err := env.Client()
	if err != nil {
		return err
	}
	out := progress(env.Out, quiet)
	defer out.Close()
	return c.CopyImage(ctx, o, out.Message)
}

// NewListTags returns the command list-tags of the group image.
func NewListTags(env *command.Env) *cobra.Command {
	return &cobra.Command{
		Use:   "list-tags REPOSITORY",
		Short: "List the tags that a repository has in its registry",
		Args:  command.Exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := env.Client()
			if err != nil {
				return err
			}
			tags, err := c.RemoteTags(cmd.Context(), args[0], env.Auth(cmd.Context(), args[0]))
			if err != nil {
				return err
			}
			for _, t := range tags.Tags {
				fmt.Fprintln(env.Out, t)
			}
			return nil
		},
	}
}
