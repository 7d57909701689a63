// Package registry holds the commands about registries: login and logout.
package registry

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/moby/moby/api/types/registry"
	"github.com/spf13/cobra"

	"lade/internal/cli/command"
	"lade/internal/cli/credentials"
	"lade/internal/cli/terminal"
	"lade/internal/errdefs"
)

type loginOptions struct {
	user, password string
	fromStdin      bool
	server         string
}

// NewLogin returns the command login.
func NewLogin(env *command.Env) *cobra.Command {
	var o loginOptions
	cmd := &cobra.Command{
		Use:   "login [OPTIONS] [SERVER]",
		Short: "Authenticate to a registry",
		Long:  "Authenticate to a registry.\nDefaults to Docker Hub if no server is specified.",
		Args:  command.AtMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				o.server = args[0]
			}
			return o.run(cmd.Context(), env, cmd.Flags().Changed("password"))
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().StringVarP(&o.user, "username", "u", "", "Username")
	cmd.Flags().StringVarP(&o.password, "password", "p", "", "Password or Personal Access Token (PAT)")
	cmd.Flags().BoolVar(&o.fromStdin, "password-stdin", false, "Take the Password or Personal Access Token (PAT) from stdin")
	return cmd
}

func (o *loginOptions) run(ctx context.Context, env *command.Env, given bool) error {
	switch {
	case given && o.fromStdin:
		return errdefs.With(errdefs.Invalid, errors.New("conflicting options: cannot specify both --password and --password-stdin"))
	case given:
		fmt.Fprintln(env.Err, "WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
	case o.fromStdin && o.user == "":
		return errdefs.With(errdefs.Invalid, errors.New("the --password-stdin option requires --username to be set"))
	}
	if given && o.password == "" {
		return errdefs.With(errdefs.Invalid, errors.New("password is empty"))
	}
	if o.fromStdin {
		const most = 1 << 20
		raw, err := io.ReadAll(io.LimitReader(env.In, most))
		if err != nil {
			return fmt.Errorf("read the password: %w", err)
		}
		o.password = strings.TrimSuffix(strings.TrimSuffix(string(raw), "\n"), "\r")
		if o.password == "" {
			return errdefs.With(errdefs.Invalid, errors.New("password is empty"))
		}
	}
	domain := credentials.Domain(o.server)
	a := registry.AuthConfig{Username: o.user, Password: o.password, ServerAddress: domain}
	if domain == "docker.io" {
		a.ServerAddress = credentials.Hub
	}
	if a.Username == "" && a.Password == "" {
		if done, err := again(ctx, env, domain); done || err != nil {
			return err
		}
	}
	if err := ask(env, &a); err != nil {
		return err
	}
	return o.login(ctx, env, a)
}

// again tries the credentials that are known.
func again(ctx context.Context, env *command.Env, domain string) (bool, error) {
	known, err := env.Credentials().Lookup(ctx, domain)
	if err != nil || known == (registry.AuthConfig{}) {
		return false, nil //nolint:nilerr // they can be given anew
	}
	fmt.Fprintln(env.Out, "Authenticating with existing credentials...")
	c, err := env.Client()
	if err != nil {
		return false, err
	}
	resp, err := c.Login(ctx, known)
	switch {
	case errdefs.Is(err, errdefs.Unauthorized):
		fmt.Fprintf(env.Err, "Login did not succeed, error: %s\n", err)
		return false, nil
	case err != nil:
		return false, err
	}
	fmt.Fprintln(env.Out, resp.Status)
	return true, nil
}

// ask has the person type what is missing.
func ask(env *command.Env, a *registry.AuthConfig) error {
	if a.Username != "" && a.Password != "" {
		return nil
	}
	if !terminal.Is(env.In) {
		return errdefs.Hint(errdefs.With(errdefs.Invalid, errors.New("cannot perform an interactive login from a non-TTY device")), "use --username and --password-stdin")
	}
	if a.Username == "" {
		fmt.Fprint(env.Out, "Username: ")
		line, err := bufio.NewReader(env.In).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read the user name: %w", err)
		}
		if a.Username = strings.TrimSpace(line); a.Username == "" {
			return errdefs.With(errdefs.Invalid, errors.New("username is required"))
		}
	}
	fmt.Fprint(env.Out, "Password: ")
	password, err := terminal.Password(env.In, env.Leave)
	fmt.Fprintln(env.Out)
	if err != nil {
		return err
	}
	if a.Password = password; password == "" {
		return errdefs.With(errdefs.Invalid, errors.New("password is required"))
	}
	return nil
}

func (o *loginOptions) login(ctx context.Context, env *command.Env, a registry.AuthConfig) error {
	c, err := env.Client()
	if err != nil {
		return err
	}
	resp, err := c.Login(ctx, a)
	if err != nil {
		return err
	}
	if resp.IdentityToken != "" {
		// The token can be revoked, and is for registries only.
		a.Password, a.IdentityToken = "", resp.IdentityToken
	}
	if _, err := env.Credentials().Save(ctx, a); err != nil {
		return fmt.Errorf("keep the credentials: %w", err)
	}
	fmt.Fprintln(env.Out, resp.Status)
	return nil
}

// NewLogout returns the command logout.
func NewLogout(env *command.Env) *cobra.Command {
	return &cobra.Command{
		Use:               "logout [SERVER]",
		Short:             "Log out from a registry",
		Long:              "Log out from a registry.\nIf no server is specified, the default is Docker Hub.",
		Args:              command.AtMost(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			server := ""
			if len(args) > 0 {
				server = args[0]
			}
			return logout(cmd.Context(), env, server)
		},
	}
}

func logout(ctx context.Context, env *command.Env, server string) error {
	shown := credentials.Domain(server)
	if shown == "docker.io" {
		shown = credentials.Hub
	}
	erased, left, err := env.Credentials().Erase(ctx, server)
	if err != nil {
		return err
	}
	if erased {
		fmt.Fprintf(env.Out, "Removing login credentials for %s\n", shown)
	} else {
		fmt.Fprintf(env.Out, "Not logged in to %s\n", shown)
	}
	if left != "" {
		fmt.Fprintf(env.Err, "WARNING: %s still has credentials for %s: podman logout %s removes them\n", left, shown, credentials.Domain(server))
	}
	return nil
}
