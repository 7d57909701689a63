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

	"lade/client"
	"lade/internal/cli/credentials"
	"lade/internal/cli/launch"
	"lade/internal/errdefs"
)

// Env is what a command works with.
type Env struct {
	In       io.Reader
	Out, Err io.Writer
	Host     string // where the engine listens; empty: client.DefaultHost

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
		e.client = client.NewWithDialer(l.DialOrStart)
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
	host := e.Host
	if host == "" {
		host = client.DefaultHost()
	}
	return launch.New(host)
}

// Credentials returns what the person has for registries.
func (e *Env) Credentials() *credentials.Store { return credentials.New(os.Getenv) }

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
