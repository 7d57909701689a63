// Package manifest holds the commands of the group manifest: what registries
// hold, and manifest lists that a person puts together of images there.
package manifest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"lade/client"
	"lade/internal/cli/command"
	"lade/internal/cli/contexts"
	"lade/internal/cli/credentials"
	"lade/internal/errdefs"
)

const (
	dockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
)

// New returns the commands of the group.
func New(env *command.Env) []*cobra.Command {
	return []*cobra.Command{newAnnotate(env), newCreate(env), newDelete(env), newInspect(env), newPush(env), newRemove(env)}
}

func lists(env *command.Env) (store, error) {
	dir := env.Config
	if dir == "" {
		var err error
		if dir, err = contexts.Dir(os.Getenv); err != nil {
			return store{}, err
		}
	}
	return store{filepath.Join(dir, "manifest-lists")}, nil
}

func newCreate(env *command.Env) *cobra.Command {
	var amend bool
	cmd := &cobra.Command{
		Use:   "create MANIFEST_LIST MANIFEST [MANIFEST...]",
		Short: "Create a local manifest list for annotating and pushing to a registry",
		Args:  command.AtLeast(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return create(cmd.Context(), env, command.FullReference(args[0]), args[1:], amend)
		},
	}
	cmd.Flags().BoolVarP(&amend, "amend", "a", false, "Amend an existing manifest list")
	return cmd
}

func create(ctx context.Context, env *command.Env, name string, refs []string, amend bool) error {
	s, err := lists(env)
	if err != nil {
		return err
	}
	l, err := s.get(name)
	switch {
	case err == nil && !amend:
		return errdefs.Hint(errdefs.New(errdefs.Conflict, "refusing to amend an existing manifest list with no --amend flag"), "lade manifest rm %s starts anew", name)
	case err != nil && !errdefs.Is(err, errdefs.NotFound):
		return err
	}
	l.Name = name
	c, err := env.Client()
	if err != nil {
		return err
	}
	for _, ref := range refs {
		m, err := look(ctx, env, c, ref)
		if err != nil {
			return err
		}
		l.Members = append(slices.DeleteFunc(l.Members, func(o member) bool { return o.Ref == m.Ref }), m)
	}
	if err := s.put(l); err != nil {
		return err
	}
	fmt.Fprintln(env.Out, "Created manifest list", name)
	return nil
}

// look finds out what a registry has under a name.
func look(ctx context.Context, env *command.Env, c *client.Client, ref string) (member, error) {
	full := command.FullReference(ref)
	d, err := c.Distribution(ctx, full, env.Auth(ctx, full))
	if err != nil {
		return member{}, err
	}
	if d.Descriptor.MediaType == dockerList || d.Descriptor.MediaType == ocispec.MediaTypeImageIndex {
		return member{}, errdefs.Hint(errdefs.New(errdefs.Invalid, "%s is a manifest list", full), "name one of its manifests by digest; lade manifest inspect %s shows them", ref)
	}
	repository, _, _ := command.SplitReference(full)
	m := member{Ref: full, Repository: repository, Descriptor: ocispec.Descriptor{MediaType: d.Descriptor.MediaType, Digest: d.Descriptor.Digest, Size: d.Descriptor.Size}}
	if len(d.Platforms) > 0 {
		m.Descriptor.Platform = &d.Platforms[0]
	}
	return m, nil
}

func newAnnotate(env *command.Env) *cobra.Command {
	var p ocispec.Platform
	cmd := &cobra.Command{
		Use:   "annotate [OPTIONS] MANIFEST_LIST MANIFEST",
		Short: "Add additional information to a local image manifest",
		Args:  command.Exactly(2),
		RunE: func(_ *cobra.Command, args []string) error {
			return annotate(env, command.FullReference(args[0]), command.FullReference(args[1]), p)
		},
	}
	f := cmd.Flags()
	f.StringVar(&p.OS, "os", "", "Set operating system")
	f.StringVar(&p.Architecture, "arch", "", "Set architecture")
	f.StringVar(&p.Variant, "variant", "", "Set architecture variant")
	f.StringVar(&p.OSVersion, "os-version", "", "Set operating system version")
	f.StringSliceVar(&p.OSFeatures, "os-features", nil, "Set operating system feature")
	return cmd
}

