package image

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/moby/moby/api/types/auxprogress"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/spf13/cobra"

	"lade/client"
	"lade/internal/cli/command"
	"lade/internal/errdefs"
)

type pushOptions struct {
	all, quiet bool
	platform   string

	compression string
}

// NewPush returns the command push.
func NewPush(env *command.Env) *cobra.Command {
	var o pushOptions
	cmd := &cobra.Command{
		Use:               "push [OPTIONS] NAME[:TAG]",
		Short:             "Upload an image to a registry",
		Args:              command.Exactly(1),
		ValidArgsFunction: env.CompleteImages(),
		RunE:              func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), env, args[0]) },
	}
	cmd.Flags().BoolVarP(&o.all, "all-tags", "a", false, "Push all tags of an image to the repository")
	cmd.Flags().BoolVarP(&o.quiet, "quiet", "q", false, "Suppress verbose output")
	cmd.Flags().StringVar(&o.platform, "platform", "", "Push a platform-specific manifest as a single-platform image to the registry (os[/arch[/variant]])")
	trust(cmd)
	cmd.Flags().StringVar(&o.compression, "compression", "", "Pack layers with gzip or zstd, which changes the digest (default $LADE_PUSH_COMPRESSION, or else as they are)")
	return cmd
}

func (o *pushOptions) run(ctx context.Context, env *command.Env, ref string) error {
	repository, tag, digest := command.SplitReference(ref)
	switch {
	case digest != "":
		return errdefs.New(errdefs.Invalid, "cannot push a digest reference")
	case o.all && tag != "":
		return errdefs.With(errdefs.Invalid, errors.New("tag can't be used with --all-tags/-a"))
	case !o.all && tag == "":
		ref = repository + ":latest"
		if !o.quiet {
			fmt.Fprintln(env.Out, "Using default tag: latest")
		}
	}
	p, err := command.ParsePlatform(o.platform)
	if err != nil {
		return err
	}
	c, err := env.Client()
	if err != nil {
		return err
	}
	out := progress(env.Out, o.quiet)
	var notes []string
	err = c.PushImage(ctx, client.PushOptions{Ref: ref, Platform: p, Auth: env.Auth(ctx, ref), Compression: cmp.Or(o.compression, os.Getenv("LADE_PUSH_COMPRESSION"))}, func(m jsonstream.Message) {
		if m.Aux != nil {
			notes = append(notes, note(*m.Aux)...)
			return
		}
		out.Message(m)
	})
	out.Close()
	if err != nil {
		return err
	}
	for _, n := range notes {
		fmt.Fprintln(env.Err, n)
	}
	if o.quiet {
		full := command.FullReference(ref)
		if o.all {
			full, _, _ = command.SplitReference(full)
		}
		fmt.Fprintln(env.Out, full)
	}
	return nil
}

// note says what a push did otherwise than one may think.
func note(aux []byte) []string {
	var instead auxprogress.ManifestPushedInsteadOfIndex
	if json.Unmarshal(aux, &instead) != nil || !instead.ManifestPushedInsteadOfIndex {
		return nil
	}
	return []string{
		"Not all multiplatform-content is present and only the available single-platform image was pushed",
		string(instead.OriginalIndex.Digest) + " -> " + string(instead.SelectedManifest.Digest),
	}
}
