// Package command holds what every command of lade is given and gives back: the
// streams and the engine to work with, the exit status, and the help that goes
// with an error.
//
// A command is a cobra.Command made by a function that takes an Env: flags, one
// call to the engine, output to the injected writers. It never ends the
// program and never prints an error; it returns one.
package command

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"

	"github.com/moby/moby/api/pkg/authconfig"
	"github.com/moby/moby/api/types/registry"

	"lade/api"
	"lade/client"
	"lade/internal/cli/contexts"
	"lade/internal/cli/credentials"
	"lade/internal/cli/launch"
	"lade/internal/errdefs"
)

// Env is what a command works with.
type Env struct {
	In       io.Reader
	Out, Err io.Writer
	Host     string // where the engine listens; empty: what the context says
	Context  string // the name of the context; empty: what the environment says, or who was chosen
	Config   string // the directory of contexts and of docker's config.json; empty: the person's

	client *client.Client
	leave  func()
}

// Client returns the client of the engine, which is started with the first call
// if it does not run.
func (e *Env) Client() (*client.Client, error) {
	if e.client == nil {
		l, err := e.launcher()
		if err != nil {
			return nil, err
		}
		dial := l.DialOrStart
		if s, err := e.Contexts(); err == nil && e.ContextName(s) != contexts.Default {
			dial = l.DialOther
		}
		e.client = client.NewWithDialer(dial)
	}
	return e.client, nil
}

// IdleClient returns a client that starts no engine: for completion, and for
// whoever only wants to know whether one runs.
func (e *Env) IdleClient() (*client.Client, error) {
	l, err := e.launcher()
	if err != nil {
		return nil, err
	}
	return client.NewWithDialer(func(ctx context.Context) (net.Conn, error) { return l.Dial(ctx) }), nil
}

// ReplaceEngine has the laded beside this program take over from the one that
// runs.
func (e *Env) ReplaceEngine(ctx context.Context) error {
	l, err := e.launcher()
	if err != nil {
		return err
	}
	return l.Replace(ctx)
}

func (e *Env) launcher() (*launch.Launcher, error) {
	host, err := e.host()
	if err != nil {
		return nil, err
	}
	return launch.New(host)
}

// host returns where the engine listens.
func (e *Env) host() (string, error) {
	switch {
	case e.Host != "" && e.Context != "":
		return "", errdefs.New(errdefs.Invalid, "conflicting options: cannot specify both --host and --context")
	case e.Host != "":
		return e.Host, nil
	case e.Context == "" && os.Getenv(api.EnvHost) != "":
		return client.DefaultHost(), nil
	}
	s, err := e.Contexts()
	if err != nil {
		if e.Context == "" && os.Getenv(api.EnvContext) == "" {
			return client.DefaultHost(), nil // without a home there is nothing to choose from
		}
		return "", err
	}
	c, err := s.Get(e.ContextName(s))
	return c.Host, err
}

// Contexts returns the engines that the person works with.
func (e *Env) Contexts() (*contexts.Store, error) {
	dir := e.Config
	if dir == "" {
		var err error
		if dir, err = contexts.Dir(os.Getenv); err != nil {
			return nil, err
		}
	}
	return contexts.New(dir), nil
}

// ContextName returns the name of the context that commands work with: a host
// that is named outright is in none, which Docker calls default.
func (e *Env) ContextName(s *contexts.Store) string {
	switch {
	case e.Context != "":
		return e.Context
	case e.Host != "" || os.Getenv(api.EnvHost) != "":
		return contexts.Default
	case os.Getenv(api.EnvContext) != "":
		return os.Getenv(api.EnvContext)
	}
	return s.Current()
}

// Credentials returns what the person has for registries.
func (e *Env) Credentials() *credentials.Store {
	return credentials.New(func(name string) string {
		if name == "DOCKER_CONFIG" && e.Config != "" {
			return e.Config
		}
		return os.Getenv(name)
	})
}

// Auth returns what to send along for an image's registry: its credentials, as
// the engine's API wants them, or "". What cannot be read is told and passed
// over: most images need none.
func (e *Env) Auth(ctx context.Context, ref string) string {
	repository, _, _ := SplitReference(FullReference(ref))
	found, err := e.Credentials().Lookup(ctx, repository)
	if err != nil {
		fmt.Fprintf(e.Err, "WARNING: %s\n", errdefs.Message(err))
	}
	if found == (registry.AuthConfig{}) {
		return ""
	}
	text, err := authconfig.Encode(found)
	if err != nil {
		return ""
	}
	return text
}

// Leave ends lade at once, as the shell expects of a program that was
// interrupted. Whoever holds the terminal gives it back first.
func (e *Env) Leave() {
	if e.leave != nil {
		e.leave()
	}
}

// OnLeave sets what Leave does.
func (e *Env) OnLeave(f func()) { e.leave = f }