func annotate(env *command.Env, name, ref string, p ocispec.Platform) error {
	s, err := lists(env)
	if err != nil {
		return err
	}
	l, err := s.get(name)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(l.Members, func(m member) bool { return m.Ref == ref })
	if i < 0 {
		return errdefs.New(errdefs.NotFound, "manifest for image %s does not exist in %s", ref, name)
	}
	have := l.Members[i].Descriptor.Platform
	if have == nil {
		have = &ocispec.Platform{}
		l.Members[i].Descriptor.Platform = have
	}
	for to, v := range map[*string]string{&have.OS: p.OS, &have.Architecture: p.Architecture, &have.Variant: p.Variant, &have.OSVersion: p.OSVersion} {
		if v != "" {
			*to = v
		}
	}
	for _, f := range p.OSFeatures {
		if !slices.Contains(have.OSFeatures, f) {
			have.OSFeatures = append(have.OSFeatures, f)
		}
	}
	return s.put(l)
}

// index makes the index of a list: of Docker's type, as long as all members are.
func (l list) index() (ocispec.Index, error) {
	ix := ocispec.Index{MediaType: dockerList}
	ix.SchemaVersion = 2
	for _, m := range l.Members {
		if m.Descriptor.MediaType != dockerManifest {
			ix.MediaType = ocispec.MediaTypeImageIndex
		}
		p := m.Descriptor.Platform
		if p == nil || p.OS == "" || p.Architecture == "" {
			return ix, errdefs.Hint(errdefs.New(errdefs.Invalid, "manifest %s must have an OS and Architecture to be pushed to a registry", m.Ref), "lade manifest annotate --os OS --arch ARCH %s %s", l.Name, m.Ref)
		}
		ix.Manifests = append(ix.Manifests, m.Descriptor)
	}
	return ix, nil
}

func newPush(env *command.Env) *cobra.Command {
	var purge bool
	cmd := &cobra.Command{
		Use:   "push [OPTIONS] MANIFEST_LIST",
		Short: "Push a manifest list to a repository",
		Args:  command.Exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return push(cmd.Context(), env, command.FullReference(args[0]), purge)
		},
	}
	cmd.Flags().BoolVarP(&purge, "purge", "p", false, "Remove the local manifest list after push")
	return cmd
}

// push brings the members to the list's repository, by digest, and then the
// list.
func push(ctx context.Context, env *command.Env, name string, purge bool) error {
	s, err := lists(env)
	if err != nil {
		return err
	}
	l, err := s.get(name)
	if err != nil {
		return err
	}
	ix, err := l.index()
	if err != nil {
		return err
	}
	raw, err := json.Marshal(ix)
	if err != nil {
		return err
	}
	c, err := env.Client()
	if err != nil {
		return err
	}
	repository, _, _ := command.SplitReference(name)
	for _, m := range l.Members {
		if m.Repository != repository {
			digest := "@" + string(m.Descriptor.Digest)
			o := client.CopyOptions{From: "docker://" + m.Repository + digest, To: "docker://" + repository + digest, Auths: auths(ctx, env, m.Repository, repository)}
			if err := c.CopyImage(ctx, o, func(jsonstream.Message) {}); err != nil {
				return err
			}
		}
		fmt.Fprintf(env.Out, "Pushed ref %s@%s with digest: %s\n", repository, m.Descriptor.Digest, m.Descriptor.Digest)
	}
	digest, err := c.PutManifest(ctx, name, raw, env.Auth(ctx, name))
	if err != nil {
		return err
	}
	fmt.Fprintln(env.Out, digest)
	if purge {
		return s.remove(name)
	}
	return nil
}

// auths returns the credentials for repositories' registries.
func auths(ctx context.Context, env *command.Env, repositories ...string) map[string]registry.AuthConfig {
	all := map[string]registry.AuthConfig{}
	for _, r := range repositories {
		domain, _, _ := strings.Cut(r, "/")
		if a, err := env.Credentials().Lookup(ctx, r); err == nil && a != (registry.AuthConfig{}) {
			all[credentials.Domain(domain)] = a
		}
	}
	return all
}

func newRemove(env *command.Env) *cobra.Command {
	return &cobra.Command{
		Use:   "rm MANIFEST_LIST [MANIFEST_LIST...]",
		Short: "Delete one or more manifest lists from local storage",
		Args:  command.AtLeast(1),
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := lists(env)
			if err != nil {
				return err
			}
			return env.Each(args, func(arg string) error { return s.remove(command.FullReference(arg)) })
		},
	}
}

func newDelete(env *command.Env) *cobra.Command {
	return &cobra.Command{
		Use:   "delete NAME:TAG|NAME@DIGEST",
		Short: "Delete a tag, or a manifest with all its tags, from its registry",
		Args:  command.Exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := env.Client()
			if err != nil {
				return err
			}
			return c.DeleteManifest(cmd.Context(), args[0], env.Auth(cmd.Context(), args[0]))
		},
	}
}

