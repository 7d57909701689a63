// Package system holds the commands about lade and its engine: version, info,
// inspect and explain.
package system

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"

	"github.com/moby/moby/api/types/system"
	"github.com/spf13/cobra"

	"lade/client"
	"lade/internal/cli/command"
	"lade/internal/cli/format"
	"lade/internal/version"
)

// versionInfo is what version shows.
type versionInfo struct {
	Client clientVersion
	Server *system.VersionResponse
}

type clientVersion struct {
	Version    string
	APIVersion string `json:"ApiVersion"`
	GoVersion  string
	GitCommit  string
	Os, Arch   string
}

// NewVersion returns the command version.
func NewVersion(env *command.Env) *cobra.Command {
	var text string
	var clientOnly bool
	cmd := &cobra.Command{
		Use:               "version [OPTIONS]",
		Short:             "Show the versions of lade and its engine",
		Args:              command.Exactly(0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return showVersion(cmd.Context(), env, text, clientOnly)
		},
	}
	cmd.Flags().StringVarP(&text, "format", "f", "", "Format output using a Go template, or 'json'")
	cmd.Flags().BoolVar(&clientOnly, "client", false, "Show lade's own version, and ask no engine")
	return cmd
}

func showVersion(ctx context.Context, env *command.Env, text string, clientOnly bool) error {
	v := versionInfo{Client: clientVersion{
		Version: version.Version, APIVersion: client.APIVersion, GoVersion: runtime.Version(),
		GitCommit: version.Revision(), Os: runtime.GOOS, Arch: runtime.GOARCH,
	}}
	var asked error
	if !clientOnly {
		c, err := env.Client()
		if err != nil {
			return err
		}
		server, err := c.Version(ctx)
		if asked = err; err == nil {
			v.Server = &server
		}
	}
	if text != "" {
		return errors.Join(format.Value(env.Out, text, v), asked)
	}
	writeVersion(env.Out, v)
	return asked
}

// writeVersion writes by hand what a template would: version --client is the
// measure of how fast lade starts.
func writeVersion(w io.Writer, v versionInfo) {
	var b strings.Builder
	line := func(indent, name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s%-*s%s\n", indent, 20-len(indent), name+":", value)
		}
	}
	b.WriteString("Client:\n")
	line(" ", "Version", v.Client.Version)
	line(" ", "API version", v.Client.APIVersion)
	line(" ", "Go version", v.Client.GoVersion)
	line(" ", "Git commit", v.Client.GitCommit)
	line(" ", "OS/Arch", v.Client.Os+"/"+v.Client.Arch)
	if s := v.Server; s != nil {
		name := ""
		if s.Platform.Name != "" {
			name = " " + s.Platform.Name
		}
		b.WriteString("\nServer:" + name + "\n Engine:\n")
		line("  ", "Version", s.Version)
		line("  ", "API version", fmt.Sprintf("%s (minimum version %s)", s.APIVersion, s.MinAPIVersion))
		line("  ", "Go version", s.GoVersion)
		line("  ", "Git commit", s.GitCommit)
		line("  ", "OS/Arch", s.Os+"/"+s.Arch)
		line("  ", "Kernel", s.KernelVersion)
		for _, c := range s.Components {
			if c.Name == "Engine" {
				continue
			}
			fmt.Fprintf(&b, " %s:\n", c.Name)
			line("  ", "Version", c.Version)
		}
	}
	_, _ = io.WriteString(w, b.String())
}