func newInspect(env *command.Env) *cobra.Command {
	var verbose bool
	cmd := &cobra.Command{
		Use:   "inspect [OPTIONS] [MANIFEST_LIST] MANIFEST",
		Short: "Display an image manifest, or manifest list",
		Long:  "Display an image manifest, or manifest list: a local one, if there is one of the name,\nand otherwise as its registry has it.",
		Args:  command.AtLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 2 {
				return errdefs.New(errdefs.Invalid, "inspect takes a manifest, or a list and one of its manifests")
			}
			return inspect(cmd.Context(), env, args, verbose)
		},
	}
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "Output additional info including layers and platform")
	return cmd
}

// verbose is what Docker shows of a manifest besides itself.
type verbose struct {
	Ref         string
	Descriptor  ocispec.Descriptor
	Raw         []byte          `json:",omitempty"`
	Schema      json.RawMessage `json:"SchemaV2Manifest,omitempty"`
	OCIManifest json.RawMessage `json:",omitempty"`
}

func inspect(ctx context.Context, env *command.Env, args []string, more bool) error {
	s, err := lists(env)
	if err != nil {
		return err
	}
	name := command.FullReference(args[0])
	l, err := s.get(name)
	local := err == nil
	switch {
	case err != nil && (len(args) == 2 || !errdefs.Is(err, errdefs.NotFound)):
		return err
	case local && len(args) == 2:
		name = command.FullReference(args[1])
		if !slices.ContainsFunc(l.Members, func(m member) bool { return m.Ref == name }) {
			return errdefs.New(errdefs.NotFound, "manifest for image %s does not exist in %s", name, l.Name)
		}
	case local && !more:
		ix := ocispec.Index{MediaType: dockerList}
		ix.SchemaVersion = 2
		for _, m := range l.Members {
			ix.Manifests = append(ix.Manifests, m.Descriptor)
		}
		return show(env, ix)
	case local:
		all := []verbose{}
		for _, m := range l.Members {
			v, err := detail(ctx, env, m.Repository+"@"+string(m.Descriptor.Digest), &m.Descriptor)
			if err != nil {
				return err
			}
			v.Ref = m.Ref
			all = append(all, v)
		}
		return show(env, all)
	}
	if more {
		return inspectVerbose(ctx, env, name)
	}
	raw, err := fetch(ctx, env, name)
	if err != nil {
		return err
	}
	return show(env, raw)
}

func fetch(ctx context.Context, env *command.Env, name string) (json.RawMessage, error) {
	c, err := env.Client()
	if err != nil {
		return nil, err
	}
	return c.RemoteManifest(ctx, name, env.Auth(ctx, name))
}

func inspectVerbose(ctx context.Context, env *command.Env, name string) error {
	raw, err := fetch(ctx, env, name)
	if err != nil {
		return err
	}
	var ix ocispec.Index
	if json.Unmarshal(raw, &ix) != nil || len(ix.Manifests) == 0 {
		v, err := detail(ctx, env, name, nil)
		if err != nil {
			return err
		}
		return show(env, v)
	}
	repository, _, _ := command.SplitReference(name)
	all := []verbose{}
	for _, d := range ix.Manifests {
		v, err := detail(ctx, env, repository+"@"+string(d.Digest), &d)
		if err != nil {
			return err
		}
		all = append(all, v)
	}
	return show(env, all)
}

// detail shows one manifest with all that is known of it.
func detail(ctx context.Context, env *command.Env, name string, d *ocispec.Descriptor) (verbose, error) {
	raw, err := fetch(ctx, env, name)
	if err != nil {
		return verbose{}, err
	}
	v := verbose{Ref: name, Raw: raw}
	if d == nil {
		c, err := env.Client()
		if err != nil {
			return v, err
		}
		m, err := look(ctx, env, c, name)
		if err != nil {
			return v, err
		}
		d = &m.Descriptor
	}
	v.Descriptor = *d
	if d.MediaType == dockerManifest {
		v.Schema = raw
	} else {
		v.OCIManifest = raw
	}
	return v, nil
}

func show(env *command.Env, v any) error {
	raw, ok := v.(json.RawMessage)
	if !ok {
		var err error
		if raw, err = json.Marshal(v); err != nil {
			return err
		}
	}
	var text bytes.Buffer
	if err := json.Indent(&text, raw, "", "\t"); err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	fmt.Fprintln(env.Out, strings.TrimSpace(text.String()))
	return nil
}
